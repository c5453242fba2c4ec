"""Runs over the API: as the library tells them, and none outside of the workspace."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.made_up_runs import metrics_line, write_run

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient
from PIL import Image

from lorasmith.studio.app import create_app
from lorasmith.training.runs.folder import RunFolder


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    workspace = tmp_path / "workspace"
    write_run(workspace / "cats" / "runs" / "cat")
    write_run(workspace / "dogs" / "runs" / "dog", **{"adapter.rank": "8"})
    write_run(tmp_path / "outside")
    os.symlink(tmp_path / "outside", workspace / "cats" / "runs" / "link")
    return workspace


@pytest.fixture
def client(workspace: Path) -> Iterator[TestClient]:
    with TestClient(create_app(workspace), base_url="http://127.0.0.1") as client:
        yield client


def test_lists_of_runs(client: TestClient) -> None:
    assert {one["name"] for one in client.get("/api/runs").json()} == {"cat", "dog"}
    (cat,) = client.get("/api/runs", params={"project": "cats"}).json()
    assert (cat["name"], cat["state"], cat["step"]) == ("cat", "stopped", 20)


def test_one_run(client: TestClient, workspace: Path) -> None:
    path = str(workspace / "cats" / "runs" / "cat")
    detail = client.get("/api/run", params={"path": path}).json()
    assert detail["settings"]["optimizer.lr"] == 3e-4
    assert [one["step"] for one in detail["loras"]] == [10, 20]
    columns = client.get("/api/run/metrics", params={"path": path, "from": 18}).json()["columns"]
    assert columns["step"] == [19, 20]
    samples = client.get("/api/run/samples", params={"path": path}).json()
    assert [one["prompt"] for one in samples[:2]] == ["a cat", "a <b>dog</b>"]
    events = client.get("/api/run/events", params={"path": path, "from": 2}).json()
    assert events["events"][0]["event"] == "RunStarted"
    assert client.get("/api/run/dataset", params={"path": path}).json()["steps"]
    Image.new("RGB", (8, 8)).save(samples[0]["path"])
    first = client.get("/api/run/samples", params={"path": path}).json()[0]
    image = client.get("/api/image", params={"path": first["path"], "v": first["version"]})
    assert "immutable" in image.headers["cache-control"]
    other = {"path": path, "other": "dogs/runs/dog"}
    differences = client.get("/api/run/compare", params=other).json()
    assert differences == [{"path": "adapter.rank", "value": 16, "other": 8}]


def test_requests_to_a_run(client: TestClient, workspace: Path) -> None:
    path = workspace / "cats" / "runs" / "cat"
    ask = {"path": str(path), "requests": ["lr=0.5"]}
    refused = client.post("/api/run/control", json=ask)
    assert refused.status_code == 422
    assert "it was stopped" in refused.json()["problems"][0]["what"]
    with RunFolder(path) as folder:
        assert client.post("/api/run/control", json=ask).json()["waiting"] == 1
        assert [one.read_text() for one in folder.control.iterdir()] == ["lr=0.5\n"]
        wrong = client.post("/api/run/control", json={**ask, "requests": ["dance"]})
        assert wrong.status_code == 422


OUTSIDE = ["../outside", "/etc", "cats/runs/link", "cats/../../outside", "//host/share", "a\0b"]


@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.parametrize(
    "address", ["", "/metrics", "/samples", "/events", "/dataset", "/compare?other=dogs/runs/dog"]
)
def test_nothing_outside_is_read(client: TestClient, path: str, address: str) -> None:
    separator = "&" if "?" in address else "?"
    query = TestClient(client.app).build_request("GET", "/", params={"path": path}).url.query
    assert client.get(f"/api/run{address}{separator}{query.decode()}").status_code == 403


def test_nothing_outside_is_asked_or_compared(client: TestClient, workspace: Path) -> None:
    outside = workspace.parent / "outside"
    with RunFolder(outside) as folder:
        for path in (str(outside), "cats/runs/link"):
            answer = client.post("/api/run/control", json={"path": path, "requests": ["stop"]})
            assert answer.status_code == 403
            inside = {"path": "cats/runs/cat", "other": path}
            assert client.get("/api/run/compare", params=inside).status_code == 403
            assert client.get("/api/runs", params={"project": path}).status_code == 403
        assert not folder.control.exists()
    with RunFolder(workspace / "cats" / "runs" / "cat") as folder:
        os.symlink(outside, folder.control)
        ask = {"path": str(folder.path), "requests": ["stop"]}
        assert client.post("/api/run/control", json=ask).status_code == 403
    assert not list(outside.glob("*.txt"))


def test_damage_is_told_not_met(client: TestClient, workspace: Path) -> None:
    run = workspace / "cats" / "runs" / "cat"
    (run / "settings.toml").write_text('[save]\nname = "<script>"\nnonsense = "\\u0000"\n')
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 21, "loss": NaN, "lr": {"<b>": 1e999}}\n{"step": 22')
    params = {"path": str(run)}
    detail = client.get("/api/run", params=params)
    assert detail.status_code == 200
    assert detail.json()["problems"]
    assert client.get("/api/run/metrics", params=params).json()["last_step"] == 21
    assert client.get("/api/run", params={"path": "cats"}).status_code == 422


def test_long_curves_come_at_once_the_second_time(client: TestClient, workspace: Path) -> None:
    run = workspace / "cats" / "runs" / "cat"
    (run / "metrics.jsonl").write_text("".join(map(metrics_line, range(1, 10_001))))
    params = {"path": str(run), "points": "1000"}
    client.get("/api/run/metrics", params=params)
    began = time.perf_counter()
    body = client.get("/api/run/metrics", params=params)
    assert time.perf_counter() - began < 2
    assert len(body.json()["columns"]["step"]) <= 1001
    assert json.loads(body.text)["rows"] == 10_000


def test_a_run_is_renamed_removed_and_brought_back(client: TestClient, workspace: Path) -> None:
    path = workspace / "cats" / "runs" / "cat"
    renamed = client.post("/api/run/rename", json={"path": str(path), "name": "tom"}).json()["path"]
    assert renamed == str(path.with_name("tom"))
    kept = client.post("/api/run/remove", json={"path": renamed}).json()["kept"]
    assert [one["name"] for one in client.get("/api/runs").json()] == ["dog"]
    assert client.post("/api/run/restore", json={"path": kept}).json() == {"path": renamed}
    loras = client.get("/api/run", params={"path": renamed}).json()["loras"]
    copy = {"path": loras[0]["path"], "folder": "dogs"}
    copied = client.post("/api/lora/copy", json=copy).json()["path"]
    assert copied == str(workspace / "dogs" / loras[0]["name"])


@pytest.mark.parametrize(
    ("what", "body"),
    [
        ("run/rename", {"path": "cats/runs/link", "name": "tom"}),
        ("run/rename", {"path": "cats/runs/cat", "name": "../../tom"}),
        ("run/remove", {"path": "cats/runs/link"}),
        ("run/remove", {"path": "../outside"}),
        ("run/restore", {"path": "../outside/.lorasmith/trash/x"}),
        ("run/restore", {"path": "cats/runs/cat"}),
        ("lora/copy", {"path": "cats/runs/cat/cat-000001.safetensors", "folder": ".."}),
        ("lora/copy", {"path": "cats/runs/cat/cat-000001.safetensors", "folder": ".lorasmith"}),
        ("lora/copy", {"path": "cats/runs/cat/run.json", "folder": "dogs"}),
        ("lora/copy", {"path": "cats/runs/link/outside-000001.safetensors", "folder": "dogs"}),
    ],
)
def test_nothing_outside_is_renamed_removed_or_copied(
    client: TestClient, tmp_path: Path, what: str, body: dict[str, str]
) -> None:
    before = sorted(path for path in tmp_path.rglob("*") if ".lorasmith" not in path.parts)
    assert client.post(f"/api/{what}", json=body).status_code in (403, 422)
    after = sorted(path for path in tmp_path.rglob("*") if ".lorasmith" not in path.parts)
    assert after == before
