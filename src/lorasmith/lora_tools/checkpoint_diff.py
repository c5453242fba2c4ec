"""Two checkpoints of one family, weight by weight from their mapped files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from lorasmith.core.errors import CheckpointError, Problem
from lorasmith.core.text import quantity, shortlist
from lorasmith.models.open import OpenedCheckpoint, open_checkpoint
from lorasmith.models.skeleton import skeleton_roots, stored_shapes
from lorasmith.models.weights import MappedWeights

_SHOWN = 5


class Differences:
    """What was changed between a base model and one that was tuned from it.

    Tensors that it hands out share memory: each is good until the next.

    Args:
        base, tuned: see :func:`lorasmith.models.open.open_checkpoint`.
        dtype: both weights are rounded to it, and their difference is taken in it, before it
            becomes float32; float32 is exact for whatever half precision a file has.

    Raises:
        CheckpointError: one cannot be read, they are one file, or not two models of one shape;
            every problem.
    """

    def __init__(
        self, base: str | Path, tuned: str | Path, dtype: torch.dtype = torch.float32
    ) -> None:
        self.base, self.tuned = open_checkpoint(base), open_checkpoint(tuned)
        self.dtype = dtype
        self.shapes = stored_shapes(self.base)
        problems = _misfits(self.base, self.tuned)
        if problems:
            raise CheckpointError(problems)
        self.roots = skeleton_roots(self.base.architecture, self.shapes)
        self._weights = MappedWeights()
        self._scratch = [torch.empty(0), torch.empty(0)]

    def of(self, part: str, name: str) -> Tensor:
        """tuned - base of one weight, float32 in its module's shape."""
        base, tuned = self._read(part, name)
        change = self._room(0, tuple(base.shape))
        if self.dtype == torch.float32:
            change.copy_(tuned)
            # Types are mixed more slowly than they are converted.
            change -= self._room(1, tuple(base.shape)).copy_(base)
        else:
            change.copy_(tuned.to(self.dtype) - base.to(self.dtype))
        self._release(part, name)
        return change

    def differs(self, part: str, name: str) -> bool:
        """Whether a weight is another number anywhere."""
        base, tuned = self._read(part, name)
        same = torch.equal(base, tuned) if base.dtype == tuned.dtype else None
        self._release(part, name)
        return bool((self.of(part, name) != 0.0).any()) if same is None else not same

    def largest(self, part: str, names: Iterable[str], enough: float) -> float:
        """The largest absolute difference, or the first that is above ``enough`` or NaN."""
        largest = 0.0
        for name in names:
            low, high = (float(value) for value in torch.aminmax(self.of(part, name)))
            if not max(-low, high) <= enough:
                return max(-low, high)
            largest = max(largest, -low, high)
        return largest

    def unusable(self, part: str, name: str) -> Problem:
        """Which of the two models a difference that is no number comes from."""
        pairs = zip((self.base, self.tuned), self._read(part, name), strict=True)
        broken = [opened for opened, weight in pairs if not weight.float().isfinite().all()]
        opened = broken[0] if broken else self.tuned
        stored = opened.weights[part][name]
        if broken:
            what = f"{stored.place.name} holds NaN or infinity"
            return Problem(str(stored.file.path), what, "get another version of this file")
        what = f"{stored.place.name} differs by more than {str(self.dtype)[6:]} can hold"
        return Problem(str(stored.file.path), what, "take the difference in fp32")

    def _read(self, part: str, name: str) -> tuple[Tensor, Tensor]:
        base, tuned = (
            self._weights.read(part, name, opened.weights[part][name])
            for opened in (self.base, self.tuned)
        )
        return base, tuned

    def _release(self, part: str, name: str) -> None:
        for opened in (self.base, self.tuned):
            self._weights.release(opened.weights[part][name])

    def _room(self, which: int, shape: tuple[int, ...]) -> Tensor:
        size = torch.Size(shape).numel()
        if self._scratch[which].numel() < size:
            self._scratch[which] = torch.empty(size)
        return self._scratch[which][:size].view(shape)


def _misfits(base: OpenedCheckpoint, tuned: OpenedCheckpoint) -> list[Problem]:
    files = [
        {stored.file.path.resolve() for stored in opened.weights["unet"].values()}
        for opened in (base, tuned)
    ]
    if files[0] == files[1]:
        return [Problem(tuned.source, "is the base model itself", "give the tuned model's file")]
    families = [opened.architecture.family.title for opened in (base, tuned)]
    if families[0] != families[1]:
        what = f"is of {families[1]}, the base model of {families[0]}"
        return [Problem(tuned.source, what, "give the model that it was tuned from")]
    shapes = [stored_shapes(opened) for opened in (base, tuned)]
    problems = []
    for part in base.architecture.family.parts:
        if part == "vae":
            continue
        old, new = (by_part[part] for by_part in shapes)
        missing = sorted(old.keys() - new.keys()) + sorted(new.keys() - old.keys())
        wrong = [name for name in old if name in new and old[name] != new[name]]
        if missing:
            what = (
                f"{quantity(len(missing), 'weight')} of the {part} "
                f"{'is' if len(missing) == 1 else 'are'} in one of the two alone"
            )
            problems.append(Problem(tuned.source, f"{what}: {shortlist(missing, _SHOWN)}"))
        if wrong:
            what = (
                f"{quantity(len(wrong), 'weight')} of the {part} "
                f"{'has' if len(wrong) == 1 else 'have'} another shape than the base model's"
            )
            problems.append(Problem(tuned.source, f"{what}: {shortlist(wrong, _SHOWN)}"))
    return problems
