"""The complete training state, and nothing that a function of the step gives.

There is no generator state, no scheduler state and no position in the data: those are functions
of the seed and the step. What is left is the step, the trained parameters, the optimizer's memory,
the loss scale and the loss average that the progress line shows.
"""

from __future__ import annotations

import io
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lorasmith.errors import RunError
from lorasmith.files import write_bytes
from lorasmith.training.step import TrainStep

FORMAT = 1
# The newest, and the one before in case the newest turns out bad.
KEPT_STATES = 2
NAME = re.compile(r"step-(\d{8})\.pt$")


@dataclass(frozen=True, slots=True)
class Position:
    """Where a run stands: ``step`` optimizer steps are done."""

    step: int = 0
    smoothed_loss: float | None = None


def save_state(
    folder: Path, trainer: TrainStep, position: Position, keep: int = KEPT_STATES
) -> Path:
    """Write ``step-NNNNNNNN.pt`` into ``folder`` and remove all but the newest ``keep``.

    Raises:
        RunError: it could not be written; earlier states are intact.
    """
    content = {
        "format": FORMAT,
        "step": position.step,
        "smoothed_loss": position.smoothed_loss,
        "parameters": {group.name: group.flat.detach() for group in trainer.groups},
        "optimizer": trainer.optimizer.state_dict(),
        "scaler": trainer.scaler.state_dict() if trainer.scaler else None,
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path = folder / f"step-{position.step:08d}.pt"
    write_bytes(path, buffer.getvalue())
    for old in list_states(folder)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def list_states(folder: Path) -> list[Path]:
    """State files, oldest first."""
    return sorted(path for path in folder.glob("step-*.pt") if NAME.search(path.name))


def step_of(path: Path) -> int:
    """Steps that were done when the state was written."""
    match = NAME.search(path.name)
    assert match, path
    return int(match.group(1))


def load_state(path: Path, trainer: TrainStep) -> Position:
    """Put the state into ``trainer``.

    Raises:
        RunError: the file is damaged, from another version, or of another adapter or optimizer.
    """
    content = _read(path)
    for group in trainer.groups:
        saved = content["parameters"].get(group.name)
        if saved is None or saved.shape != group.flat.shape:
            raise RunError.of(
                path,
                f"does not hold this run's {group.name} parameters",
                "adapter settings cannot change on resume; start a new run instead",
            )
        group.flat.data.copy_(saved)
    trainer.optimizer.load_state_dict(content["optimizer"])
    if trainer.scaler is not None and content["scaler"] is not None:
        trainer.scaler.load_state_dict(content["scaler"])
    return Position(content["step"], content["smoothed_loss"])


def _read(path: Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise RunError.of(
            path,
            f"cannot be read as a training state: {error}",
            "remove it; the run resumes from the state before it",
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise RunError.of(path, "was written by another version of lorasmith", "start a new run")
    return content
