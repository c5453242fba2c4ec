"""Advice from end to end: what is written trains, fits, and on the demo model is what a run with no
settings does."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.published import PUBLISHED, write_hole
from tests.recipes.runs import small_dataset
from tests.tiny_models import tiny_checkpoint

from lorasmith.advice.advise.advise import Advised, advise
from lorasmith.advice.advise.case import examine
from lorasmith.advice.advise.machine import RESERVED, Target, target_of
from lorasmith.advice.advise.questions import questions_of
from lorasmith.config.load import load_settings
from lorasmith.config.schema import value_of
from lorasmith.core.errors import SettingsError, Stopped
from lorasmith.core.events import Controls, ignore
from lorasmith.jobs.advise import AdviseRequest
from lorasmith.training.memory.plan import fits
from lorasmith.training.setup.preflight import preflight

GB = 1024**3
SMALL = Target(torch.device("cpu"), "cpu", torch.float32, "as here", 4 * GB, here=True)


def images(folder: Path, count: int, caption: Callable[[int], str], side: int = 64) -> Path:
    """Pictures that differ, with captions where there are any."""
    folder.mkdir(parents=True)
    for number in range(count):
        colour = (number * 37 % 256, number * 91 % 256, number * 53 % 256)
        path = folder / f"{number:04}.png"
        Image.new("RGB", (side, side), colour).save(path)
        if text := caption(number):
            path.with_suffix(".txt").write_text(text, encoding="utf-8")
    return folder


def advised(
    data: Path, model: str, target: Target | int, answers: Mapping[str, str] | None = None
) -> Advised:
    case = examine(data, model)
    if isinstance(target, int):
        target = target_of(target, case.settings, case.base.architecture)
    return advise(case, questions_of(case), answers or {}, target)


def check(result: Advised, folder: Path) -> None:
    """The file is valid, says of itself what it is, and fits."""
    path = folder / "train.toml"
    path.write_text(result.text, encoding="utf-8")
    settings = load_settings(path, for_training=True)
    for name in result.lines:
        assert value_of(settings, name) == value_of(result.settings, name), name
    run_plan = preflight(settings)
    assert run_plan.steps == result.run_plan.steps
    for one in result.fitted.memory.estimates:
        assert fits(one.total, result.target.free)
    assert json.loads(json.dumps(result.to_json()))["steps"] == run_plan.steps


def test_on_the_demo_model_it_is_what_a_run_with_no_settings_does(tmp_path: Path) -> None:
    data = small_dataset(tmp_path / "zorp")
    result = advised(data, "demo", SMALL, {"kind": "character", "difficulty": "H"})
    check(result, tmp_path)
    plain = load_settings(None, {"data.path": str(data), "model.path": "demo"})
    assert preflight(load_settings(tmp_path / "train.toml")).settings == preflight(plain).settings


@pytest.mark.slow_but_first
@pytest.mark.parametrize(
    "data",
    [
        pytest.param((1, lambda n: ""), id="one"),
        pytest.param((1, lambda n: "zorp, 1girl, wings"), id="one-captioned"),
        pytest.param((7, lambda n: ""), id="no-captions"),
        pytest.param((6, lambda n: f"zorp, {'long tag, ' * 60}{n}"), id="long-captions"),
        pytest.param(
            (6, lambda n: "" if n % 2 else 'zorp, "quoted" \\(x\\) #5'), id="odd-captions"
        ),
        pytest.param((2000, lambda n: f"1girl, tag {n}"), id="many"),
    ],
)
def test_odd_datasets(tmp_path: Path, data: tuple[int, Callable[[int], str]]) -> None:
    tiny = tiny_checkpoint(tmp_path / "tiny.safetensors")
    folder = images(tmp_path / "zorp", *data, side=32)
    check(advised(folder, str(tiny), SMALL), tmp_path)


@pytest.mark.slow
def test_uneven_concepts_are_balanced(tmp_path: Path) -> None:
    tiny = tiny_checkpoint(tmp_path / "tiny.safetensors")
    images(tmp_path / "set" / "10_anna", 8, lambda n: "anna, 1girl, red hair")
    images(tmp_path / "set" / "10_bert", 2, lambda n: "bert, 1boy, suit")
    images(tmp_path / "set" / "reg" / "1_person", 3, lambda n: "")
    result = advised(tmp_path / "set", str(tiny), SMALL)
    check(result, tmp_path)
    folders = {f.path.name: (f.repeats, f.reg) for f in result.settings.data.folders}
    assert folders == {"10_anna": (1, False), "10_bert": (4, False), "1_person": (1, True)}
    items = result.run_plan.dataset.items
    assert sum(item.repeats for item in items if not item.reg) == 16
    style = advised(tmp_path / "set", str(tiny), SMALL, {"kind": "style"})
    assert not style.settings.data.folders


@pytest.mark.slow
def test_even_concepts_stay_as_they_are(tmp_path: Path) -> None:
    images(tmp_path / "set" / "5_anna", 4, lambda n: "anna, 1girl")
    images(tmp_path / "set" / "10_bert", 2, lambda n: "bert, 1boy")
    result = advised(tmp_path / "set", "demo", SMALL)
    assert result.settings.data.path == tmp_path / "set"


def test_the_rate_is_looked_for_where_the_run_is_long_enough(tmp_path: Path) -> None:
    tiny = tiny_checkpoint(tmp_path / "tiny.safetensors")
    data = images(tmp_path / "zorp", 12, lambda n: f"zorp, 1girl, tag {n}")
    result = advised(data, str(tiny), SMALL)
    assert result.settings.optimizer.lr == "find"
    assert result.settings.optimizer.text_encoder_lr == 4.5e-5
    assert result.lines["optimizer.lr"].source.name == "benchmarks/find_lr.md"
    assert result.damping.alpha == 0.5


@pytest.mark.broad_beyond(1)
@pytest.mark.slow
@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_each_family_on_each_gpu(tmp_path: Path, family: str) -> None:
    tiny = tiny_checkpoint(tmp_path / "tiny.safetensors", family=family)
    data = images(tmp_path / "zorp", 12, lambda n: f"zorp, 1girl, tag {n}")
    for size in (6, 8, 12, 24):
        result = advised(data, str(tiny), size * GB)
        assert result.target.free == size * GB - RESERVED
        check(result, tmp_path)


@pytest.mark.broad  # A minute each; the plan itself is held by tests/unit/training/memory.
@pytest.mark.parametrize(("model", "size"), [("sd15", 6), ("sd21", 6), ("sdxl", 6), ("sdxl", 12)])
def test_full_size_models_fit(tmp_path: Path, model: str, size: int) -> None:
    path = tmp_path / f"{model}.safetensors"
    write_hole(path, PUBLISHED[model])
    data = images(tmp_path / "zorp", 30, lambda n: f"zorp, 1girl, tag {n}", side=1024)
    result = advised(data, str(path), size * GB)
    check(result, tmp_path)
    assert result.settings.sample.at_start


@pytest.mark.slow
def test_what_cannot_fit_is_told(tmp_path: Path) -> None:
    data = images(tmp_path / "zorp", 9, lambda n: "zorp, 1girl")
    small = Target(torch.device("cpu"), "a small one", torch.float32, "", 1_000_000, here=False)
    with pytest.raises(SettingsError, match=r"gpu: .* a small one"):
        advised(data, "demo", small)


@pytest.mark.slow
def test_time_is_of_steps_that_were_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = small_dataset(tmp_path / "zorp")
    first = advised(data, "demo", SMALL)
    assert first.timing is None
    assert "not known" in "\n".join(first.summary)
    run = tmp_path / "runs" / "zorp"
    run.mkdir(parents=True)
    (run / "settings.toml").write_text(first.text, encoding="utf-8")
    (run / "run.json").write_text('{"device": "cpu"}', encoding="utf-8")
    # Two seconds a step; one line was cut short by a kill.
    rows = [{"step": n, "steps": 11, "seconds_left": 2.0 * (11 - n)} for n in range(1, 12)]
    lines = [json.dumps(row) for row in rows]
    (run / "metrics.jsonl").write_text("\n".join([*lines, lines[0][:9]]), encoding="utf-8")
    second = advised(data, "demo", SMALL)
    assert second.timing is not None
    assert second.timing.step == pytest.approx(2.0)
    assert second.timing.seconds == pytest.approx(2.0 * second.run_plan.steps)
    # Two of five keep the base and take three times as long; the first gets ready.
    seconds = [9.0, 3.0, 1.0, 1.0, 3.0, 1.0, 1.0, 3.0, 1.0, 1.0, 3.0]
    uneven = [
        json.dumps({"step": n, "steps": 12, "seconds_left": second * (12 - n)})
        for n, second in enumerate(seconds, 1)
    ]
    (run / "metrics.jsonl").write_text("\n".join(uneven), encoding="utf-8")
    timing = advised(data, "demo", SMALL).timing
    assert timing is not None
    assert timing.step == pytest.approx(1.8)
    # With regularisation pictures nothing is kept; steps that keep would take longer.
    kept = [json.dumps({**row, "preservation_loss": 0.1}) for row in rows]
    (run / "metrics.jsonl").write_text("\n".join(kept), encoding="utf-8")
    third = advised(data, "demo", SMALL)
    assert third.timing is not None
    assert third.timing.step < 2.0
    (run / "run.json").write_text('{"device": "another"}', encoding="utf-8")
    assert advised(data, "demo", SMALL).timing is None


@pytest.mark.slow
def test_it_is_the_same_twice(tmp_path: Path) -> None:
    data = small_dataset(tmp_path / "zorp")
    assert advised(data, "demo", SMALL).text == advised(data, "demo", SMALL).text


def test_a_stop_writes_nothing(tmp_path: Path) -> None:
    data = small_dataset(tmp_path / "zorp")
    controls = Controls()
    controls.stop()
    request = AdviseRequest(folder=data, model="demo", out=tmp_path / "train.toml")
    with pytest.raises(Stopped):
        request.run(ignore, controls)
    assert not (tmp_path / "train.toml").exists()
