"""The samples of a step, for random draws that hang together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class GlobalBatch:
    """A step's samples over all micro-batches and processes, in their order.

    Args:
        samples: the ids that name the draws of each alone.
        images: the number of each one's image.
        showings: how often that image was shown before, since the beginning of the run.
    """

    samples: tuple[int, ...]
    images: tuple[int, ...]
    showings: tuple[int, ...]

    @staticmethod
    def of_strangers(samples: Sequence[int]) -> GlobalBatch:
        """Samples of as many images, none of which was shown before."""
        return GlobalBatch(tuple(samples), tuple(samples), (0,) * len(samples))

    @property
    def repetitions(self) -> list[int]:
        """How often each one's image comes before it in the same step."""
        seen: Counter[int] = Counter()
        repetitions = []
        for image in self.images:
            repetitions.append(seen[image])
            seen[image] += 1
        return repetitions

    def of(self, values: Sequence[T], samples: Sequence[int]) -> list[T]:
        """Those of ``values``, one for each sample of the step, that are of ``samples``."""
        by_sample = dict(zip(self.samples, values, strict=True))
        return [by_sample[sample] for sample in samples]
