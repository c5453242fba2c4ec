"""Grids over the API: found, opened, voted on, taken away, and new ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient
from tests.made_up_grids import EPOCHS_BY_STRENGTHS, write_grid
from tests.made_up_runs import write_run

from lorasmith.grids.votes import VOTES
from lorasmith.jobs.grid import GridRequest
from lorasmith.jobs.grids.forms import GridPlan, grid_form, placed_axis
from lorasmith.jobs.queue.ledger import Ledger
from lorasmith.studio.api.train import EngineDep

MARKUP = "<script>alert(1)</script>\ud800"


@pytest.fixture
def run(workspace: Path) -> Path:
    """A run of two epochs, of which pick keeps the second."""
    folder = write_run(workspace / "zorp" / "runs" / "zorp")
    verdict = {
        "summary": "keep epoch 2: it is well trained",
        "keep": {"step": 20},
        "snapshots": [{"step": 10, "state": "under"}, {"step": 20, "state": "well"}],
    }
    (folder / "pick").mkdir()
    (folder / "pick" / "verdict.json").write_text(json.dumps(verdict))
    return folder


@pytest.fixture
def grid(run: Path) -> Path:
    files = {"Epoch": [f"../zorp-{number:06}.safetensors" for number in (1, 2, 3, 4)]}
    return write_grid(run / "grid", EPOCHS_BY_STRENGTHS, files=files)


def votes(client: TestClient, grid: Path, **query: Any) -> Any:
    return client.get("/api/grids/votes", params={"path": str(grid), **query}).json()


def cast(client: TestClient, grid: Path, told: Any, answer: str | None, number: int = 0) -> Any:
    pair = told["next"][number]
    body = {"path": str(grid), "by": told["by"], "seed": told["seed"], "answer": answer}
    return client.post("/api/grids/votes", json={**body, **{s: pair[s] for s in ("left", "right")}})


def test_grids_are_found_and_opened(client: TestClient, grid: Path, workspace: Path) -> None:
    write_grid(workspace / "grids" / "hats", {"Seed": ["1", "2"]}, missing=[(0,)])
    (workspace / "broken").mkdir()
    (workspace / "broken" / "grid.json").write_text("[")
    told = client.get("/api/grids").json()
    assert {each["path"] for each in told} == {str(grid), str(workspace / "grids" / "hats")}
    (own,) = client.get("/api/grids", params={"project": "zorp"}).json()
    assert (own["run_name"], own["drawn"], own["total"]) == ("zorp", 8, 8)
    opened = client.get("/api/grids/grid", params={"path": str(grid)}).json()
    assert (opened["width"], opened["height"], opened["asked"]) == (8, 8, ["Epoch"])
    assert opened["cells"][5]["place"] == [1, 1, 0]
    picture = {"path": opened["cells"][5]["path"], "v": opened["cells"][5]["version"]}
    assert "immutable" in client.get("/api/image", params=picture).headers["cache-control"]
    assert client.get("/api/grids/grid", params={"path": "broken"}).status_code == 422


def test_twelve_votes_and_pick_beside(client: TestClient, grid: Path) -> None:
    told = votes(client, grid)
    assert (told["by"], told["done"], told["total"]) == (["Epoch"], 0, 12)
    assert told["next"][0]["prompt"] == "zorp, standing", "no LoRA's name says what it is"
    assert told["next"][0]["held"][0].startswith("LoRA strength ")
    for _ in range(12):
        left, right = (told["next"][0][side]["place"][0] for side in ("left", "right"))
        told = cast(client, grid, told, "left" if left > right else "right").json()
    assert (told["done"], told["votes"], told["next"]) == (12, 12, [])
    assert [one["wins"] for one in told["standings"]] == [0, 2, 4, 6]
    assert told["leader"] == 3
    assert [one["judged"] for one in told["standings"]] == ["under", "well", "", ""]
    assert [one["picked"] for one in told["standings"]] == [False, True, False, False]
    assert told["pick"].startswith("keep epoch 2")
    assert len(votes(client, grid, seed=1)["next"]) == 8, "another round asks again"
    both = votes(client, grid, by="Epoch\nLoRA strength")
    assert (both["total"], len(both["standings"]), both["votes"]) == (28, 8, 12)


def test_a_vote_is_taken_back(client: TestClient, grid: Path) -> None:
    first = votes(client, grid)
    told = cast(client, grid, first, "equal").json()
    assert told["done"] == 1
    assert cast(client, grid, first, None).json()["next"][0] == first["next"][0]
    assert votes(client, grid)["votes"] == 0


def test_votes_on_what_is_not_there_are_refused(client: TestClient, grid: Path) -> None:
    told = votes(client, grid)
    told["next"][0]["left"]["path"] = "/etc/passwd"
    assert cast(client, grid, told, "left").status_code == 422
    told["next"][1]["left"] = told["next"][1]["right"]
    assert cast(client, grid, told, "left", 1).status_code == 422
    assert cast(client, grid, votes(client, grid), "both").status_code == 422
    assert cast(client, grid, votes(client, grid) | {"by": ["x"]}, "left").status_code == 422
    assert not (grid / VOTES).exists()
    assert client.get("/api/grids/votes", params={"path": str(grid), "by": "x"}).status_code == 422


def test_names_are_text(client: TestClient, workspace: Path) -> None:
    folder = write_grid(workspace / "odd", {MARKUP: [MARKUP, "b"]}, title=MARKUP)
    told = client.get("/api/grids/grid", params={"path": str(folder)}).json()
    assert told["title"].startswith("<script>alert(1)</script>")
    assert votes(client, folder)["total"] == 1
    assert client.get("/api/grids").status_code == 200


def test_a_grid_is_saved_and_never_shown(client: TestClient, grid: Path) -> None:
    (grid / "grid.html").write_text("<script>alert(1)</script>")
    answer = client.get("/api/grids/file", params={"path": str(grid), "kind": "page"})
    assert answer.headers["content-disposition"] == 'attachment; filename="zorp-grid.html"'
    assert "script-src" not in answer.headers["content-security-policy"].replace("'none'", "")
    missing = client.get("/api/grids/file", params={"path": str(grid), "kind": "sheet"})
    assert missing.status_code == 422


@pytest.mark.parametrize(
    "name", ["grid.json", "votes.jsonl", "cells", "grid.html", "grid-small.jpg"]
)
def test_links_lead_nowhere(client: TestClient, grid: Path, workspace: Path, name: str) -> None:
    outside = workspace.parent / "outside"
    write_grid(outside, EPOCHS_BY_STRENGTHS)
    (outside / "grid.html").write_text("secret")
    (outside / "grid-small.jpg").write_text("secret")
    place = grid / name
    if place.exists():
        place.rename(grid / "before")
    place.symlink_to(outside / name)
    kind = {"path": str(grid), "kind": "page"}
    address = "/api/grids/file" if name == "grid.html" else "/api/grids/grid"
    assert client.get(address, params=kind).status_code == 403
    assert not (outside / VOTES).exists()


def test_another_run_is_not_looked_at(client: TestClient, workspace: Path) -> None:
    write_run(workspace.parent / "elsewhere" / "zorp")
    files = {"Epoch": ["../../elsewhere/zorp/zorp-000001.safetensors", "", "", ""]}
    folder = write_grid(workspace / "grid", EPOCHS_BY_STRENGTHS, files=files)
    assert client.get("/api/grids/grid", params={"path": str(folder)}).json()["run"] == ""


# New ones


class Planner:
    """In the place of the process with torch."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def grid(self, values: dict[str, Any]) -> GridPlan:
        self.asked.append(values)
        return GridPlan(
            folder="f", columns=2, rows=3, pages=1, to_draw=6, kept=0, models=1, loras=2
        )

    def release(self) -> None:
        pass


@pytest.fixture
def planner(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> Planner:
    planner = Planner()
    monkeypatch.setattr("lorasmith.studio.api.jobs.ensure_runners", lambda ledger: None)
    (engine,) = (part.dependency for part in get_args(EngineDep)[1:])
    client.app.dependency_overrides[engine] = lambda: planner  # type: ignore[attr-defined]
    return planner


def test_epochs_by_strengths_are_planned_and_queued(
    client: TestClient, planner: Planner, run: Path, workspace: Path
) -> None:
    values = {"epochs": "zorp/runs/zorp:1-2", "strengths": "0.5,1", "prompt": ""}
    line = client.post("/api/grids/command-line", json={"values": values}).json()["command_line"]
    told = client.post("/api/grids/plan", json={"values": values}).json()
    assert told["command_line"] == line == f"lorasmith grid --epochs {run}:1-2 --strengths 0.5,1"
    assert told["plan"]["to_draw"] == 6
    job = client.post("/api/grids/queue", json={"values": values}).json()
    assert job["command"] == ["grid", "--epochs", f"{run}:1-2", "--strengths", "0.5,1"]
    assert Ledger(workspace).job(job["id"]).title == "grid of zorp:1-2"
    # Usual values too: the run's own prompt may have others.
    usual = {"steps": GridRequest().steps, "seed": 0}
    job = client.post("/api/grids/queue", json={"values": values | usual}).json()
    assert f"--steps {usual['steps']}" in job["command_line"]
    assert "--seed 0" in job["command_line"]


def test_any_axes_go_into_a_folder_of_their_own(
    client: TestClient, planner: Planner, workspace: Path
) -> None:
    (workspace / "zorp" / "b.safetensors").touch()
    values = {"prompt": "a cat <lora:cat:1>", "x": "seed=1-3", "z": "lora=cat,zorp/b.safetensors"}
    body = {"project": "zorp", "values": values}
    line = client.post("/api/grids/plan", json=body).json()["command_line"]
    assert f"--lora-dir {workspace}/zorp " in line
    assert f"--out {workspace}/zorp/grids/grid-1" in line
    assert f"--z lora=cat,{workspace}/zorp/b.safetensors " in line
    assert planner.asked[0]["x"] == "seed=1-3"
    (workspace / "zorp" / "grids" / "grid-1").mkdir(parents=True)
    jobs = [client.post("/api/grids/queue", json=body).json() for _ in range(2)]
    folders = [job["command"][job["command"].index("--out") + 1] for job in jobs]
    # The second one must not draw over the first, which has not begun.
    assert [Path(folder).name for folder in folders] == ["grid-2", "grid-3"]


@pytest.mark.parametrize(
    "values",
    [
        {"epochs": "../elsewhere"},
        {"epochs": "/etc:1-2"},
        {"x": "epoch=../elsewhere:1-3,5"},
        {"x": 'lora=a,"../secret.safetensors"'},
        {"x": "checkpoint=demo,/etc/passwd"},
        {"x": "triggers=../elsewhere,1:2"},
        {"x": "seed=1", "out": "../out"},
        {"x": "seed=1", "out": ".lorasmith/out"},
        {"x": "seed=1", "init": "../secret.png"},
        {"x": "seed=1", "model": "/etc/passwd"},
        {"x": "seed=1", "wildcard_dir": ".."},
    ],
)
def test_nothing_leads_out(
    client: TestClient, planner: Planner, workspace: Path, values: dict[str, str]
) -> None:
    for what in ("plan", "queue", "command-line"):
        body = {"values": {"prompt": "a cat", **values}}
        assert client.post(f"/api/grids/{what}", json=body).status_code == 403
    assert not planner.asked
    assert not Ledger(workspace).jobs()


def test_problems_stand_at_their_fields(client: TestClient, planner: Planner) -> None:
    told = client.post("/api/grids/plan", json={"values": {"steps": "many", "x": "seed=1"}}).json()
    assert [each["where"] for each in told["problems"]] == ["steps"]
    assert {"epoch", "strength", "seed"} <= {axis.name for axis in grid_form().axes}


def test_the_paths_of_an_axis_are_placed() -> None:
    def place(text: str) -> str:
        return f"/w/{text}"

    assert placed_axis("Epochs@a=r:1-3,5,last,s", place) == "Epochs@a=/w/r:1-3,5,last,/w/s"
    assert placed_axis('lora="a, b",c', place) == 'lora="/w/a, b",/w/c'
    assert placed_axis("triggers=d,1:2", place) == "triggers=/w/d,1:2"
    for other in ("seed=1-3", "prompt=../x", "nonsense=../x", "lora", 'lora="'):
        assert placed_axis(other, place) == other
