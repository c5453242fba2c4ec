"""The complete training state, and nothing that a function of the step gives.

There is no generator state, no scheduler state and no position in the data: those are functions
of the seed and the step. What is left is the step, the trained parameters and their average, the
optimizer's memory, the loss scale, what was changed on the way, and the loss average that the
progress line shows.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lorasmith.core.disk import discard
from lorasmith.core.errors import RunError
from lorasmith.core.files import atomic_path
from lorasmith.models.weights import is_finite
from lorasmith.tensors.files import LOAD_ERRORS, load_torch_file
from lorasmith.training.interventions import Interventions
from lorasmith.training.optim import packed, unpacked
from lorasmith.training.runs.folder import KEPT_STATES
from lorasmith.training.step import TrainStep

FORMAT = 2
# No ending that web UIs list as a model: ComfyUI looks into hidden folders, too.
_ENDING = ".state"
_NAME = re.compile(r"step-(\d{8})\.(?:state|pt)")  # .pt as earlier versions wrote it


@dataclass(frozen=True, slots=True)
class Position:
    """Where a run stands: ``step`` optimizer steps are done."""

    step: int = 0
    smoothed_loss: float | None = None


def content_of(trainer: TrainStep, position: Position) -> dict[str, Any]:
    """The state as plain values; its tensors are the trainer's own, not copies."""
    return {
        "format": FORMAT,
        "step": position.step,
        "smoothed_loss": position.smoothed_loss,
        "parameters": {group.name: packed(group.tensors) for group in trainer.groups},
        "optimizer": trainer.optimizer.state_dict(),
        "scaler": trainer.scaler.state_dict() if trainer.scaler else None,
        "ema": trainer.ema.state_dict() if trainer.ema else None,
        "interventions": trainer.interventions.records(),
    }


def put_back(content: dict[str, Any], trainer: TrainStep, where: Path) -> Position:
    """Put numbers from :func:`content_of` into ``trainer``; ``content`` belongs to it afterwards.

    The list of interventions stays: it says which steps it is about.

    Raises:
        RunError: they are of another adapter; ``where`` they came from.
    """
    for group in trainer.groups:
        values = unpacked(content["parameters"].get(group.name, []))
        if [value.shape for value in values] != [tensor.shape for tensor in group.tensors]:
            raise RunError.of(
                where,
                f"does not hold this run's {group.name} parameters",
                "what is trained cannot change on resume; start a new run instead",
            )
        group.take(values)
    trainer.optimizer.load_state_dict(content["optimizer"])
    _bring_group_numbers(trainer.optimizer)
    if trainer.scaler is not None and content["scaler"] is not None:
        trainer.scaler.load_state_dict(content["scaler"])
    if trainer.ema is not None:
        trainer.ema.load_state_dict(content["ema"])
    return Position(content["step"], content["smoothed_loss"])


def _bring_group_numbers(optimizer: torch.optim.Optimizer) -> None:
    """Put tensors that an optimizer keeps for a whole group where the group is; PyTorch does so for
    those of single parameters alone."""
    for group in optimizer.param_groups:
        device = group["params"][0].device
        group.update({k: v.to(device) for k, v in group.items() if isinstance(v, torch.Tensor)})


def save_state(
    folder: Path, trainer: TrainStep, position: Position, keep: int = KEPT_STATES
) -> Path:
    """Write ``step-NNNNNNNN.state`` into ``folder`` and remove all but the newest ``keep``.

    Raises:
        RunError: it holds NaN or infinity, or could not be written; earlier states are intact.
    """
    path = folder / f"step-{position.step:08d}{_ENDING}"
    for group in trainer.groups:
        if not all(is_finite(tensor) for tensor in group.tensors):
            raise RunError.of(
                path, f"{group.name} weights are no numbers; not written", "lower optimizer.lr"
            )
    with atomic_path(path) as temporary, _Out(io.FileIO(temporary, "wb")) as out:
        try:
            torch.save(content_of(trainer, position), out)
        except RuntimeError as error:
            # Where a write has failed, torch says no more than that its file is too short.
            raise out.error or error from error
    for old in list_states(folder)[:-keep]:
        discard(old)
    return path


class _Out(io.BufferedWriter):
    """A file as torch writes it, which remembers what the system has refused."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.error = error
            raise


def list_states(folder: Path) -> list[Path]:
    """State files, oldest first."""
    return sorted(path for path in folder.glob("step-*") if _NAME.fullmatch(path.name))


def step_of(path: Path) -> int:
    """Steps that were done when the state was written."""
    match = _NAME.fullmatch(path.name)
    assert match, path
    return int(match.group(1))


def load_state(path: Path, trainer: TrainStep) -> Position:
    """Put the state into ``trainer``, what was changed on the way with it.

    Raises:
        RunError: the file is damaged, from another version, or of another adapter or optimizer.
    """
    content = read_state(path)
    trainer.interventions = Interventions.of(content["interventions"])
    return put_back(content, trainer, path)


def read_state(path: Path) -> dict[str, Any]:
    """What :func:`save_state` wrote, on the CPU.

    Raises:
        RunError: the file is damaged or from another version.
    """
    try:
        content = load_torch_file(path)
    except LOAD_ERRORS as error:
        raise RunError.of(
            path,
            f"cannot be read as a training state: {error}",
            "remove it; the run resumes from the state before it",
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise RunError.of(path, "was written by another version of lorasmith", "start a new run")
    return content
