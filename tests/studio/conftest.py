"""A studio on a workspace of its own, asked without a socket."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from tests.studio.dataset_page import DATASET, TAGS, Page

from lorasmith.studio.app import create_app

ADDRESS = "http://127.0.0.1:7421"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """One project with three pictures; beside it, outside, a secret."""
    images = tmp_path / "workspace" / "zorp" / "dataset"
    images.mkdir(parents=True)
    for number in range(3):
        Image.new("RGB", (64, 48), (200, 40 * number, 0)).save(images / f"{number}.png")
        (images / f"{number}.txt").write_text("zorp, standing", encoding="utf-8")
    (tmp_path / "secret.txt").write_text("secret", encoding="utf-8")
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    return tmp_path / "workspace"


@pytest.fixture
def client(workspace: Path) -> TestClient:
    return client_of(workspace)


@pytest.fixture
def folder(workspace: Path) -> Path:
    """The project's dataset, with captions that differ."""
    for number, text in enumerate(TAGS):
        (workspace / DATASET / f"{number}.txt").write_text(f"{text}\n", encoding="utf-8")
    return workspace / DATASET


@pytest.fixture
def page(client: TestClient, folder: Path) -> Page:
    return Page(client)


def client_of(workspace: Path, address: str = ADDRESS, **options) -> TestClient:
    return TestClient(create_app(workspace, **options), base_url=address, follow_redirects=False)
