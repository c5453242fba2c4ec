"""``lorasmith diagnose`` on a small real run, and on its file alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from rich.console import Console
from safetensors.torch import load_file, save_file
from tests.recipes.matrix import run_with
from tests.recipes.test_pick import SETTINGS, no_model

from lorasmith import diagnose
from lorasmith.advice.diagnose.measuring import MEASURES
from lorasmith.advice.diagnose.view import render
from lorasmith.cli.main import cli
from lorasmith.config.load import load_settings
from lorasmith.core.errors import RunError, Stopped, UserError
from lorasmith.core.events import Controls, Event, Progress
from lorasmith.core.files import ASSETS
from lorasmith.measures.records import Extent

FEW = 2


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Less of everything."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lorasmith.advice.pick.AT_LEISURE", Extent(timesteps=2))
        here = "lorasmith.advice.diagnose.workbench"
        patch.setattr(f"{here}.GRID_SEEDS", (0, 1))
        patch.setattr(f"{here}.GRID_IMAGES", 1)
        patch.setattr(f"{here}.GRID_TIMESTEPS", 1)
        patch.setattr(f"{here}.READ_TAGS", 6)
        patch.setattr(f"{here}.OWN_PROMPTS", 2)
        patch.setattr(f"{here}.OWN_STEPS", 2)
        patch.setattr(f"{here}.ANSWER_ROWS", 1)
        there = "lorasmith.advice.diagnose.measuring"
        patch.setattr(f"{there}.UNET", (0.5, 1.0))
        patch.setattr(f"{there}.TEXT_ENCODER", (0.0, 1.0))
        patch.setattr(f"{there}.READ_IMAGES", 2)
        patch.setattr(f"{there}.FREQUENT_TAGS", 1)
        patch.setattr("lorasmith.measures.tag_effects.COUNT", 1)
        patch.setattr("lorasmith.measures.answers.TOKENS", 4)
        patch.setattr("lorasmith.measures.answers.STARTS", 1)
        patch.setattr("lorasmith.measures.answers.LETTERS", 1)
        patch.setattr("lorasmith.measures.answers.all_tokens", lambda: torch.arange(1000))
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a rate that is far too low, diagnosed once."""
    folder = tmp_path_factory.mktemp("diagnose")
    run = run_with(folder, {**SETTINGS, "optimizer.lr": "1e-5", "train.steps": "2"})
    diagnose(run, images=FEW)
    return run


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(cli, ["diagnose", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.slow
def test_what_is_known_loads_no_model(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lorasmith.models.load.load_model", no_model)
    (found,) = json.loads(invoke(made, "--pictures", FEW, "--json"))
    assert found["state"] == "under"
    assert {"rate-low", "too-short"} <= {cause["id"] for cause in found["causes"]}
    assert found["causes"][0]["likelihood"] >= found["causes"][-1]["likelihood"]
    assert found["unknown"] == []
    assert found["facts"]["lr"]["unet"] == 1e-5
    assert len(found["strengths"]["loss"]) == 2
    console = Console(width=80)
    text = invoke(made, "--pictures", FEW)
    assert "Undertrained" in text
    assert "Why, the likeliest first" in text
    with console.capture() as capture:
        console.print(render(diagnose(made, images=FEW)[0]))
    assert max(map(len, capture.get().splitlines())) <= 80


@pytest.mark.slow
def test_a_file_alone_is_told_by_its_metadata(made: Path, tmp_path: Path) -> None:
    path = tmp_path / "alone.safetensors"
    shutil.copyfile(made / "run.safetensors", path)
    (one,) = diagnose(path, model="demo")
    assert one.facts.source == "metadata"
    assert one.facts.same_base
    assert one.verdict is None
    assert "needs the training pictures" in " ".join(one.unknown)
    assert "rate-low" in [cause.id for cause in one.causes]
    with pytest.raises(UserError, match="say which it is for with --model"):
        diagnose(path)


@pytest.mark.slow
def test_stopping_keeps_what_was_measured(made: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(made, tmp_path / made.name))
    for file in (run / "diagnose").glob("strengths-*.json"):
        file.unlink()
    for file in (run / "diagnose").glob("captions-*.json"):
        file.unlink()
    controls = Controls()
    title = next(one.title for one in MEASURES if one.name == "captions")

    def stop(event: Event) -> None:
        if isinstance(event, Progress) and event.what == title and event.done == 1:
            controls.stop()

    with pytest.raises(Stopped, match="is kept"):
        diagnose(run, images=FEW, observer=stop, controls=controls)
    assert list((run / "diagnose").glob("strengths-*.json"))
    assert not list((run / "diagnose").glob("captions-*.json"))


@pytest.mark.slow
def test_no_time_is_told(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Path(shutil.copytree(made, tmp_path / made.name))
    shutil.rmtree(run / "diagnose")
    monkeypatch.setattr("lorasmith.models.load.load_model", no_model)
    (one,) = diagnose(run, images=FEW, minutes=1e-9)
    assert "the time was over" in " ".join(one.unknown)
    assert one.verdict is not None  # It is kept with pick's.


@pytest.mark.slow
def test_drawings_that_are_gone_are_drawn_again(made: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(made, tmp_path / made.name))
    (reading,) = (run / "diagnose").glob("drawn-*.json")
    before = reading.read_text(encoding="utf-8")
    reading.unlink()
    drawings = list((run / "pick").glob("*/*-at-1.0-*.png"))
    for drawing in drawings:
        drawing.unlink()
    diagnose(run, images=FEW)
    # Those of the base are nothing that the LoRA's are read with.
    again = [drawing for drawing in drawings if drawing.is_file()]
    assert len(again) == FEW
    assert reading.read_text(encoding="utf-8") == before


@pytest.mark.broad
def test_a_lora_that_has_diverged_is_told(made: Path, tmp_path: Path) -> None:
    path = tmp_path / "ruined.safetensors"
    tensors = load_file(made / "run.safetensors")
    save_file({name: torch.full_like(one, torch.nan) for name, one in tensors.items()}, path)
    pictures = load_settings(made / "settings.toml").data.path
    (one,) = diagnose(path, model="demo", data=pictures, images=FEW)
    assert one.verdict is not None
    assert one.verdict.state == "over"
    lines = {section.id: " ".join(section.lines) for section in one.sections}
    assert "has diverged" in lines["base"]
    assert "has diverged" in lines["answers"]
    assert "nan" not in " ".join(lines.values())


def test_what_is_neither_run_nor_lora(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("a")
    with pytest.raises(RunError, match="neither a run nor a LoRA"):
        diagnose(text, model="demo")


@pytest.mark.slow
def test_several_on_one_page_and_on_another_model(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.safetensors"
    shutil.copyfile(ASSETS / "demo_base.safetensors", other)
    page = tmp_path / "page.html"
    first = made / "run.safetensors"
    arguments = [made, first, "--models", other, "--html", page, "--pictures", FEW, "--json"]
    one, two = json.loads(invoke(*arguments))
    assert one["causes"] == two["causes"]
    assert [base["model"] for base in one["models"]] == ["demo", str(other)]
    # The same weights under another name.
    assert one["models"][0]["loss"] == pytest.approx(one["models"][1]["loss"], abs=1e-6)
    assert one["sections"]["models"][1].startswith("other.safetensors: loss")
    text = page.read_text(encoding="utf-8")
    assert text.count("<section") == 2
    assert "http" not in text.replace("http-equiv", "")
    assert "data-number" in text
    assert "rate-low" in text
