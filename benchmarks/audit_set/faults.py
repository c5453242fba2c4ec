"""What is planted: faults as users make them, and what would count as finding each.

Kinds of findings are named in words here, as a user's list of wishes has them; which rules speak
of a kind stands in scoring.py. ``kinds`` are those that count as finding the fault, ``also``
those that are true of its files besides: a blank picture is dark or light as well.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random

from benchmarks.audit_set.pictures import Picture, TrainingSet


@dataclass
class Fault:
    what: str  # in words
    files: set[str]  # names of pictures concerned; empty: a whole folder or the set
    kinds: set[str]
    also: set[str]
    tags: set[str]
    name: str = ""


class Planter:
    """Picks pictures that have no other fault, by lot."""

    def __init__(self, made: TrainingSet, seed: str) -> None:
        self.set, self.rng = made, Random(f"faults {seed}")
        self.spent: set[str] = set()

    def pick(
        self,
        count: int = 1,
        concepts: Iterable[str] = ("first", "second", "style"),
        where: Callable[[Picture], bool] = lambda picture: True,
    ) -> list[Picture]:
        """``count`` unspent pictures of one concept.

        Raises:
            LookupError: There are not so many.
        """
        order = self.rng.sample(sorted(concepts), len(list(concepts)))
        for concept in order:
            free = [p for p in self.set.of(concept) if p.name not in self.spent and where(p)]
            if len(free) >= count:
                chosen = self.rng.sample(free, count)
                self.spent |= {picture.name for picture in chosen}
                return chosen
        raise LookupError(f"no {count} pictures left")

    def some(self, least: int, most: int, **options: object) -> list[Picture]:
        return self.pick(self.rng.randint(least, most), **options)  # type: ignore[arg-type]


Plant = Callable[[Planter], Fault]
IMAGE_FAULTS: dict[str, Plant] = {}
CAPTION_FAULTS: dict[str, Plant] = {}
CONCEPT_FAULTS: dict[str, Plant] = {}


def fault(
    what: str,
    pictures: Iterable[Picture],
    kinds: str,
    also: str = "",
    tags: Iterable[str] = (),
) -> Fault:
    """``kinds`` and ``also`` with commas."""

    def split(text: str) -> set[str]:
        return {kind.strip() for kind in text.split(",") if kind.strip()}

    return Fault(what, {p.name for p in pictures}, split(kinds), split(also), set(tags))


def register(table: dict[str, Plant]) -> Callable[[Plant], Plant]:
    def add(plant: Plant) -> Plant:
        table[plant.__name__.replace("_", " ")] = plant
        return plant

    return add


def plant_faults(made: TrainingSet, seed: str, counts: tuple[int, int, int]) -> list[Fault]:
    """So many faults of pictures, captions and concepts, each of another kind, by lot; where there
    is no picture left for one, it gives way to another.

    Those of concepts come last, as they rename folders and touch every caption of one.
    """
    planter = Planter(made, seed)
    faults = []
    for table, count in zip([IMAGE_FAULTS, CAPTION_FAULTS, CONCEPT_FAULTS], counts, strict=True):
        chosen = set(planter.rng.sample(sorted(table), count))
        others = [name for name in table if name not in chosen]
        left = count
        for name in [*(name for name in table if name in chosen), *others]:
            if left:
                with contextlib.suppress(LookupError):
                    one = table[name](planter)
                    one.name = name
                    faults.append(one)
                    left -= 1
    return faults
