"""A report of a bug over HTTP: said before it is saved, and of nothing outside."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tests.made_up_runs import write_run


class Nothing:
    def to_json(self) -> dict[str, object]:
        return {"findings": []}


@pytest.fixture(autouse=True)
def quick_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    """That looks at nothing: what the real one says is not what is tested here."""
    monkeypatch.setattr("lorasmith.advice.doctor.doctor.doctor", lambda quick: Nothing())


@pytest.fixture
def run(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a user whose name and captions stand in what it said."""
    monkeypatch.setattr("getpass.getuser", lambda: "annelise")
    run = write_run(workspace / "zorp" / "runs" / "first")
    with open(run / "events.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps({"event": "DatasetChecked", "text": "a private caption"}))
        file.write("\n" + json.dumps({"event": "Notice", "text": "of annelise"}) + "\n")
    (run / "dataset.json").write_text(json.dumps({"captions": ["a private caption"]}))
    return run


def test_what_is_saved_was_said_before(client: TestClient, workspace: Path, run: Path) -> None:
    before = sorted(workspace.rglob("*"))
    said = client.get("/api/bug-report", params={"run": str(run)}).json()
    assert said["command_line"] == f"lorasmith report-bug {workspace.resolve()} --run {run}"
    files = {file["name"]: file for file in said["files"]}
    assert files["runs/1-first/events.jsonl"]["lines_changed"] == 3
    saved = client.get("/api/bug-report/zip", params={"run": str(run)})
    assert "attachment" in saved.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(saved.content)) as archive:
        assert archive.namelist() == list(files)
        texts = {name: archive.read(name) for name in archive.namelist()}
    assert all(files[name]["bytes"] == len(text) for name, text in texts.items())
    assert not any(b"annelise" in text or b"private" in text for text in texts.values())
    assert sorted(workspace.rglob("*")) == before


def test_captions_come_only_when_asked(client: TestClient, run: Path) -> None:
    # The newest run, as none is named.
    asked = client.get("/api/bug-report", params={"captions": True}).json()
    assert "runs/1-first/dataset.json" in [file["name"] for file in asked["files"]]
    assert asked["command_line"].endswith(" --captions")


def test_no_run_leads_out(client: TestClient, workspace: Path) -> None:
    write_run(workspace.parent / "other")
    (workspace / "link").symlink_to(workspace.parent / "other")
    for address in ("/api/bug-report", "/api/bug-report/zip"):
        for path in ("link", "../other", str(workspace.parent / "other"), "//host/share"):
            assert client.get(address, params={"run": path}).status_code == 403, path
        assert client.get(address, params={"run": "zorp"}).status_code == 422
    unnamed = client.get("/api/bug-report").json()
    assert not any(file["name"].startswith("runs/") for file in unnamed["files"])
