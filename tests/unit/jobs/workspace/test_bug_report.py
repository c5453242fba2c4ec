"""What is in a report of a bug, and above all what is not."""

from __future__ import annotations

import base64
import io
import json
import random
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.made_up_runs import write_run

from lorasmith.cli.main import cli
from lorasmith.jobs.queue.ledger import Ledger
from lorasmith.jobs.workspace.bug_report import gather_report, without_names

USER, HOST = "annelise", "annes-laptop"
SECRETS = (
    "hf_abcdefghijklmnop", "ghp_0123456789abcdef", "sk-abcdef0123456789", "hunter22",
    "eyJhbGciOiJIUzI1NiJ9.e30.abc",
)  # fmt: skip


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a user who has secrets in every file, and pictures where texts should be."""
    monkeypatch.setattr("getpass.getuser", lambda: USER)
    monkeypatch.setattr("platform.node", lambda: HOST)
    monkeypatch.setenv("HOME", str(tmp_path / "home" / USER))
    place = tmp_path / "home" / USER / "work"
    run = write_run(place / "zorp" / "runs" / "first")
    sink = io.BytesIO()
    Image.effect_noise((64, 64), 90).save(sink, "PNG")
    picture = sink.getvalue()
    (run / "dataset.json").write_text(json.dumps({"captions": ["a private caption"]}))
    with open(run / "events.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps({"event": "Notice", "text": f"in {place} of {USER} at {HOST}"}))
        file.write("\n" + json.dumps({"event": "DatasetChecked", "text": "a private caption"}))
        file.write("\n" + json.dumps({"event": "Odd", "data": base64.b64encode(picture).decode()}))
    ledger = Ledger(place)
    command = ["generate", "a cat", "--token", SECRETS[3], f"https://{USER}:pw@example.org/x"]
    job = ledger.add(command, "draw", place)
    log = ledger.job_folder(job.id) / "0" / "log.txt"
    log.parent.mkdir(parents=True)
    lines = [f"HF_TOKEN={SECRETS[0]}", f"Authorization: Bearer {SECRETS[4]}", *SECRETS[:3]]
    log.write_text("\n".join(lines))
    (ledger.job_folder(job.id) / "settings.toml").write_bytes(picture)
    return place


def report(*words: str) -> str:
    result = CliRunner().invoke(cli, ["report-bug", *words])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_nothing_of_the_user_gets_in(workspace: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.zip"
    told = report(str(workspace), "--out", str(out))
    assert "left out  queue/1/settings.toml: is no text" in told
    assert "queue/1/log.txt (taken out of 5 lines)" in told
    with zipfile.ZipFile(out) as archive:
        texts = {name: archive.read(name).decode("utf-8") for name in archive.namelist()}
    assert {"doctor.json", "queue/jobs.json", "queue/1/log.txt"} <= set(texts)
    assert {"runs/1-first/settings.toml", "runs/1-first/metrics.jsonl"} <= set(texts)
    assert "lr = " in texts["runs/1-first/settings.toml"]
    for name, text in texts.items():
        for word in (USER, HOST, ":pw@", "private caption", "iVBOR", *SECRETS):
            assert word not in text, (name, word)


def test_what_is_in_it_is_said_before(workspace: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.zip"
    listed = json.loads(report(str(workspace), "--dry-run", "--json", "--out", str(out)))
    assert listed["path"] is None
    assert not out.exists()
    names = [file["name"] for file in listed["files"]]
    assert "runs/1-first/dataset.json" not in names
    asked = json.loads(report(str(workspace), "--dry-run", "--json", "--captions"))
    assert "runs/1-first/dataset.json" in [file["name"] for file in asked["files"]]
    out.touch()
    again = CliRunner().invoke(cli, ["report-bug", str(workspace), "--out", str(out)])
    assert (again.exit_code, out.read_bytes()) == (2, b"")
    for words in (["--run", str(tmp_path)], [str(tmp_path / "nowhere")]):
        assert CliRunner().invoke(cli, ["report-bug", "--dry-run", *words]).exit_code == 2


def test_no_captions_get_in_by_other_ways(workspace: Path) -> None:
    """As what a command printed of a dataset, or in a long line whose beginning is cut off."""
    ledger = Ledger(workspace)
    for command in (["dataset", "edit", "zorp"], ["train", "zorp"]):
        job = ledger.add(command, command[0], workspace)
        log = ledger.job_folder(job.id) / "0" / "log.txt"
        log.parent.mkdir()
        log.write_text("a private caption\n")
    events = workspace / "zorp" / "runs" / "first" / "events.jsonl"
    events.write_text('{"event": "DatasetChecked", "text": "' + "a private caption, " * 30_000)
    report = gather_report(workspace)
    texts = {file.name: file.text for file in report.files}
    assert "queue/2/log.txt" not in texts
    assert "queue/3/log.txt" in texts
    assert texts["runs/1-first/events.jsonl"] == ""
    asked = [file.name for file in gather_report(workspace, captions=True).files]
    assert "queue/2/log.txt" in asked


@given(st.binary(min_size=120, max_size=300))
def test_no_bytes_survive_as_letters(data: bytes) -> None:
    encoded = base64.b64encode(data).decode()
    assert encoded[:100] not in without_names(f"picture: data:image/png;base64,{encoded} end")


def test_words_and_numbers_stay() -> None:
    text = "loss 0.0842 at step 120 of 400; optimizer.lr = 3e-4, 150 tokens of 225, a token more"
    assert without_names(text) == text
    numbers = " ".join(str(random.Random(0).random()) for _ in range(100))
    assert without_names(numbers) == numbers


def test_a_long_path_stays() -> None:
    path = "/data/" + "/".join(f"a-folder-of-pictures-{number}" for number in range(9)) + "/1.png"
    assert without_names(f"read {path}") == f"read {path}"
