"""How far a project is: what each step says, what comes next, and how quickly it is asked again."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from tests.made_up_runs import write_run

from lorasmith.advice.audit.last import NAME
from lorasmith.cli.main import cli
from lorasmith.core.errors import UserError
from lorasmith.core.files import write_text
from lorasmith.curation.changes.trash import STORE
from lorasmith.jobs.queue.ledger import Ledger
from lorasmith.jobs.workspace.status import ProjectReader, ProjectStatus, Step, next_step

FINDING = {
    "id": "a", "rule": "empty", "severity": "error", "what": "is empty", "why": "", "value": None,
    "threshold": None, "images": [], "tags": [], "command": "",
}  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "zorp" / "dataset").mkdir(parents=True)
    return tmp_path / "zorp"


def add_images(project: Path, count: int = 3, *, captioned: int = 0) -> None:
    for number in range(count):
        (project / "dataset" / f"{number}.png").touch()
        if number < captioned:
            (project / "dataset" / f"{number}.txt").write_text("zorp")


def keep_audit(project: Path, *findings: dict) -> None:
    value = {
        "version": 1, "time": time.time() + 1, "question": {}, "images": 3, "skipped": [],
        "folder": str(project / "dataset"), "findings": list(findings), "ignored": [],
    }  # fmt: skip
    write_text(project / "dataset" / STORE / NAME, json.dumps(value))


def steps(status: ProjectStatus) -> dict[str, tuple[str, str]]:
    return {step.name: (step.state, step.text) for step in status.steps}


def test_a_project_from_an_empty_folder_to_a_file(project: Path) -> None:
    reader = ProjectReader()
    status = reader.status(project)
    assert {state for state, _ in steps(status).values()} == {"open"}
    assert (status.next, steps(status)["images"][1]) == ("images", "none yet")

    add_images(project, captioned=2)
    status = reader.status(project)
    assert steps(status)["images"] == ("done", "3")
    assert steps(status)["captions"] == ("open", "1 missing")
    assert status.next == "captions"

    add_images(project, captioned=3)
    assert reader.status(project).next == "audit"
    keep_audit(project, FINDING)
    status = reader.status(project)
    assert (steps(status)["audit"], status.next) == (("trouble", "1 in the way"), "audit")
    keep_audit(project, FINDING | {"severity": "warning"})
    status = reader.status(project)
    assert (steps(status)["audit"], status.next) == (("done", "1 warning"), "settings")

    (project / "run.toml").write_text("[optimizer]\nlr = 1e-4\n")
    status = reader.status(project)
    assert (steps(status)["settings"], status.next) == (("done", "run.toml"), "run")

    run = write_run(project / "runs" / "zorp")
    status = reader.status(project)
    assert steps(status)["settings"] == ("done", "of zorp")
    assert steps(status)["run"] == ("done", "stopped at step 20 of 40")
    assert (steps(status)["pick"], status.next) == (("open", "not asked"), "pick")

    (run / "pick").mkdir()
    (run / "pick" / "verdict.json").write_text(json.dumps({"keep": {"label": "epoch 2"}}))
    status = reader.status(project)
    assert (steps(status)["pick"], status.next) == (("done", "epoch 2"), "files")
    assert steps(status)["files"] == ("open", "none yet")

    (project / "loras").mkdir()
    (project / "loras" / "zorp.safetensors").touch()
    status = reader.status(project)
    assert steps(status)["files"] == ("open", "no preview")
    (project / "loras" / "zorp.png").touch()
    status = reader.status(project)
    assert (steps(status)["files"], status.next) == (("done", "1"), "")


def test_other_images_after_the_audit_ask_for_another(project: Path) -> None:
    add_images(project, captioned=3)
    keep_audit(project)

    def audit() -> tuple[str, str]:
        return steps(ProjectReader().status(project))["audit"]

    assert audit() == ("done", "nothing wrong")
    later = time.time() + 5
    caption = project / "dataset" / "1.txt"
    write_text(caption, "zorp, smile")
    os.utime(caption, (later, later))
    assert audit() == ("done", "captions changed since")
    os.utime(project / "dataset" / "1.png", (later, later))
    assert audit() == ("open", "other images since")


def test_what_the_user_ignores_is_not_told(project: Path) -> None:
    add_images(project, captioned=3)
    keep_audit(project, FINDING | {"severity": "warning"})
    write_text(project / "dataset" / STORE / "audit.json", json.dumps({"ignored": ["empty"]}))
    assert steps(ProjectReader().status(project))["audit"] == ("done", "nothing wrong")


def test_captions_may_stand_in_a_table(project: Path) -> None:
    add_images(project)
    (project / "dataset" / "0.json").write_text("{}")  # Of one image.
    reader = ProjectReader()
    assert steps(reader.status(project))["captions"] == ("open", "none yet")
    (project / "dataset" / "metadata.jsonl").write_text("")
    assert steps(reader.status(project))["captions"] == ("done", "in metadata.jsonl")


def test_settings_of_a_trainer_are_no_table_of_captions(project: Path) -> None:
    add_images(project)
    file = project / "dataset" / "k.json"
    file.write_text(json.dumps({"LoRA_type": "Standard", "train_data_dir": "x", "epoch": 10}))
    assert steps(ProjectReader().status(project))["captions"] == ("open", "none yet")
    file.write_text(json.dumps({"0": "zorp", "1": "zorp, smile"}))
    assert steps(ProjectReader().status(project))["captions"] == ("done", "in k.json")


@pytest.mark.parametrize("preview", ["small.png", "small.preview.png", "small.webp"])
def test_the_preview_of_a_lora_is_no_dataset(tmp_path: Path, preview: str) -> None:
    for name in (preview, "small.safetensors"):
        (tmp_path / name).touch()
    status = ProjectReader().status(tmp_path)
    assert (steps(status)["images"], status.next) == (("open", "none yet"), "images")
    (tmp_path / "other.png").touch()
    assert steps(ProjectReader().status(tmp_path))["images"] == ("done", "1")


def test_jobs_of_the_queue_are_at_work_on_their_steps(project: Path) -> None:
    add_images(project, captioned=1)
    ledger = Ledger(project.parent)
    ledger.add(["dataset", "tag", "zorp/dataset"], "tag", project.parent)
    ledger.add(["dataset", "tag", "zorpette/dataset"], "tag", project.parent)
    file = project.parent / "frozen.toml"
    file.write_text('[data]\npath = "zorp/dataset"\n')
    ledger.add(["train", str(file)], "train", project.parent)
    found = steps(ProjectReader().status(project, ledger))
    assert found["captions"] == ("busy", "job 1 waits")
    assert found["run"] == ("busy", "job 3 waits")
    ledger.add(["pick", "{run}"], "pick", project.parent, after=3)
    assert steps(ProjectReader().status(project, ledger))["pick"] == ("busy", "job 4 waits")
    assert found["images"] == ("done", "3")
    ledger.cancel(1)
    assert steps(ProjectReader().status(project, ledger))["captions"] == ("open", "2 missing")


def test_a_folder_is_listed_again_only_when_it_changed(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 10 000 images the first look takes a third of a second, each further one a millisecond."""
    add_images(project, 5, captioned=5)
    reader = ProjectReader()
    monkeypatch.setattr("lorasmith.jobs.projects._TICK", 0)
    reader.status(project)

    def refuse(folder: Path) -> None:
        raise AssertionError(f"{folder} is listed again")

    with monkeypatch.context() as patch:
        patch.setattr("lorasmith.jobs.projects._group", refuse)
        assert steps(reader.status(project))["captions"] == ("done", "all")
        (project / "dataset" / "new.png").touch()
        with pytest.raises(AssertionError):
            reader.status(project)
    assert steps(reader.status(project))["captions"] == ("open", "1 missing")


STEPS = ("images", "captions", "audit", "settings", "run", "pick", "files")


@given(st.lists(st.sampled_from(("done", "open", "busy", "trouble")), min_size=7, max_size=7))
def test_what_comes_next_is_never_done(states: list) -> None:
    names = zip(STEPS, states, strict=True)
    found = [Step(name=name, state=state, text="") for name, state in names]
    following = next_step(found)
    done = {step.name for step in found if step.state == "done"}
    assert following not in done
    if following and "run" in done:
        assert STEPS.index(following) > STEPS.index("run")
    if not following:
        assert done.issuperset(("pick", "files"))
        assert "run" in done or len(done) == 7


def test_on_the_command_line(project: Path) -> None:
    add_images(project, captioned=1)
    result = CliRunner().invoke(cli, ["status", str(project)])
    assert result.exit_code == 0
    assert "to do    captions  2 missing" in result.stdout
    assert f"Next: lorasmith dataset tag {project / 'dataset'}" in result.stdout
    place = str(project / "dataset" / "..")
    told = json.loads(CliRunner().invoke(cli, ["status", place, "--json"]).stdout)
    assert (told["name"], told["next"], len(told["steps"])) == ("zorp", "captions", 7)
    nowhere = CliRunner().invoke(cli, ["status", str(project / "nowhere")])
    assert nowhere.exit_code == 2
    assert "is no folder" in nowhere.stderr
    with pytest.raises(UserError):
        ProjectReader().status(project / "nowhere")
