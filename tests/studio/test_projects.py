"""Projects, the chooser, images and uploads, as they are meant to be used."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from tests.studio.test_attacks import DATASET, archive, png, put

from lorasmith.core.files import file_version


def test_projects_are_listed_and_made(client: TestClient, workspace: Path) -> None:
    (workspace / "zorp/loras").mkdir()
    (workspace / "zorp/loras/a.safetensors").touch()
    (workspace / "neither").mkdir()
    (one,) = client.get("/api/projects").json()
    first = str(workspace / "zorp/dataset/0.png")
    numbers = {"images": 3, "runs": 0, "loras": 1, "showcase": None}
    assert one == {"name": "zorp", "path": str(workspace / "zorp"), "cover": first, **numbers}
    made = client.post("/api/projects", json={"name": "Anne é"}).json()
    assert (workspace / "Anne é" / "dataset").is_dir()
    assert [each["name"] for each in client.get("/api/projects").json()] == ["Anne é", "zorp"]
    detail = client.get("/api/project", params={"path": made["path"]}).json()
    assert detail["dataset"] == str(workspace / "Anne é" / "dataset")
    assert client.post("/api/projects", json={"name": "zorp"}).status_code == 422


def test_images_in_numbered_folders_count(client: TestClient, workspace: Path) -> None:
    folder = workspace / "kohya" / "10_zorp"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(png())
    assert client.get("/api/projects").json()[0]["images"] == 1


def test_a_project_has_as_many_images_as_its_dataset_page_shows(
    client: TestClient, workspace: Path
) -> None:
    dataset = workspace / "zorp" / "dataset"
    for name in ("0-masklabel.png", "1_mask.png", "masks/2.png", "set/10_zorp/a.png", "good/b.png"):
        (dataset / name).parent.mkdir(parents=True, exist_ok=True)
        (dataset / name).write_bytes(png())
    # In colours and with a caption of its own it is a picture, whatever it is called.
    Image.new("RGB", (8, 8), "red").save(dataset / "0_alpha.png")
    (dataset / "0_alpha.txt").write_text("zorp, alpha", "utf-8")
    shown = client.get("/api/dataset/images", params={"path": str(dataset)}).json()
    (project,) = client.get("/api/projects").json()
    assert project["images"] == len(shown["names"]) == 6


def test_the_chooser_walks_through_folders(client: TestClient, workspace: Path) -> None:
    top = client.get("/api/folders").json()
    assert (top["path"], top["parent"]) == (str(workspace), None)
    folder = client.get("/api/folders", params={"path": "zorp"}).json()
    assert folder["parent"] == str(workspace)
    assert [(e["name"], e["kind"], e["images"]) for e in folder["entries"]] == [
        ("dataset", "folder", 3)
    ]
    kinds = [e["kind"] for e in client.get(f"/api/folders?path={DATASET}").json()["entries"]]
    assert sorted(kinds) == ["image"] * 3 + ["text"] * 3
    assert client.get("/api/folders?path=none").status_code == 422


@pytest.mark.parametrize(("size", "shape"), [("", (64, 48)), ("&size=32", (32, 24))])
def test_an_image_is_sent_whole_or_small(client: TestClient, size: str, shape: tuple) -> None:
    answer = client.get(f"/api/image?path={DATASET}/0.png{size}")
    with Image.open(io.BytesIO(answer.content)) as image:
        assert image.size == shape
        assert image.getpixel((5, 5))[0] == pytest.approx(200, abs=3)
    assert answer.headers["cache-control"] == "no-cache"


def test_an_image_is_kept_for_ever_only_as_the_version_that_it_is(
    client: TestClient, workspace: Path
) -> None:
    file = workspace / DATASET / "0.png"

    def kept(version: str) -> bool:
        answer = client.get(f"/api/image?path={DATASET}/0.png&size=16&v={version}")
        return "immutable" in answer.headers["cache-control"]

    first = file_version(file.stat().st_size, file.stat().st_mtime_ns)
    assert kept(first)
    assert not kept("abc")
    assert not kept("")
    Image.new("RGB", (64, 48), "blue").save(file)
    assert not kept(first)
    assert kept(file_version(file.stat().st_size, file.stat().st_mtime_ns))


def test_files_and_archives_are_taken(client: TestClient, workspace: Path) -> None:
    assert put(client, "a.png", png(), "new/dataset").status_code == 200
    assert (workspace / "new/dataset/a.png").read_bytes() == png()
    assert put(client, "a.txt", "zorp, é".encode(), "new/dataset").status_code == 200
    answer = put(client, "more.zip", archive({"b.png": png(), "b.txt": b"zorp"}), "new/dataset")
    assert [Path(file).name for file in answer.json()["files"]] == ["b.png", "b.txt"]
    left = sorted(path.name for path in (workspace / "new/dataset").iterdir())
    assert left == ["a.png", "a.txt", "b.png", "b.txt"]


@pytest.mark.parametrize(
    ("inside", "there"),
    [
        ("set/10_zorp/a.png", "10_zorp/a.png"),
        ("set/more/a.png", "a.png"),
        ("10_zorp/a.png", "10_zorp/a.png"),
        ("img/10_zorp/a.png", "img/10_zorp/a.png"),
    ],
)
def test_the_folder_around_a_zips_files_is_left_out(
    client: TestClient, workspace: Path, inside: str, there: str
) -> None:
    put(client, "set.zip", archive({inside: png()}), "new/dataset")
    assert (workspace / "new" / "dataset" / there).is_file()


def test_a_project_says_how_far_it_is(client: TestClient, workspace: Path) -> None:
    status = client.get("/api/project/status", params={"path": str(workspace / "zorp")}).json()
    found = {step["name"]: (step["state"], step["text"]) for step in status["steps"]}
    assert found["images"] == ("done", "3")
    assert found["captions"] == ("done", "all")
    assert (status["next"], status["dataset"]) == ("audit", str(workspace / DATASET))
    outside = client.get("/api/project/status", params={"path": str(workspace.parent)})
    assert outside.status_code == 403
    assert client.get("/api/project/status", params={"path": "nowhere"}).status_code == 422
