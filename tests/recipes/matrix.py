"""What every choice of a run must do: train the embedded model for real, save, load, continue."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from lorasmith.adapters.file import load_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.config.load import load_settings
from lorasmith.core.events import Controls, Observer, ignore
from lorasmith.demo.character import write_training_set
from lorasmith.diffusion.schedule import DDPMSchedule
from lorasmith.models.diffusion_model import Conditioning, DiffusionModel
from lorasmith.models.load import load_model
from lorasmith.training.run import train

IMAGES = 3
# Enough that a choice which learns at all is told from one that does not.
STEPS = 10

PLAIN = {
    "save.name": "run",
    "save.precision": "fp32",
    "train.batch": "2",
    "train.steps": "4",
    "adapter.rank": "4",
    "optimizer.lr": "3e-3",
    "sample.every_epochs": "0",
    "sample.at_start": "false",
    "log.tensorboard": "false",
    "performance.threads": "1",
}


def run_with(
    folder: Path,
    changes: Mapping[str, str],
    *,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> Path:
    """The folder of a small run on a training set in ``folder/data``, made if it is not there."""
    if not (folder / "data").exists():
        write_training_set(folder / "data", images=IMAGES, regularisation=2, repeats=2)
    settings = {
        "data.path": str(folder / "data"),
        "save.output": str(folder / "out"),
        **PLAIN,
        **changes,
    }
    return train(load_settings(None, settings), observer=observer, controls=controls)


def losses(run: Path) -> list[float]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [record["loss"] for record in map(json.loads, lines) if record.get("loss") is not None]


def result_of(run: Path) -> Path:
    return run / f"{run.name}.safetensors"


@dataclass(frozen=True)
class FixedBatch:
    """The training images with noise and timesteps that never change."""

    model: DiffusionModel
    latents: torch.Tensor
    noise: torch.Tensor
    timesteps: torch.Tensor
    captions: list[str]

    def loss(self, prediction: str = "epsilon") -> float:
        """Plain mean squared error of the model as it is now."""
        schedule = DDPMSchedule("v" if prediction == "v" else "epsilon")
        noisy = schedule.add_noise(self.latents, self.noise, self.timesteps)
        target = schedule.target(self.latents, self.noise, self.timesteps)
        with torch.no_grad():
            text: Conditioning = self.model.encode_text(self.captions)
            found = self.model.denoise(noisy, self.timesteps, text)
        return float((found - target).square().mean())


@cache
def fixed_batch() -> FixedBatch:
    """The images of :func:`run_with`'s training set, each at four timesteps."""
    import tempfile

    model = load_model("demo")
    with tempfile.TemporaryDirectory() as work:
        write_training_set(Path(work), images=IMAGES, regularisation=2, repeats=2)
        paths = sorted(Path(work).glob("img/*/*.png"))
        pixels = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
        captions = [path.with_suffix(".txt").read_text(encoding="utf-8") for path in paths]
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        mean, _ = model.encode_images(images)
    timesteps = torch.tensor([100, 350, 600, 850]).repeat_interleave(len(paths))
    noise = torch.randn(len(timesteps), *mean.shape[1:], generator=torch.Generator().manual_seed(7))
    return FixedBatch(model, mean.repeat(4, 1, 1, 1), noise, timesteps, captions * 4)


def loss_with(file: Path, prediction: str = "epsilon") -> float:
    """Loss of the fixed batch with a LoRA file as users would load it."""
    batch = fixed_batch()
    network = AdapterNetwork.load(load_lora(file).tensors, batch.model.adapter_roots())
    with network.attached():
        return batch.loss(prediction)


def learns(folder: Path, changes: Mapping[str, str], *, continued: bool = False) -> Path:
    """Train with ``changes``; the loss of the fixed batch falls.

    Args:
        continued: see besides that training can go on from the file, for what changes files.

    Returns:
        The run folder.
    """
    prediction = changes.get("model.prediction", "epsilon")
    before = fixed_batch().loss(prediction)
    run = run_with(folder, {"train.steps": str(STEPS), **changes})
    file = result_of(run)
    tensors = load_file(file)
    assert tensors
    assert all(bool(tensor.isfinite().all()) for tensor in tensors.values())
    after = loss_with(file, prediction)
    assert after < before, f"the loss went from {before:.5f} to {after:.5f}"
    if continued:
        _continues(folder, changes, file)
    return run


def _continues(folder: Path, changes: Mapping[str, str], file: Path) -> None:
    """Two more steps from the file, too small to matter: the same adapters and numbers."""
    still = {"train.steps": "2", "adapter.init_from": str(file), "optimizer.name": "AdamW"}
    still |= {"optimizer.args": "{}", "optimizer.lr": "1e-9", "schedule.name": "constant"}
    still |= {"save.name": "more", "adapter.scale_weight_norms": "none"}
    for rate in ("optimizer.unet_lr", "optimizer.text_encoder_lr"):
        if rate in changes:
            still[rate] = "1e-9"
    more = run_with(folder, {**changes, **still})
    first, second = load_file(file), load_file(result_of(more))
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=1e-3, atol=1e-6)
