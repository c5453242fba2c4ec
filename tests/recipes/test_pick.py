"""``lorasmith pick`` on a small real run, and on runs in every state."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console
from tests.recipes.matrix import run_with

from lorasmith.advice.pick import pick, record, show
from lorasmith.advice.pick_run import open_run
from lorasmith.cli.main import cli
from lorasmith.core.errors import LoraFileError, RunError, Stopped, UserError
from lorasmith.core.events import Controls, Event, Notice
from lorasmith.demo.character import write_training_set
from lorasmith.measures.records import PARTS, Extent
from lorasmith.training.runs.folder import RunFolder, read_info, write_info

SETTINGS = {
    "train.steps": "6",
    "save.every_steps": "3",
    "save.every_epochs": "0",
    "save.state_every_steps": "0",
    "captions.trigger": "zorp",
    "sample.steps": "2",
    "sample.cfg": "1",
}
FEW = 2


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Two timesteps in place of eight."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lorasmith.advice.pick.AT_LEISURE", Extent(timesteps=2))
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, judged once."""
    run = run_with(tmp_path_factory.mktemp("pick"), SETTINGS)
    pick(run, images=FEW)
    return run


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy to do things to."""
    return Path(shutil.copytree(made, tmp_path / made.name))


def no_model(*args: object, **kwargs: object) -> None:
    pytest.fail("a model is loaded")


@pytest.mark.slow
def test_the_verdict_and_its_files(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lorasmith.models.load.load_model", no_model)
    picked = pick(run, images=FEW)
    assert [one.step for one in picked.run.candidates] == [3, 6]
    assert [one.path.name for one in picked.run.candidates] == [
        "run-step00000003.safetensors",
        "run.safetensors",
    ]
    assert picked.chart.is_file()
    assert picked.sheet is not None
    assert picked.sheet.is_file()
    found = record(picked)
    assert json.loads((run / "pick" / "verdict.json").read_text()) == found
    assert found["keep"]["file"] in ("run.safetensors", "run-step00000003.safetensors")
    for one in found["snapshots"]:
        assert one["state"] in ("under", "well", "over")
        measures = one["measures"]
        assert set(measures["loss"]) == set(measures["likeness"]) == {"0.6", "1.0", "1.4"}
        assert measures["loss"]["1.0"] < 0
        assert measures["plain_moved"] > 0
        assert measures["norms"]["unet"] > 0
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(width=100, record=True, file=nowhere)
        show(picked, console)
        text = console.export_text()
    assert "◀ keep" in text
    assert "With 2 drawings of each kind" in " ".join(picked.verdict.limits)
    assert picked.verdict.summary[:40] in text


@pytest.mark.slow
def test_a_new_snapshot_adds_to_what_is_known(run: Path) -> None:
    """Measured alone, with drawings of the base model that are there already, it gets the same
    numbers as in the company of the others."""
    whole = record(pick(run, images=FEW))
    file = next(run.glob("pick/*/measures.json"))
    content = json.loads(file.read_text())
    last = pick(run, images=FEW).run.candidates[-1]
    gone = content["snapshots"].pop(last.fingerprint)
    file.write_text(json.dumps(content))
    seen: list[Event] = []
    again = record(pick(run, images=FEW, observer=seen.append))
    assert any(isinstance(e, Notice) and "measuring 1 snapshots (1 known" in e.text for e in seen)
    now = again["snapshots"][-1]["measures"]
    assert {**now, "seconds": 0} == {**gone, "seconds": 0}
    assert again["keep"] == whole["keep"]


@pytest.mark.slow
def test_another_file_of_the_same_name_is_drawn_anew(run: Path) -> None:
    before = pick(run, images=FEW)
    first, last = (candidate.path for candidate in before.run.candidates)
    shutil.copyfile(last, first)
    again = pick(run, images=FEW)
    assert again.measures[0].likeness == pytest.approx(again.measures[1].likeness, rel=1e-4)
    assert again.measures[0].likeness != before.measures[0].likeness
    assert "Since the training" not in " ".join(again.verdict.limits)


@pytest.mark.slow
def test_a_damaged_drawing_is_drawn_again(run: Path) -> None:
    before = pick(run, images=FEW)
    drawing = next(before.folder.glob("*.png"))
    whole = drawing.read_bytes()
    drawing.write_bytes(whole[: len(whole) // 2])
    pick(run, images=FEW)  # Everything is known; the sheet leaves its place empty.
    (before.folder / "measures.json").unlink()
    pick(run, images=FEW)
    assert drawing.read_bytes() == whole


@pytest.mark.slow
def test_what_changed_since_the_training_is_said(run: Path) -> None:
    write_info(RunFolder(run), base_model="another")
    assert "the base model's file changed" in " ".join(pick(run, images=FEW).verdict.limits)


@pytest.mark.slow
def test_held_out_pictures_are_not_missing(tmp_path: Path) -> None:
    run = open_run(run_with(tmp_path, {**SETTINGS, "validation.split": "0.25"}), FEW)
    assert run.eval_set.held_out
    assert run.changed == ()


@pytest.mark.slow
def test_plain_prompts_can_be_told(run: Path) -> None:
    eval_set = open_run(run, 4, ("a star", "a tree")).eval_set
    assert eval_set.plain == ("a star", "a tree", "a star", "a tree")
    own = open_run(run, 4).eval_set
    assert not any("zorp" in caption for caption in own.plain)
    assert all(caption.startswith("zorp, ") for caption in own.prompts)
    assert own.fingerprint != eval_set.fingerprint


@pytest.mark.slow
def test_json_is_all_that_stands_on_the_output(run: Path) -> None:
    done = CliRunner().invoke(cli, ["pick", str(run), "--json", "--pictures", str(FEW)])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["trigger"] == "zorp"
    assert found["held_out_pictures"] == 0


@pytest.mark.slow
def test_a_stop_keeps_what_was_measured(run: Path) -> None:
    controls = Controls()
    shutil.rmtree(run / "pick")

    def stop(event: Event) -> None:
        if getattr(event, "done", 0) >= PARTS:
            controls.stop()

    with pytest.raises(Stopped):
        pick(run, images=FEW, observer=stop, controls=controls)
    content = json.loads(next(run.glob("pick/*/measures.json")).read_text())
    assert len(content["snapshots"]) == 1
    assert not (run / "pick" / "verdict.json").exists()


@pytest.mark.slow
def test_held_out_images_and_no_trigger(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_training_set(data, images=6, regularisation=0, repeats=1)
    for path in data.rglob("*.txt"):
        path.write_text("a drawing" if path.stem.endswith("1") else "something else")
    plain = {**SETTINGS, "captions.trigger": "none"}
    one_snapshot = {"train.steps": "2", "save.every_steps": "0", "validation.split": "34%"}
    picked = pick(run_with(tmp_path, {**plain, **one_snapshot}), images=FEW)
    one = picked.measures[0]
    assert one.held_out == one.loss["1.0"]
    assert len(one.by_picture) == picked.run.eval_set.held_out == 2
    assert one.plain_moved is one.plain_drawings is None
    said = " ".join(picked.verdict.limits)
    assert "There is no trigger word" in said
    assert "Only 2 pictures are held out" in said


@pytest.mark.parametrize(
    ("status", "word"), [("started", "killed"), ("stopped", "stopped"), ("trouble", "trouble")]
)
def test_runs_that_ended_early_are_judged_and_told(run: Path, status: str, word: str) -> None:
    write_info(RunFolder(run), **{**read_info(RunFolder(run)), "status": status})
    assert word in " ".join(pick(run, images=FEW).verdict.limits)


def test_a_run_that_goes_on_is_judged_so_far(run: Path) -> None:
    with RunFolder(run):
        assert "The run goes on" in " ".join(pick(run, images=FEW).verdict.limits)


def test_a_run_without_snapshots(run: Path) -> None:
    for path in run.glob("*.safetensors"):
        path.unlink()
    with pytest.raises(RunError, match="holds no snapshot"):
        open_run(run, FEW)
    done = CliRunner().invoke(cli, ["pick", str(run)])
    assert done.exit_code == 2
    assert "holds no snapshot" in done.stderr


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run folder"):
        open_run(tmp_path, FEW)


def test_images_that_are_gone(run: Path, tmp_path: Path) -> None:
    settings = (run / "settings.toml").read_text()
    data = next(
        line for line in settings.splitlines() if line.startswith("path = ") and "/" in line
    )
    gone = settings.replace(data, f'path = "{tmp_path / "gone"}"')
    (run / "settings.toml").write_text(gone)
    with pytest.raises(UserError, match="gone"):
        open_run(run, FEW)


@pytest.mark.slow
def test_a_damaged_snapshot_is_named(run: Path) -> None:
    (run / "run.safetensors").write_bytes(b"no lora")
    with pytest.raises(LoraFileError, match=r"run\.safetensors"):
        pick(run, images=FEW)


@pytest.mark.slow
def test_a_run_whose_files_lie_beside_it(tmp_path: Path) -> None:
    """Named by its LoRA; a run folder that is hidden; folders with own sizes and batches."""
    write_training_set(tmp_path / "data", images=4, regularisation=0, repeats=1)
    folder = next((tmp_path / "data").glob("**/1_*"))
    settings = tmp_path / "s.toml"
    settings.write_text(
        'model = "demo"\n[train]\nbatch = 3\naccumulation = 2\nsteps = 4\n'
        '[save]\nlayout = "flat"\nname = "flat"\nevery_steps = 2\nevery_epochs = 0\n'
        f'output = "{tmp_path / "out"}"\n'
        "[sample]\nevery_epochs = 0\nat_start = false\nsteps = 1\ncfg = 1\n"
        "[adapter]\nrank = 2\n[log]\ntensorboard = false\n"
        f'[[data.folders]]\npath = "{folder}"\nrepeats = 4\nbatch = 1\n'
        f'[[data.folders]]\npath = "{folder}"\nrepeats = 2\nresolution = 96\nbatch = 2\n'
    )
    done = CliRunner().invoke(cli, ["train", str(settings)])
    assert done.exit_code == 0, done.output
    for name in ("flat", "flat.safetensors", "flat-step00000002.safetensors"):
        run = open_run(tmp_path / "out" / name, FEW)
        assert [one.step for one in run.candidates] == [2, 4]
        # 16 batches of one and 4 of two, two batches to a step: 24 uses in 10 steps, of 4 images.
        assert run.eval_set.trained == 4
        assert run.uses_per_step == pytest.approx(24 / 10 / 4)
    result = CliRunner().invoke(cli, ["pick", str(tmp_path / "out" / "flat"), "--pictures", "2"])
    assert result.exit_code == 0, result.output
    hidden = tmp_path / "out" / ".flat.lorasmith"
    assert json.loads((hidden / "pick" / "verdict.json").read_text())["keep"]["step"] in (2, 4)
    assert not (tmp_path / "out" / "pick").exists()
