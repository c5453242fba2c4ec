"""Parts of the model that a step does not need, kept off the accelerator."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn

from lorasmith.models.sd import DiffusionModel


def park(model: DiffusionModel, *modules: nn.Module) -> None:
    """Move ``modules`` to main memory; on a CPU they are there already."""
    if model.device.type != "cpu":
        for module in modules:
            module.to("cpu")


@contextlib.contextmanager
def awake(model: DiffusionModel) -> Iterator[None]:
    """The whole model on its device within the block; parked parts go back after it."""
    homes = {
        module: next(module.parameters()).device
        for module in (model.vae, *model.text_encoders.values())
    }
    for module in homes:
        module.to(model.device)
    try:
        yield
    finally:
        for module, home in homes.items():
            module.to(home)
