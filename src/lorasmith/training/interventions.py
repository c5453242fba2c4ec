"""What was changed while a run went on, by a request or by the watchdog.

Each change belongs to a definite step, and what it does is a function of the step alone, as all of
a run is. So the list is part of the training state, and a resumed run repeats it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Intervention:
    """One change, from the step that follows ``step`` done ones.

    Args:
        by: who changed it.
        lr: what the learning rate is multiplied by.
        left_out: indices of dataset items that are trained on no more.
        in_fp32: names of modules that compute in float32 from then on.
        why: for people.
    """

    step: int
    by: Literal["request", "watchdog"]
    lr: float = 1.0
    left_out: tuple[int, ...] = ()
    in_fp32: tuple[str, ...] = ()
    why: str = ""

    def __str__(self) -> str:
        parts = [f"learning rate x {self.lr:g}"] if self.lr != 1 else []
        if self.left_out:
            parts.append(f"{len(self.left_out)} picture(s) left out")
        if self.in_fp32:
            parts.append(f"{', '.join(self.in_fp32)} in fp32")
        return ", ".join(parts)


class Interventions:
    """The changes so far, oldest first."""

    def __init__(self, changes: Iterable[Intervention] = ()) -> None:
        self._changes = list(changes)

    def __iter__(self) -> Iterator[Intervention]:
        return iter(self._changes)

    def __len__(self) -> int:
        return len(self._changes)

    def add(self, change: Intervention) -> None:
        """Take in ``change``. What the watchdog changed later than that counts from there too:
        going further back does not undo it."""
        if change.by == "watchdog":
            self._changes = [
                replace(old, step=min(old.step, change.step)) if old.by == "watchdog" else old
                for old in self._changes
            ]
        self._changes.append(change)

    def lr_factor(self, step: int) -> float:
        """What step ``step`` (from 0) multiplies its learning rates by."""
        return math.prod(change.lr for change in self._changes if change.step <= step)

    def left_out(self, step: int) -> frozenset[int]:
        """The dataset items that step ``step`` (from 0) does not train on."""
        return frozenset(
            item for change in self._changes if change.step <= step for item in change.left_out
        )

    @property
    def in_fp32(self) -> list[str]:
        """Modules that compute in float32, each once."""
        return list(dict.fromkeys(name for change in self._changes for name in change.in_fp32))

    @property
    def by_watchdog(self) -> int:
        return sum(change.by == "watchdog" for change in self._changes)

    def records(self) -> list[dict[str, Any]]:
        """JSON-ready values: what the state holds, and ``run.json`` for people."""
        return [
            {**asdict(change), "left_out": list(change.left_out), "in_fp32": list(change.in_fp32)}
            for change in self._changes
        ]

    @classmethod
    def of(cls, records: Sequence[Mapping[str, Any]]) -> Interventions:
        changes = [Intervention(**record) for record in records]
        return cls(
            replace(change, left_out=tuple(change.left_out), in_fp32=tuple(change.in_fp32))
            for change in changes
        )
