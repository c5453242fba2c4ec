"""``lorasmith bootstrap`` from one drawing to its last LoRA, on very short trainings; and from the
outside: messages, exit statuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from lorasmith.advice.bootstrap import stages
from lorasmith.advice.bootstrap.bootstrap import bootstrap
from lorasmith.advice.bootstrap.state import Bootstrap, images_of
from lorasmith.cli.main import cli
from lorasmith.core.errors import Stopped
from lorasmith.core.events import Controls, Event, Progress, StepDone
from lorasmith.demo.character import write_training_set
from lorasmith.sampling.infotext import read_infotext
from lorasmith.training.runs.folder import RunFolder, read_info

SHORT = (
    *("train.steps=2", "adapter.rank=2", "log.tensorboard=false", "sample.every_epochs=0"),
    *("sample.at_start=false", "preservation.enabled=false"),
)
SETTINGS = [word for text in SHORT for word in ("--set", text)]
FEW = ["--drawings", "4", "--redraw", "1", "--steps", "1", "--cfg", "1", "--rounds", "2"]


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One zorp with its caption, in the current folder."""
    monkeypatch.chdir(tmp_path)
    write_training_set(tmp_path / "data", images=1, regularisation=0)
    (path,) = (tmp_path / "data" / "img").rglob("*.png")
    return path


def run(*args: str) -> Result:
    result = CliRunner().invoke(cli, ["bootstrap", *args])
    assert "Traceback" not in result.output, result.output
    return result


@pytest.mark.slow
def test_from_one_drawing_to_a_lora(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in the first training and in the second drawing; chosen by option and by file."""
    # LoRAs of two steps are like nothing, and no liker from round to round.
    monkeypatch.setattr("lorasmith.advice.bootstrap.choose.LIKENESS_GAIN", -9.0)
    events: list[Event] = []
    controls = Controls()

    def stop_at(is_it: Callable[[Event], bool]) -> Callable[[Event], None]:
        def observe(event: Event) -> None:
            events.append(event)
            if is_it(event):
                controls.stop()

        return observe

    with pytest.raises(Stopped, match="go on with: lorasmith bootstrap --continue bootstrap/zorp"):
        bootstrap(
            [image], "zorp", drawings=4, redraw=1, steps=1, cfg=1, rounds=2, settings=SHORT,
            round_length=1, observer=stop_at(lambda event: isinstance(event, StepDone)),
            controls=controls,
        )  # fmt: skip
    boot = Bootstrap.load(Path("bootstrap/zorp"))
    assert boot.stage == "train"
    assert read_info(RunFolder(boot.runs / "zorp-01"))["status"] == "stopped"

    result = run("--continue", "bootstrap/zorp", "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert (record["state"], record["pictures"], record["drawings"]) == ("choose", 1, 0)
    (first,) = record["rounds"]
    assert len(first["drawings"]) == 4
    assert all(one["likeness"] is not None for one in first["drawings"])
    assert all(Path(one["file"]).is_file() for one in first["drawings"])
    assert Path(record["page"]).is_file()
    info = read_infotext(Path(first["drawings"][0]["file"]))
    assert info is not None
    assert "<lora:zorp-01:1>" in info.prompt

    again = run("--continue", "bootstrap/zorp")
    assert again.exit_code == 0
    assert "then      lorasmith bootstrap --continue bootstrap/zorp --keep" in again.stdout

    controls = Controls()
    with pytest.raises(Stopped):
        bootstrap(
            go_on="bootstrap/zorp",
            keep="2-3",
            observer=stop_at(lambda e: isinstance(e, Progress) and e.what == "drawing pictures"),
            controls=controls,
        )
    boot = Bootstrap.load(Path("bootstrap/zorp"))
    assert (boot.stage, len(boot.rounds), boot.rounds[0].kept) == ("draw", 2, [2, 3])
    assert boot.now.images == 3
    waiting = bootstrap(go_on="bootstrap/zorp")
    boot = waiting.boot
    assert waiting.state == "choose"
    assert [one.source for one in boot.now.drawings][:3] == ["", "", ""]
    source = boot.now.drawings[3].source
    assert source in ("r01-02.png", "r01-03.png"), "the last begins with a kept one"

    boot.choice_file.write_text('{"keep": [4]}')
    done = bootstrap(go_on="bootstrap/zorp")
    assert (done.state, done.boot.ended) == ("done", "that was round 2 of 2")
    assert done.lora == Path("bootstrap/zorp/runs/zorp/zorp.safetensors")
    assert done.lora.is_file()
    kept = [path.name for path in images_of(boot.drawn_folder)]
    assert sorted([*kept, source]) == ["r01-02.png", "r01-03.png", "r02-04.png"]
    check = CliRunner().invoke(cli, ["dataset", "check", str(done.dataset)])
    assert check.exit_code == 0, check.output

    more = run("--continue", "bootstrap/zorp", "--rounds", "3")
    assert more.exit_code == 0, more.output
    assert "rounds/03/page.html" in more.stdout
    last = run("--continue", "bootstrap/zorp", "--keep", "none", "--finish")
    assert last.exit_code == 0, last.output
    assert "bootstrap/zorp/runs/zorp-2/zorp-2.safetensors" in last.stdout


@pytest.mark.slow
def test_auto_goes_through_and_style_loras_and_models_take_turns(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorasmith.advice.bootstrap.choose.LIKE", -9.0)
    monkeypatch.setattr("lorasmith.advice.bootstrap.choose.LIKENESS_GAIN", -9.0)
    first = run(str(image), "--trigger", "zorp", *SETTINGS, *FEW, "--choose", "auto")
    assert first.exit_code == 0, first.output
    style = "bootstrap/zorp/runs/zorp/zorp.safetensors"
    options = ["--style-lora", f"{style}:0.5", "--models", "demo", "--drawings", "6"]
    result = run(
        str(image),
        "--trigger",
        "two",
        "--out",
        "two",
        *SETTINGS,
        *FEW,
        *options,
        "--choose",
        "auto",
    )
    assert result.exit_code == 0, result.output
    one, other = Bootstrap.load(Path("two")).rounds
    assert not any("zorp:0.5" in drawing.prompt for drawing in one.drawings)
    styled = ["zorp:0.5" in drawing.prompt for drawing in other.drawings if not drawing.source]
    assert any(styled)
    assert not all(styled)


def test_a_choice_that_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks again until it is there, or until it is stopped."""
    looks: list[int] = []

    class Waiting:
        class options:
            choose = "ask"

        def read_choice(self) -> list[int] | None:
            looks.append(1)
            return [2] if len(looks) == 3 else None

    chosen: list[list[int]] = []
    monkeypatch.setattr(stages, "LOOK_AGAIN", 0.0)
    monkeypatch.setattr(stages, "chosen", lambda boot, keep, observer: chosen.append(keep))
    boot: Bootstrap = Waiting()  # type: ignore[assignment]
    assert not stages._choice_made(boot, False, print, Controls())
    assert stages._choice_made(boot, True, print, Controls())
    assert chosen == [[2]]
    controls = Controls()
    controls.stop()
    with pytest.raises(Stopped):
        stages._choice_made(boot, True, print, controls)


BAD: dict[str, tuple[list[str], str]] = {
    "no image": (["--trigger", "zorp"], "there is no picture"),
    "no trigger": (["IMAGE"], "--trigger: is missing"),
    "an empty trigger": (["IMAGE", "--trigger", " "], "--trigger: is empty"),
    "a comma": (["IMAGE", "--trigger", "zorp, hat"], "has a comma"),
    "signs": (["IMAGE", "--trigger", "zo(rp"], "signs that mean something"),
    "no such image": (["gone.png", "--trigger", "zorp"], "gone.png: does not exist"),
    "a torn image": (["torn.png", "--trigger", "zorp"], "torn.png"),
    "an empty folder": (["empty", "--trigger", "zorp"], "there is no picture in it"),
    "no such model": (["IMAGE", "--trigger", "zorp", "--model", "gone.ckpt"], "gone.ckpt"),
    "no such further model": (["IMAGE", "--trigger", "zorp", "--models", "no.ckpt"], "no.ckpt"),
    "no such style": (["IMAGE", "--trigger", "zorp", "--style-lora", "s.safetensors"], "s.safe"),
    "strength": (["IMAGE", "--trigger", "zorp", "--style-lora", "torn.png:9"], "out of range"),
    "no such prompts": (["IMAGE", "--trigger", "zorp", "--prompts", "p.txt"], "--prompts: p.txt"),
    "no wildcards": (["IMAGE", "--trigger", "zorp", "--wildcard-dir", "w"], "--wildcard-dir: w"),
    "a bad prompt": (["IMAGE", "--trigger", "zorp", "--prompts", "bad.txt"], "names a LoRA"),
    "size": (["IMAGE", "--trigger", "zorp", "--size", "big"], "--size"),
    "sampler": (["IMAGE", "--trigger", "zorp", "--sampler", "eula"], "eula"),
    "numbers": (["IMAGE", "--trigger", "zorp", "--rounds", "0"], "--rounds"),
    "device": (["IMAGE", "--trigger", "zorp", "--device", "gpu9"], "--device"),
    "a setting": (["IMAGE", "--trigger", "zorp", "--set", "optimizer.lrr=1"], "optimizer.lrr"),
    "our setting": (["IMAGE", "--trigger", "zorp", "--set", "data.path=x"], "own to set"),
    "preset": (["IMAGE", "--trigger", "zorp", "--preset", "nope"], "nope"),
    "taken": (["IMAGE", "--trigger", "zorp", "--out", "data"], "holds something else"),
    "keep too early": (["IMAGE", "--trigger", "zorp", "--keep", "1"], "nothing to choose from"),
    "finish too early": (["IMAGE", "--trigger", "zorp", "--finish"], "nothing to choose from"),
    "no bootstrap": (["--continue", "empty"], "holds no bootstrap"),
    "nowhere": (["--continue", "gone"], "does not exist"),
    "keep what": (["--continue", "empty", "--keep", "a-b"], '"a-b" is no number'),
    "keep backwards": (["--continue", "empty", "--keep", "4-2"], '"4-2" is no number'),
    "keep nothing said": (["--continue", "empty", "--keep", ","], "--keep: is empty"),
    "another trigger": (["--continue", "empty", "--trigger", "b"], "--trigger: cannot be changed"),
    "another image": (["--continue", "empty", "IMAGE"], "cannot be changed"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_told_before_a_model_is_loaded(
    case: str, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **more: object) -> None:
        pytest.fail("a model is loaded")

    monkeypatch.setattr("lorasmith.models.load.load_model", fail)
    monkeypatch.setattr("lorasmith.training.run.train", fail)
    Path("torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    Path("bad.txt").write_text("zorp <lora:nowhere:1>\n")
    Path("empty").mkdir()
    args, message = BAD[case]
    result = run(*(str(image) if word == "IMAGE" else word for word in args))
    assert result.exit_code == 2, result.output
    assert message in result.stderr.replace("\n", " "), result.stderr
    assert not Path("bootstrap/zorp/bootstrap.json").exists()


def test_mistakes_are_told_together(image: Path) -> None:
    args = ["gone.png", "--trigger", "a,b", "--model", "gone.ckpt", "--size", "big"]
    result = run(*args)
    assert result.exit_code == 2
    for text in ("gone.png", "has a comma", "gone.ckpt", "--size"):
        assert text in result.stderr


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(image: Path) -> None:
    args = [str(image), "--trigger", "zorp", "--drawings", "2", "--dry-run"]
    result = run(*args)
    assert result.exit_code == 0, result.output
    assert "rounds    4 at most, the first of 400 steps" in result.stdout
    assert "zorp, " in result.stdout
    record = json.loads(run(*args, "--json").stdout)
    assert (record["state"], record["rounds"]) == ("planned", [])
    assert len(record["plan"]["captions"]) == 2
    assert [path.name for path in Path().iterdir()] == ["data"]
    refused = run("--continue", "gone", "--dry-run")
    assert refused.exit_code == 2
    assert "--dry-run: says what a new bootstrap would do" in refused.stderr.replace("\n", " ")


@pytest.mark.parametrize(
    ("words", "steps"),
    [
        ([], 400),  # half of a usual training, but never less than the demo model's least
        (["--set", "train.steps=12"], 12),
        (["--set", "train.steps=12", "--round-length", "0.5"], 6),
        (["--set", "train.min_steps=1"], 192),
    ],
)
def test_a_length_that_is_asked_for_is_that_of_rounds(
    image: Path, words: list[str], steps: int
) -> None:
    record = json.loads(run(str(image), "--trigger", "zorp", *words, "--dry-run", "--json").stdout)
    assert record["plan"]["round_steps"] == steps


def test_a_bootstrap_that_is_there_is_not_begun_again(image: Path) -> None:
    Path("there").mkdir()
    (Path("there") / "bootstrap.json").write_text("{}")
    result = run(str(image), "--trigger", "zorp", "--out", "there")
    assert result.exit_code == 2
    assert "go on with it: --continue there" in result.stderr.replace("\n", " ")


def test_an_image_of_one_colour_is_a_defect() -> None:
    from lorasmith.advice.bootstrap.measure import STRANGE, defects_of

    blank = Image.new("RGB", (64, 64), "black")
    drawn = Image.radial_gradient("L").resize((64, 64)).convert("RGB")
    assert defects_of(blank, 0.1) == ["there is nothing on it"]
    assert defects_of(drawn, 0.1) == []
    (text,) = defects_of(drawn, STRANGE + 0.5)
    assert "like nothing else (2.5 times" in text
