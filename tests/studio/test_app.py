"""Pages, assets and how mistakes are answered."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tests.studio.conftest import client_of

from lorasmith import __version__
from lorasmith.studio.pages import PAGES


def test_the_session_says_what_there_is(client: TestClient, workspace: Path) -> None:
    session = client.get("/api/session").json()
    assert session["version"] == __version__
    assert session["workspace"] == str(workspace)
    assert session["roots"] == [{"name": "workspace", "path": str(workspace)}]
    assert session["devices"][-1]["device"] == "cpu"
    assert session["writable"]


def test_disk_and_memory_are_of_this_computer(client: TestClient) -> None:
    disk, memory = client.get("/api/disk").json(), client.get("/api/memory").json()
    assert 0 < disk["free"] <= disk["total"]
    assert 0 < memory["process"] < memory["total"]


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_the_bundles(workspace: Path, tmp_path: Path, page: str) -> None:
    static = tmp_path / "static"
    (static / "assets").mkdir(parents=True)
    client = client_of(workspace, static=static)
    assert "/openapi.json" in client.get(page).text
    (static / "index.html").write_text("<title>the bundle</title>")
    (static / "assets" / "app.js").write_text("1")
    assert client.get(page).text == "<title>the bundle</title>"
    script = client.get("/assets/app.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert client.get("/assets/none.js").status_code == 404
    assert client.get("/api/none").json() == {"detail": "there is nothing at this address"}


def test_every_answer_of_the_api_has_a_type(client: TestClient) -> None:
    """The pages' types are made from them."""
    schema = client.get("/openapi.json").json()
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            (success,) = [r for status, r in operation["responses"].items() if status[0] == "2"]
            contents = success.get("content", {})
            assert all(content.get("schema") for content in contents.values()), (method, path)
            assert operation["responses"]["422"]["content"]["application/json"]["schema"] == {
                "$ref": "#/components/schemas/Problems"
            }, (method, path)
