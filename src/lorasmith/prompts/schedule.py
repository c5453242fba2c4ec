"""Points in time within an image's steps. Torch-free."""

from __future__ import annotations

import re
from dataclasses import dataclass

NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)"
_WHEN = re.compile(NUMBER, re.ASCII)

# Longer numbers are none that anybody means, and would be infinite.
_LONGEST = 12


@dataclass(frozen=True, slots=True)
class StepMark:
    """After so many steps, or after a share of them.

    As in the web UI since 1.6: a number with a point in it is a share, one without is a count.
    Over two passes ("hires fix") shares from 1 to 2 lie in the second, and counts run on.

    Args:
        written: as it stands in the prompt: ``0.5``, ``16``.
    """

    written: str

    @staticmethod
    def parse(text: str) -> StepMark | None:
        """``None`` for what is no number of steps; white space around it does not matter."""
        text = text.strip()
        return StepMark(text) if len(text) <= _LONGEST and _WHEN.fullmatch(text) else None

    @property
    def is_share(self) -> bool:
        return "." in self.written

    def steps(self, total: int, before: int = 0) -> int:
        """After how many of a pass' steps.

        Args:
            total: the steps of the pass.
            before: steps of the pass before it; 0 in the first.
        """
        if self.is_share:
            return max(0, int((float(self.written) - bool(before)) * total))
        return max(0, int(self.written) - before)


@dataclass(frozen=True, slots=True)
class StepRange:
    """From after ``start`` steps until after ``stop``; ``None`` is the image's begin or end."""

    start: StepMark | None = None
    stop: StepMark | None = None

    def holds(self, step: int, total: int, before: int = 0) -> bool:
        """Whether the step with this number, 0 for the first, lies within."""
        first = self.start.steps(total, before) if self.start is not None else 0
        return first <= step and (self.stop is None or step < self.stop.steps(total, before))


ALWAYS = StepRange()
