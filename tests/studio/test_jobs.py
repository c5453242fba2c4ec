"""The queue over HTTP, and what pages are told of its changes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

import lorasmith.studio.api.jobs as api
from lorasmith.jobs.queue.ledger import Ledger
from lorasmith.studio.api import changes
from lorasmith.studio.api.changes import Changes
from lorasmith.studio.context import Studio
from lorasmith.studio.paths import Roots

TRAIN = {"data": "zorp/dataset", "values": {"adapter.rank": 8}}


@pytest.fixture(autouse=True)
def no_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that is queued begins."""
    monkeypatch.setattr(api, "ensure_runners", lambda ledger: None)


@pytest.fixture
def ledger(workspace: Path) -> Ledger:
    return Ledger(workspace)


def test_a_training_is_queued_with_frozen_settings(client: TestClient, workspace: Path) -> None:
    (job,) = client.post("/api/jobs", json={**TRAIN, "title": "mine"}).json()
    assert (job["state"], job["title"], job["progress"]) == ("queued", "mine", None)
    settings = Path(job["command"][-1])
    assert settings.is_relative_to(workspace / ".lorasmith")
    assert "rank = 8" in settings.read_text()
    assert str(workspace / "zorp" / "dataset") in settings.read_text()
    assert client.get("/api/jobs").json() == [client.get(f"/api/jobs/{job['id']}").json()]


def test_a_sweep_and_what_looks_at_it(client: TestClient) -> None:
    several = {**TRAIN, "sweep": {"optimizer.lr": ["1e-4", "2e-4"]}}
    first, second = client.post("/api/jobs", json=several).json()
    assert first["title"] != second["title"]
    pick = {"verb": "pick", "after": second["id"]}
    (third,) = client.post("/api/jobs", json=pick).json()
    assert third["after"] == second["id"]
    order = client.post(f"/api/jobs/{third['id']}/move", json={"before": first["id"]}).json()
    assert [job["id"] for job in order] == [third["id"], first["id"], second["id"]]


def test_what_is_asked_of_jobs(client: TestClient) -> None:
    client.post("/api/jobs", json=TRAIN)
    for what, state in (("hold", "held"), ("release", "queued"), ("cancel", "cancelled")):
        assert client.post(f"/api/jobs/1/{what}").json()["state"] == state
    refused = client.post("/api/jobs/1/pause")
    assert refused.status_code == 422
    assert "cancelled" in refused.json()["problems"][0]["what"]
    assert client.post("/api/jobs/1/explode").status_code == 422
    assert client.post("/api/jobs/1/retry").json()["state"] == "queued"
    assert client.delete("/api/jobs/1").status_code == 200
    assert client.get("/api/jobs/1").status_code == 422


@pytest.mark.parametrize(
    ("body", "status", "where"),
    [
        ({**TRAIN, "values": {"optimizer.lr": "fast"}}, 422, "optimizer.lr"),
        ({**TRAIN, "sweep": {"optimizer.lr": ["1e-4", "fast"]}}, 422, "optimizer.lr"),
        ({**TRAIN, "data": "../secret"}, 403, "../secret"),
        ({**TRAIN, "config": "/etc/passwd"}, 403, "/etc/passwd"),
        ({**TRAIN, "values": {"save.output": "/tmp/elsewhere"}}, 422, "save.output"),
        ({**TRAIN, "sweep": {"save.output": ["runs", "/tmp/elsewhere"]}}, 422, "save.output"),
        ({"verb": "pick", "run": "/etc"}, 403, "/etc"),
        ({"verb": "pick", "run": "zorp"}, 422, "zorp"),
        ({"verb": "pick"}, 422, "{run}"),
        ({"verb": "bake"}, 422, ""),
        ({**TRAIN, "after": 99}, 422, "job 99"),
    ],
)
def test_what_is_wrong_or_outside_queues_nothing(
    client: TestClient, ledger: Ledger, body: dict, status: int, where: str
) -> None:
    answer = client.post("/api/jobs", json=body)
    assert answer.status_code == status
    assert where in answer.text
    assert ledger.jobs() == []


def test_a_log_is_read_on_and_is_text(client: TestClient, ledger: Ledger) -> None:
    client.post("/api/jobs", json=TRAIN)
    assert client.get("/api/jobs/1/log").json() == {"text": "", "next": 0}
    job = ledger.claim("auto")
    log = ledger.try_folder(job) / "log.txt"
    log.write_bytes(b"<script>alert(1)</script>\xff\n")
    answer = client.get("/api/jobs/1/log")
    assert answer.headers["content-type"] == "application/json"
    part = answer.json()
    assert part["text"] == "<script>alert(1)</script>\ufffd\n"
    log.write_bytes(log.read_bytes() + b"more")
    assert client.get(f"/api/jobs/1/log?from={part['next']}").json()["text"] == "more"


def test_changes_by_others_are_seen(workspace: Path, ledger: Ledger) -> None:
    run = workspace / "zorp" / "runs" / "one"
    run.mkdir(parents=True)
    seen = Changes(Studio(Roots(workspace)))
    assert seen.look() == []
    ledger.add(["tokens", "a"], "count", workspace)
    assert seen.look() == ["jobs"]
    (run / "metrics.jsonl").write_text("{}\n")
    assert seen.look() == [f"run:{run}"]
    (workspace / "new").mkdir()
    assert seen.look() == ["projects"]
    assert seen.look() == []


def test_the_stream_tells_them_and_ends_with_the_studio(
    workspace: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "LOOKS", 0.01)
    studio = Studio(Roots(workspace))

    async def read() -> list[str]:
        told = []
        async for text in changes._stream(studio):
            told.append(text)
            if len(told) == 1:
                ledger.add(["tokens", "a"], "count", workspace)
            else:
                studio.closing.set()
        return told

    first, second = asyncio.run(asyncio.wait_for(read(), 20))
    assert first.startswith("event: changed\ndata: ")
    assert json.loads(second.partition("data: ")[2]) == {"topics": ["jobs"]}
