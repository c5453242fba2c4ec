"""Runs that keep the base model's output: on by themselves, exact, and with everything else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import fmean

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file
from tests.recipes.matrix import run_with
from tests.recipes.runs import command, losses, run_here, small_dataset

from lorasmith.adapters.file import load_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.cli.main import cli
from lorasmith.demo.character import CLASS, write_training_set
from lorasmith.models.load import load_model
from lorasmith.tensors.rng import normal

SETTINGS = {
    "train__steps": "8",
    "train__accumulation": "2",
    "captions__shuffle": "true",
    "captions__keep_tokens": "1",
    "adapter__rank_dropout": "0.2",
    "save__state_every_steps": "3",
    "save__every_epochs": "0",
    "log__every_steps": "1",
    "preservation__share": "0.5",
}


def without_reg(folder: Path) -> Path:
    return small_dataset(folder) / "img"


def kept(run: Path) -> dict[int, float]:
    """The preservation's loss by step, of the steps that have one."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = map(json.loads, lines)
    return {
        r["step"]: r["preservation_loss"] for r in records if r["preservation_loss"] is not None
    }


def result_of(run: Path) -> bytes:
    return (run / f"{run.name}.safetensors").read_bytes()


@pytest.mark.slow
def test_on_by_itself_without_regularisation_said_and_logged(tmp_path: Path) -> None:
    data = without_reg(tmp_path / "data")
    text = run_here(command(data, tmp_path / "out", "on", **SETTINGS))
    assert 'output is kept for captions without "zorp"' in " ".join(text.split())
    on = kept(tmp_path / "out" / "on")
    assert len(on) == 4
    # Before the first update there is nothing to keep.
    assert all(value == 0 if step == 1 else value > 0 for step, value in on.items())
    regularised = command(tmp_path / "data", tmp_path / "out", "reg", **SETTINGS)
    assert "output is kept" not in run_here(regularised)
    assert not kept(tmp_path / "out" / "reg")
    plan = CliRunner().invoke(cli, [*command(data, tmp_path, "x", **SETTINGS)[3:], "--plan"]).output
    # Half of the steps take 2 + 1 passes more than 2, and half of these 1.75 on top.
    assert "97% more time" in " ".join(plan.split())


@pytest.mark.slow
def test_stopped_and_resumed_gives_the_same_file(tmp_path: Path) -> None:
    data = without_reg(tmp_path / "data")
    run_here(command(data, tmp_path / "out", "whole", **SETTINGS))
    run = tmp_path / "out" / "whole"
    before, numbers, distances = result_of(run), losses(run), kept(run)
    (run / "whole.safetensors").unlink()
    states = sorted((run / "state").iterdir())
    states[-1].unlink()
    again = CliRunner().invoke(cli, ["train", "--resume", str(run)])
    assert again.exit_code == 0, again.output
    assert result_of(run) == before
    assert losses(run) == numbers
    assert kept(run) == distances


@pytest.mark.slow
def test_a_run_that_was_begun_without_goes_on_without(tmp_path: Path) -> None:
    """Those of earlier versions say nothing of it."""
    data = without_reg(tmp_path / "data")
    off = {**SETTINGS, "preservation__enabled": "false"}
    del off["preservation__share"]
    run_here(command(data, tmp_path / "out", "r", **off))
    run = tmp_path / "out" / "r"
    before = result_of(run)
    (run / "r.safetensors").unlink()
    sorted((run / "state").iterdir())[-1].unlink()
    text = (run / "settings.toml").read_text(encoding="utf-8")
    earlier = re.sub(r"\[preservation\]\n(?:\w.*\n)+", "", text)
    assert earlier != text
    (run / "settings.toml").write_text(earlier, encoding="utf-8")
    info = json.loads((run / "run.json").read_text(encoding="utf-8"))
    del info["preservation"]
    (run / "run.json").write_text(json.dumps(info), encoding="utf-8")
    again = CliRunner().invoke(cli, ["train", "--resume", str(run)])
    assert again.exit_code == 0, again.output
    assert result_of(run) == before


@pytest.mark.slow
def test_text_from_the_cache_is_the_text_encoders(tmp_path: Path) -> None:
    data = without_reg(tmp_path / "data")
    settings = {
        **SETTINGS, "captions__shuffle": "false", "captions__keep_tokens": "0",
        "adapter__text_encoder": "false",
    }  # fmt: skip
    for name, caches in (("cached", "true"), ("live", "false")):
        choice = {**settings, "performance__cache_text": caches}
        run_here(command(data, tmp_path / "out", name, **choice))
    cached, live = tmp_path / "out" / "cached", tmp_path / "out" / "live"
    assert kept(cached) == kept(live)
    one, other = (load_file(run / f"{run.name}.safetensors") for run in (cached, live))
    assert all(torch.equal(one[name], other[name]) for name in one)


OPTIONS: dict[str, dict[str, str]] = {
    "regularisation images": {},
    "class word": {"preservation.class_word": CLASS, "preservation.empty_share": "0"},
    "captions that drop out": {"captions.dropout": "0.3", "captions.tag_dropout": "0.3"},
    "half precision, checkpointing, EMA": {
        "train.precision": "bf16", "train.gradient_checkpointing": "true", "train.ema": "0.9",
    },
    "DoRA without the text encoder": {"adapter.type": "dora", "adapter.text_encoder": "false"},
    "latents from the VAE, DyLoRA": {
        "performance.cache_latents": "false", "adapter.type": "dylora",
        "adapter.rank_dropout": "0.1",
    },
    "the text encoder alone": {"adapter.unet": "false"},
    "base weights in four bits": {"train.base_precision": "nf4"},
}  # fmt: skip


@pytest.mark.slow_but_first
@pytest.mark.parametrize("name", OPTIONS)
def test_goes_with(name: str, tmp_path: Path) -> None:
    on = {"preservation.enabled": "true", "preservation.share": "1", "log.every_steps": "1"}
    run = run_with(tmp_path, {**on, **OPTIONS[name]})
    distances = kept(run)
    assert len(distances) == 4
    # A new adapter changes nothing; 4-bit and 16-bit arithmetic does the same twice.
    assert distances[1] == 0
    assert distances[4] > 0


@pytest.mark.slow
def test_outside_masks_the_output_stays_nearer_to_the_base_models(tmp_path: Path) -> None:
    """Images are learned in their upper half; the lower half is left alone, or kept."""
    data = without_reg(tmp_path / "data")
    for image in sorted(data.rglob("*.png")):
        mask = Image.new("L", (64, 64), 0)
        mask.paste(255, (0, 0, 64, 32))
        place = tmp_path / "masks" / image.relative_to(data)
        place.parent.mkdir(parents=True, exist_ok=True)
        mask.save(place)
    off = {"data.path": str(data), "preservation.enabled": "false", "train.steps": "30"}
    masks = {**off, "loss.masked": "folder", "loss.mask_folder": str(tmp_path / "masks")}
    moved: dict[str, float] = {}
    for outside in ("ignore", "prior"):
        choice = {**masks, "save.name": outside, "loss.outside_mask": outside}
        run = run_with(tmp_path, choice)
        moved[outside] = change(run, ["zorp, smiling"])[..., 4:, :].square().mean().item()
    assert 0 < moved["prior"] < 0.75 * moved["ignore"]


def change(run: Path, captions: list[str]) -> torch.Tensor:
    """How the prediction for the same noise changes by the LoRA, (B, C, h, w)."""
    model = load_model("demo")
    channels, side = model.architecture.latent_channels, 64 // model.architecture.latent_factor
    noisy = torch.stack([normal((channels, side, side), 0, "test", n) for n in range(8)])
    t = torch.arange(100, 900, 100)
    tensors = load_lora(run / f"{run.name}.safetensors").tensors
    network = AdapterNetwork.load(tensors, model.adapter_roots())
    text = [captions[n % len(captions)] for n in range(8)]
    with torch.no_grad():
        base = model.denoise(noisy, t, model.encode_text(text))
        with network.attached():
            return model.denoise(noisy, t, model.encode_text(text)) - base


@pytest.mark.slow
def test_captions_without_the_trigger_stay_nearer_to_the_base_models(tmp_path: Path) -> None:
    """And the pictures are learned all the same."""
    write_training_set(tmp_path / "data", images=6, regularisation=1, repeats=4)
    plain = {
        "data.path": str(tmp_path / "data" / "img"), "train.steps": "20", "train.batch": "4",
        "preservation.share": "1", "preservation.empty_share": "0", "log.every_steps": "1",
    }  # fmt: skip
    distances: dict[str, float] = {}
    # With next to no weight it only measures.
    for name, weight in (("off", "1e-6"), ("on", "1")):
        run = run_with(tmp_path, {**plain, "save.name": name, "preservation.weight": weight})
        distances[name] = fmean(kept(run)[step] for step in range(11, 21))
        numbers = losses(run)
        assert fmean(numbers[s] for s in range(11, 21)) < fmean(numbers[s] for s in range(1, 11))
    assert 0 < distances["on"] < 0.5 * distances["off"]
