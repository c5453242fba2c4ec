"""The settings' form and the plan over the API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from lorasmith.config.schema import all_settings
from lorasmith.demo.character import write_training_set
from lorasmith.jobs.engine.giving_way import GivingWay
from lorasmith.jobs.engine.planning import PlanningEngine
from lorasmith.jobs.plan import PlanAnswer
from lorasmith.studio.api import jobs as jobs_api
from lorasmith.studio.api.train import engine_of
from lorasmith.studio.app import create_app

STUB = (
    "import json, sys\n"
    "for line in sys.stdin:\n"
    "    question = json.loads(line)\n"
    "    if question['ask'] == 'advice':\n"
    "        answer = {'ok': True, 'summary': [json.dumps(question)]}\n"
    "    else:\n"
    "        answer = {'ok': True, 'command': json.dumps(question['values'])}\n"
    "    print(json.dumps({'id': question['id'], 'answer': answer}), flush=True)\n"
)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "workspace").mkdir()
    return tmp_path / "workspace"


@pytest.fixture
def client(workspace: Path) -> Iterator[TestClient]:
    app = create_app(workspace)
    app.state.engine = PlanningEngine(workspace, (sys.executable, "-c", STUB))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client
    engine_of(app).release()


def test_settings_and_presets(client: TestClient) -> None:
    settings = client.get("/api/settings").json()
    assert [one["path"] for one in settings] == list(all_settings())
    assert any(one["simple"] for one in settings)
    sections = client.get("/api/settings/sections").json()
    assert sum(len(one["settings"]) for one in sections) == len(settings)
    assert {one["name"] for one in client.get("/api/settings/folder").json()} >= {"repeats"}
    assert "character" in {one["name"] for one in client.get("/api/presets").json()}


def test_a_plan_is_asked_of_the_engine(client: TestClient, workspace: Path) -> None:
    body = {"data": "pictures", "values": {"adapter.rank": 8, "optimizer.lr": "find"}}
    answer = client.post("/api/plan", json=body).json()
    assert answer["ok"]
    assert str(workspace / "pictures") in answer["command"]
    engine_of(client.app).release()  # type: ignore[arg-type]


def test_the_engine_is_begun_for_a_page_and_ends_for_a_job(
    client: TestClient, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_api, "ensure_runners", lambda ledger: None)
    engine = engine_of(client.app)  # type: ignore[arg-type]
    assert not engine.running
    assert client.post("/api/warm-up").json() == {"running": True}
    assert engine.running
    (workspace / "pictures").mkdir()
    (job,) = client.post("/api/jobs", json={"data": "pictures", "hold": True}).json()
    assert not engine.running
    client.post("/api/warm-up")
    client.post(f"/api/jobs/{job['id']}/hold")
    assert engine.running
    client.post(f"/api/jobs/{job['id']}/release")
    assert not engine.running


def test_advice_is_asked_of_the_engine(client: TestClient, workspace: Path) -> None:
    body = {"data": "pictures", "model": "base.safetensors", "answers": {"kind": "style"}}
    answer = client.post("/api/advice", json=body).json()
    assert answer["ok"]
    question = json.loads(answer["summary"][0])
    assert question["folder"] == str(workspace / "pictures")
    assert (question["model"], question["answers"]) == ("base.safetensors", {"kind": "style"})
    for wrong in ({"model": "/etc/base.safetensors"}, {"model": "../base.safetensors"}):
        told = client.post("/api/advice", json={**body, **wrong}).json()
        assert [each["where"] for each in told["problems"]] == ["model.path"]
    assert client.post("/api/advice", json={**body, "data": "/etc"}).status_code == 403


def test_mistakes_need_no_engine(client: TestClient) -> None:
    body = {"data": "pictures", "values": {"adapter.rank": "many", "optimizer.lr": -1}}
    answer = client.post("/api/plan", json=body).json()
    assert not answer["ok"]
    assert {one["where"] for one in answer["problems"]} == {"adapter.rank", "optimizer.lr"}
    assert not engine_of(client.app).running  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("data.path", "/etc"),
        ("data.reg", "../other"),
        ("data.folders", [{"path": "/etc"}]),
        ("model.path", "/models/x.safetensors"),
        ("model.path", "~/x.safetensors"),
        ("model.vae", "link/vae.safetensors"),
        ("save.output", "/tmp/runs"),
        ("adapter.init_from", "~/start.safetensors"),
        ("performance.cache_dir", "/tmp/cache"),
        ("loss.mask_folder", "/masks"),
    ],
)
def test_settings_that_lead_outside(
    client: TestClient, workspace: Path, setting: str, value: object
) -> None:
    os.symlink(workspace.parent, workspace / "link")
    values = {"data.path": "pictures", setting: value}
    if setting == "data.folders":
        del values["data.path"]
    if setting == "loss.mask_folder":
        values["loss.masked"] = "folder"
    answer = client.post("/api/plan", json={"values": values}).json()
    assert not answer["ok"]
    where = "data.folders[1].path" if setting == "data.folders" else setting
    assert [one["where"] for one in answer["problems"]] == [where]
    assert not engine_of(client.app).running  # type: ignore[arg-type]


def test_files_outside(client: TestClient, workspace: Path) -> None:
    (workspace.parent / "run.toml").write_text("[adapter]\nrank = 3\n")
    os.symlink(workspace.parent / "run.toml", workspace / "link.toml")
    for path in ("../run.toml", "link.toml"):
        assert client.post("/api/plan", json={"config": path}).status_code == 403
        assert client.post("/api/import-settings", json={"path": path}).status_code == 403
    (workspace / "run.toml").write_text('[adapter]\nrank = 3\n[save]\noutput = "/tmp"\n')
    body = {"config": "run.toml", "data": "pictures"}
    assert [one["where"] for one in client.post("/api/plan", json=body).json()["problems"]] == [
        "save.output"
    ]
    values = client.post("/api/import-settings", json={"path": "run.toml"}).json()["values"]
    assert values == {"adapter.rank": 3, "save.output": "/tmp"}
    assert client.post("/api/import-settings", json={"path": "nothing"}).status_code == 422


@pytest.mark.broad
def test_a_true_plan(workspace: Path) -> None:
    """By a process of its own, quick the second time."""
    write_training_set(workspace / "data", images=3, regularisation=0, repeats=2)
    app = create_app(workspace)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        answer = client.post("/api/plan", json={"data": "data", "values": {"train.epochs": 2}})
        plan = PlanAnswer.model_validate(answer.json()).plan
        assert plan is not None
        assert plan.epochs == 2
        assert plan.folder == os.path.join("runs", "data")
        told = client.post("/api/advice", json={"data": "data"}).json()
        assert told["settings"]["captions.trigger"]["source"]["name"] == "these pictures"
        assert "adapter.dropout" not in told["settings"]
        assert {one["name"] for one in told["questions"]} <= {"kind", "difficulty", "use"}
        wrong = client.post("/api/advice", json={"data": "data", "answers": {"kind": "cat"}}).json()
        assert [one["where"] for one in wrong["problems"]] == ["kind"]
    engine_of(app).release()


def test_a_plan_puts_nothing_on_a_device_that_a_job_has(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def plan(engine: PlanningEngine, values: object, **options: object) -> PlanAnswer:
        asked.append(options["is_taken"])
        return PlanAnswer(ok=True)

    monkeypatch.setattr(PlanningEngine, "plan", plan)
    for job in (None, "job 3"):
        monkeypatch.setattr(GivingWay, "job_on", lambda guard, device, job=job: job)
        assert client.post("/api/plan", json={"data": "pictures"}).json()["ok"]
    assert asked == [False, True]


def test_the_server_stays_small(workspace: Path) -> None:
    """Whatever is asked, torch is the engine's alone."""
    code = f"""
import sys
from pathlib import Path
from fastapi.testclient import TestClient
from lorasmith.jobs.engine.planning import PlanningEngine
from lorasmith.studio.app import create_app
app = create_app(Path({str(workspace)!r}))
print("numpy" in sys.modules)  # a fifth of the start, and 12 MB
app.state.engine = PlanningEngine(Path({str(workspace)!r}), (sys.executable, "-c", {STUB!r}))
client = TestClient(app, base_url="http://127.0.0.1")
for values in ({{"adapter.rank": 8}}, {{"optimizer.lr": 1e-4}}, {{"adapter.rank": "x"}}):
    answer = client.post("/api/plan", json={{"data": "p", "preset": "character", "values": values}})
    assert answer.status_code == 200
for address in ("runs", "settings", "presets", "bug-report"):
    assert client.get("/api/" + address).status_code == 200
print("torch" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split() == ["False", "False"], done.stderr
