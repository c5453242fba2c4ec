"""Full fine-tuning of the demo's base: it learns, and goes on where it stopped."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from tests.recipes.runs import command, losses, run_here, small_dataset

from lorasmith.cli.main import cli
from lorasmith.config.load import load_settings
from lorasmith.core.files import ASSETS
from lorasmith.data.cache.latents import CPU, image_tensor, stacked
from lorasmith.data.images import load_image
from lorasmith.diffusion.schedule import DDPMSchedule
from lorasmith.models.load import load_model
from lorasmith.tensors.rng import normal
from lorasmith.training.objective import prediction_error
from lorasmith.training.plan import make_plan

BASE = ASSETS / "demo_base.safetensors"
FULL = {
    "train__kind": "full", "optimizer__lr": "3e-4", "preservation__enabled": "false",
    "full__text_encoder": "false",
}  # fmt: skip
IN_BF16 = {
    "train__precision": "bf16", "full__weights": "bf16", "full__fused_backward": "true",
    "full__text_encoder": "true",
}  # fmt: skip


@torch.no_grad()
def error(model_file: Path, data: Path) -> float:
    """Of the training pictures, at noise that no run has drawn."""
    model = load_model(model_file)
    total = 0.0
    for number, path in enumerate(sorted(data.rglob("zorp_*.png"))[:4]):
        caption = path.with_suffix(".txt").read_text(encoding="utf-8").strip()
        latents, _ = model.encode_images(image_tensor(stacked([np.asarray(load_image(path))], CPU)))
        noise = normal((4, *latents.shape[1:]), 9, "probe", number)
        steps = torch.tensor([100, 300, 500, 700])
        text = model.encode_text([caption] * 4)
        schedule = DDPMSchedule("epsilon")
        total += float(
            prediction_error(model, schedule, latents.expand_as(noise), noise, steps, text).mean()
        )
    return total


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [{}, pytest.param(IN_BF16, marks=pytest.mark.broad)],
    ids=["fp32", "bf16, fused"],
)
def test_learns_and_goes_on_where_it_stopped(more: dict[str, str], tmp_path: Path) -> None:
    data = small_dataset(tmp_path / "data")
    settings = {**FULL, **more, "train__steps": "4", "save__state_every_steps": "2"}
    run_here(command(data / "img", tmp_path / "out", "run", **settings))
    whole = tmp_path / "out" / "run"
    assert error(whole / "run.safetensors", data) < 0.97 * error(BASE, data)
    old, new = load_file(BASE), load_file(whole / "run.safetensors")
    assert {n: (t.dtype, t.shape) for n, t in old.items()} == {
        n: (t.dtype, t.shape) for n, t in new.items()
    }
    broken = tmp_path / "broken" / "run"
    shutil.copytree(whole, broken)
    (broken / "state" / "step-00000004.state").unlink()
    (broken / "run.safetensors").unlink()
    run_here([sys.executable, "-m", "lorasmith", "train", "--resume", str(broken)])
    assert (broken / "run.safetensors").read_bytes() == (whole / "run.safetensors").read_bytes()
    assert losses(broken) == losses(whole)


def test_no_room_for_checkpoints_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = small_dataset(tmp_path / "data")
    monkeypatch.setattr("lorasmith.training.runs.disk.free_bytes", lambda folder: 20_000_000)
    arguments = command(data / "img", tmp_path / "out", "run", **FULL, train__steps="2")
    done = CliRunner().invoke(cli, arguments[3:])
    assert done.exit_code == 2, done.output
    assert "MB are free" in done.output
    assert "save.keep_last" in done.output
    assert not (tmp_path / "out").exists()


def test_the_plan_has_checkpoints_and_their_states(tmp_path: Path) -> None:
    data = small_dataset(tmp_path / "data")
    settings = load_settings(
        None, [*(f"{key.replace('__', '.')}={value}" for key, value in FULL.items()),
               "model.path=demo", f"data.path={data / 'img'}", "train.steps=4",
               "save.every_steps=2"],
    )  # fmt: skip
    plan = make_plan(settings)
    assert plan.disk["checkpoints"] == pytest.approx(2 * BASE.stat().st_size, rel=0.05)
    weights = plan.rates[0].weights
    assert plan.disk["training states"] == 2 * 12 * weights


def test_settings_of_adapters_are_said_to_have_no_effect(tmp_path: Path) -> None:
    data = small_dataset(tmp_path / "data")
    arguments = command(data / "img", tmp_path / "out", "run", **FULL, train__steps="2")
    done = CliRunner().invoke(cli, [*arguments[3:], "--plan"])
    assert done.exit_code == 0, done.output
    assert "adapter.rank: has no effect: train.kind is full" in " ".join(done.output.split())
