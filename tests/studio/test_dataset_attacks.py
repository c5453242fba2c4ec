"""What a hostile dataset, or page, tries against the pages about datasets."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from tests.studio.conftest import client_of
from tests.studio.dataset_page import DATASET, TAGS, Page, texts


@pytest.mark.parametrize(
    "path", ["..", "/etc", "zorp/../..", "zorp/out", "%2e%2e", "\\\\server\\share", "", "zorp\0"]
)
@pytest.mark.parametrize(
    ("method", "address"),
    [
        ("GET", "images"),
        ("GET", "caption"),
        ("POST", "edit"),
        ("POST", "undo"),
        ("POST", "sort"),
        ("PUT", "mask"),
        ("POST", "audit"),
    ],
)
def test_no_dataset_lies_outside(
    client: TestClient, workspace: Path, path: str, method: str, address: str
) -> None:
    (workspace / "zorp/out").symlink_to(workspace.parent, target_is_directory=True)
    body = {"json": {"operations": ["add=x"], "decisions": [], "name": "a", "png": ""}}
    answer = client.request(
        method,
        f"/api/dataset/{address}",
        params={"path": path, "name": "0.png"},
        **(body if method != "GET" else {}),
    )
    assert answer.status_code in (403, 422)
    assert not (workspace.parent / ".lorasmith").exists()


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "0.txt", "..", "%2e%2e/a.png"])
def test_only_pictures_of_the_dataset_have_a_name(page: Page, folder: Path, name: str) -> None:
    for address in ("caption", "picture", "scores/image"):
        page.get(address, 422, name=name)
    page.put("caption", 422, name=name, former="", text="x")
    page.put("mask", 422, name=name, png="")
    sorted_ = page.post("sort", decisions=[{"name": name, "delete": True}], apply=True)
    assert [one["where"] for one in sorted_["skipped"]] == [name]
    assert texts(folder) == list(TAGS)


@pytest.mark.parametrize("name", ["0.png", "0.txt", "0-masklabel.png", "0.crop.json"])
def test_what_is_a_link_out_of_the_folders_is_left_out(
    page: Page, workspace: Path, folder: Path, name: str
) -> None:
    (folder / name).unlink(missing_ok=True)
    outside = workspace.parent / ("secret.png" if name.endswith("png") else "secret.txt")
    (folder / name).symlink_to(outside)
    listing = page.get("images")
    assert listing["names"] == ["1.png", "2.png"]
    assert [one["where"] for one in listing["problems"]] == ["0.png"]
    page.get("caption", 422, name="0.png")
    page.post("edit", operations=["add=x"], create=True, apply=True)
    assert outside.exists()
    assert (workspace.parent / "secret.txt").read_text() == "secret"
    assert page.post("filter", where="secret")["images"] == []


def test_a_table_that_is_a_link_out_opens_no_dataset(
    page: Page, workspace: Path, folder: Path
) -> None:
    (folder / "metadata.jsonl").symlink_to(workspace.parent / "secret.txt")
    assert "symbolic link" in page.get("images", 422)["problems"][0]["what"]


def test_a_dataset_whose_journal_lies_outside_is_not_opened(workspace: Path) -> None:
    inner = workspace / "10_zorp"
    inner.mkdir()
    Image.new("RGB", (64, 64)).save(inner / "a.png")
    page = Page(client_of(inner), ".")
    assert "may not be opened" in page.get("images", 422)["problems"][0]["what"]
    assert Page(client_of(workspace), "10_zorp").get("images")["names"] == ["a.png"]


def test_lists_of_tags_lie_inside(page: Page, workspace: Path) -> None:
    for option in ("words", "vocabulary"):
        page.get("words", 403, prefix="s", **{option: "../secret.txt"})


def test_hidden_folders_are_no_datasets(client: TestClient, page: Page) -> None:
    page.post("edit", operations=["add=x"], apply=True)
    hidden = Page(client, f"{DATASET}/.lorasmith/trash")
    hidden.get("images", 403)
    hidden.post("edit", 403, operations=["add=x"], apply=True)


def test_markup_in_captions_is_text(page: Page, folder: Path) -> None:
    script = "<script>alert(1)</script>"
    page.put("caption", name="0.png", former=TAGS[0], text=script)
    assert page.get("images")["tag_names"].count(script) == 1
    assert (folder / "0.txt").read_text() == f"{script}\n"
    answer = page.client.get("/api/dataset/images", params={"path": DATASET})
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "png", ["x", "iVBORw0KGgo=", "JSFQUy1BZG9iZQ==", "PHN2Zz48L3N2Zz4="], ids=str
)
def test_masks_are_pngs_of_the_pictures_shape(page: Page, folder: Path, png: str) -> None:
    answer = page.put("mask", 422, name="0.png", png=png, apply=True)
    assert "mask" in answer["problems"][0]["what"]
    assert not (folder / "0-masklabel.png").exists()
