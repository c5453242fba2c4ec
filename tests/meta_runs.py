"""Whole training steps on the meta device, and what in them is elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from lorasmith.config.load import load_settings
from lorasmith.config.schema import TrainSettings
from lorasmith.models.diffusion_model import Conditioning, DiffusionModel
from lorasmith.models.families.table import Architecture
from lorasmith.models.load import assemble, empty_modules, fill_buffers
from lorasmith.training.ema import Ema
from lorasmith.training.lr_schedules import learning_rate
from lorasmith.training.memory.simulate import SimulatedRun, Workload
from lorasmith.training.objective import MicroBatch, build_objective
from lorasmith.training.optim import build_optimizer
from lorasmith.training.setup.processes import Processes
from lorasmith.training.step import TrainStep
from tests.one_device import META, OneDevice, strays

SIDE = 64
"""Of an image in pixels: how large it is changes nothing of what is done."""

BY_DESIGN_ON_CPU = (
    # Random numbers are drawn on the CPU whatever the device, and what is made of them there, from
    # a schedule of its own.
    ".objective.schedule.",
    # 4 bytes a module; the step's keys are a function of them.
    ".trained._masking._ids",
    ".trained._masking._ids",
)
ON_CPU = (
    "lorasmith/adapters/dropout.py", "lorasmith/adapters/masking.py",
    "lorasmith/diffusion/", "lorasmith/tensors/rng.py", "lorasmith/training/objective.py",
    "lorasmith/tensors/quantization.py:_fours",  # A table, made once a process.
)  # fmt: skip
"""Where operations on the CPU are meant."""

UPLOADS = (
    "lorasmith/tensors/transfer.py:to_device",
    "lorasmith/adapters/masking.py:Masking.begin_step",
    "lorasmith/models/diffusion_model.py:DiffusionModel.encode_rows",
    "lorasmith/tensors/quantization.py:_fours",
)
"""Where what was made there goes to the device."""


class MetaRun:
    """A trainer without numbers.

    Args:
        settings: values by path, as ``--set`` has them.
    """

    def __init__(
        self,
        settings: Mapping[str, str],
        architecture: Architecture,
        dtype: torch.dtype = torch.float32,
        *,
        channels_last: bool = False,
    ) -> None:
        self.settings: TrainSettings = load_settings(None, dict(settings))
        batch = self.settings.train.batch
        use = Workload(
            SIDE, SIDE, (SIDE, SIDE, batch), None, True, True, channels_last=channels_last
        )
        run = SimulatedRun(self.settings, architecture, dtype, use)
        self.model, self.trained, groups = run.model, run.trained, run.groups
        self.trained.attach()
        optimizer = self.settings.optimizer
        with on_meta():
            self.trainer = TrainStep(
                run.model,
                run.trained,
                groups,
                build_optimizer(optimizer.name, groups, optimizer.args),
                learning_rate(self.settings, 10),
                build_objective(self.settings, run.model),
                Processes(META),
                max_grad_norm=optimizer.max_grad_norm,
                scaler=torch.amp.GradScaler("meta") if dtype == torch.float16 else None,
                ema=Ema(groups, self.settings.train.ema) if self.settings.train.ema else None,
            )

    def batch(self, step: int) -> MicroBatch:
        count = self.settings.train.batch
        side = SIDE // self.model.latent_factor
        shape = (count, self.model.architecture.latent_channels, side, side)
        mask = torch.ones(count, 1, side, side) if self.settings.loss.masked != "off" else None
        return MicroBatch(
            torch.zeros(shape),
            torch.ones(shape),
            lambda: self._condition(count),
            torch.ones(count),
            list(range(step, step + count)),
            mask,
        )

    def _condition(self, count: int) -> Conditioning:
        return self.model.encode_text(["a"] * count).with_size_ids(torch.zeros(count, 6))

    def step(self, number: int) -> OneDevice:
        """Do a step; what was seen of it."""
        with OneDevice() as seen, on_meta():
            self.trainer(number, [self.batch(number)], self.settings.train.batch)
        return seen


def meta_model(architecture: Architecture, dtype: torch.dtype = torch.float32) -> DiffusionModel:
    """A model without numbers."""
    modules = empty_modules(architecture)
    for part, module in modules.items():
        nn.Module.to(module, dtype=torch.float32 if part == "vae" else dtype)
        fill_buffers(module, META)
    return assemble(architecture, modules, dtype, META)


@contextlib.contextmanager
def on_meta() -> Iterator[None]:
    """Optimizers in one kernel, which CUDA has and meta has not, made there all the same."""
    optimizers = sys.modules["torch.optim.optimizer"]
    kinds = optimizers._get_fused_kernels_supported_devices()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optimizers, "_get_fused_kernels_supported_devices", lambda: [*kinds, "meta"])
        yield


@dataclass(frozen=True)
class Elsewhere:
    """What a run has or does away from its device; empty when all is well."""

    tensors: tuple[str, ...]
    mixed: tuple[str, ...]
    read: tuple[str, ...]
    on_cpu: tuple[str, ...]
    uploads: tuple[str, ...]

    def __bool__(self) -> bool:
        return any((self.tensors, self.mixed, self.read, self.on_cpu, self.uploads))


def elsewhere(run: MetaRun, seen: OneDevice) -> Elsewhere:
    """But for what is meant to be."""
    tensors = [path for path in strays(run.trainer) if not path.startswith(BY_DESIGN_ON_CPU)]
    return Elsewhere(
        tuple(tensors),
        (*seen.mixed, *seen.scalars),
        tuple(seen.read),
        tuple(place for place in seen.on_cpu if not place.startswith(ON_CPU)),
        tuple(place for place in seen.uploads if not place.startswith(UPLOADS)),
    )
