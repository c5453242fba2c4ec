"""Real runs on a CUDA device: every precision, 8-bit AdamW, checkpointing, compilation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from tests.recipes.runs import small_dataset

from lorasmith.cli.main import cli
from lorasmith.config.adapter_types import ADAPTERS
from lorasmith.training import loop
from lorasmith.training.setup.build import Run

pytestmark = pytest.mark.gpu

CASES: dict[str, list[str]] = {
    "fp32": ["train.precision=fp32"],
    "bf16": ["train.precision=bf16"],
    "fp16": ["train.precision=fp16"],
    "8-bit AdamW": ["optimizer.name=AdamW8bit", "train.precision=bf16"],
    "Prodigy": ["optimizer.name=Prodigy", "optimizer.lr=1", "schedule.name=constant"],
    "gradient checkpointing": ["train.gradient_checkpointing=true"],
    "some blocks recomputed": ["train.gradient_checkpointing=2"],
    "fp8 weights": ["train.base_precision=fp8", "train.precision=bf16"],
    "4-bit weights": ["train.base_precision=nf4", "train.precision=bf16"],
    "blocks offloaded": ["performance.offload_blocks=3"],
    "everything that saves": [
        "train.base_precision=fp8",
        "train.precision=bf16",
        "train.gradient_checkpointing=true",
        "performance.offload_blocks=7",
        "performance.vae_tiling=true",
        "performance.vae_slicing=true",
        "optimizer.name=AdamW8bit",
    ],
    "channels last": ["performance.channels_last=true"],
    "compiled": ["performance.compile=true"],
    "text cached": ["adapter.text_encoder=false"],
    "nothing cached": ["performance.cache_latents=false", "performance.cache_text=false"],
    "paged 8-bit AdamW": ["optimizer.name=PagedAdamW8bit", "train.precision=bf16"],
    "AdaFactor": ["optimizer.name=AdaFactor", "schedule.name=constant"],
    "schedule-free": ["optimizer.name=AdamWScheduleFree", "schedule.name=constant"],
    "held-out loss and average": ["validation.split=30%", "train.ema=0.9"],
    "noise": ["loss.multires_iterations=4", "loss.input_perturbation=0.1", "loss.type=huber"],
    "masks of alpha": ["loss.masked=alpha"],
    "colours and crops": ["augment.colour=0.5", "augment.random_crop=true"],
    **{f"adapter {name}": [f"adapter.type={name}", "train.precision=bf16"] for name in ADAPTERS},
}


def train(folder: Path, *settings: str) -> Path:
    data = small_dataset(folder / "data", images=4)
    arguments = ["train", "--data", str(data), "--output", str(folder / "out"), "--name", "run"]
    for setting in ["performance.device=cuda", "train.epochs=2", "train.batch=2", *settings]:
        arguments += ["--set", setting]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    return folder / "out" / "run"


@pytest.mark.parametrize("name", CASES)
def test_trains_on_cuda(name: str, tmp_path: Path) -> None:
    if "8-bit" in name or name == "everything that saves":
        pytest.importorskip("bitsandbytes")
    run = train(tmp_path, *CASES[name])
    tensors = load_file(run / "run.safetensors")
    assert all(bool(tensor.isfinite().all()) for tensor in tensors.values())
    ups = [float(t.abs().max()) for n, t in tensors.items() if "lora_up" in n]
    assert not ups or max(ups) > 0
    assert list((run / "samples").glob("*.png"))


def test_cuda_follows_the_cpu(tmp_path: Path) -> None:
    """The same noise, order and weights on both: losses agree until rounding grows."""
    losses = []
    for device in ("cuda", "cpu"):
        run = train(
            tmp_path / device,
            f"performance.device={device}",
            "train.precision=fp32",
            "log.every_steps=1",
        )
        lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        losses.append([json.loads(line)["loss"] for line in lines])
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)


def test_a_run_on_cuda_repeats(tmp_path: Path) -> None:
    first, second = (train(tmp_path / name) / "run.safetensors" for name in ("one", "two"))
    one, two = load_file(first), load_file(second)
    assert all(float((one[name] - two[name]).abs().max()) < 1e-2 for name in one)


@pytest.mark.parametrize("cached", [True, False])
def test_loading_ahead_changes_no_bit(
    cached: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["performance.deterministic=true", f"performance.cache_latents={cached}".lower()]
    files = []
    for name, ahead in (("ahead", True), ("not", False)):
        monkeypatch.setattr(loop, "frees_cpu", lambda device, ahead=ahead: ahead)
        files.append(train(tmp_path / name, *settings) / "run.safetensors")
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_step_waits_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the third on, and but for those whose numbers are logged: no copy and no question that
    holds the host up until the GPU has done its work."""
    do_step, checked = loop.do_step, []

    def strictly(run: Run, inputs: Any, meter: Any, step: int) -> None:
        logged = (step + 1) % 10 == 0 or step + 1 == run.steps
        strict = step >= 2 and not logged
        torch.cuda.set_sync_debug_mode("error" if strict else "default")
        try:
            do_step(run, inputs, meter, step)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        checked.append(strict)

    monkeypatch.setattr(loop, "do_step", strictly)
    for text in ("true", "false"):
        settings = ["train.precision=bf16", f"adapter.text_encoder={text}", "train.epochs=3"]
        train(tmp_path / text, *settings, "sample.every_epochs=0", "log.every_steps=10")
    assert sum(checked) >= 4
