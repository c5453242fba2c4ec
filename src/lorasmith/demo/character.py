"""The demo's new character, a zorp: its training set, and prompts to judge a LoRA of it.

A zorp is a round purple creature whose lower half is orange, with two long antennae and large
teal wings. The base model has never seen any of these parts, nor the word.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from lorasmith.core.files import atomic_path, write_text
from lorasmith.demo.world import VALUES, Creature, Extras, draw, random_creature, tags

TRIGGER = "zorp"
CLASS = "creature"  # the word that regularisation folders are named by
ZORP = Extras(lower=(245, 140, 30), antennae=(250, 225, 60), wings=(40, 190, 190), arms=False)
# Attributes that vary from zorp to zorp; the others are the character and are never tagged.
VARYING = ("eyes", "mouth", "background")
NOVEL_TAGS = ("top hat", "crown", "party hat", "beanie", "holding sword", "holding balloon")


@dataclass(frozen=True)
class Prompt:
    """A prompt and the creature that it asks for."""

    text: str
    creature: Creature


def random_zorp(rng: Random) -> Creature:
    return replace(
        random_creature(rng),
        shape="round body",
        colour="purple",
        hat="no hat",
        ears="no ears",
        held="empty hands",
        belly="plain belly",
    )


def varied_zorps(count: int, rng: Random) -> list[Creature]:
    """Zorps that go through all eyes, mouths and backgrounds evenly, as a good set does: what all
    images share is taken for the character."""

    def spread(attribute: str) -> list[str]:
        values: list[str] = []
        while len(values) < count:
            values += rng.sample(VALUES[attribute], len(VALUES[attribute]))
        return values[:count]

    rows = zip(*(spread(attribute) for attribute in VARYING), strict=True)
    return [replace(random_zorp(rng), **dict(zip(VARYING, values, strict=True))) for values in rows]


def draw_zorp(creature: Creature, rng: Random) -> np.ndarray:
    """An image of a zorp, uint8 (64, 64, 3)."""
    return draw(creature, rng, ZORP)


def zorp_caption(creature: Creature) -> str:
    """The trigger, then what varies: what the character is must be learned by the trigger."""
    return ", ".join([TRIGGER, *(getattr(creature, attribute) for attribute in VARYING)])


def write_training_set(
    folder: Path,
    *,
    images: int = 12,
    regularisation: int = 48,
    repeats: int = 25,
    regularisation_repeats: int = 1,
    seed: int = 0,
) -> None:
    """Write zorps and plain creatures, each with a caption file, in the folder layout of kohya.

    Args:
        folder: gets `img/<repeats>_zorp` and `reg/<repeats>_creature`.
        images: zorps, captioned with the trigger and what varies.
        regularisation: plain creatures, captioned with all their tags and no trigger.
        repeats: of the zorps in an epoch, in the folder's name.
        regularisation_repeats: of the plain creatures.
        seed: the same seed writes the same files.
    """
    rng = Random(f"training set {seed}")
    for index, creature in enumerate(varied_zorps(images, rng)):
        path = folder / "img" / f"{repeats}_{TRIGGER}" / f"zorp_{index:03d}"
        _write(path, draw_zorp(creature, rng), zorp_caption(creature))
    for index in range(regularisation):
        creature = random_creature(rng)
        path = folder / "reg" / f"{regularisation_repeats}_{CLASS}" / f"creature_{index:03d}"
        _write(path, draw(creature, rng), ", ".join(tags(creature)))


def _write(path: Path, image: np.ndarray, caption: str) -> None:
    with atomic_path(path.with_suffix(".png")) as temporary:
        Image.fromarray(image).save(temporary, format="PNG")
    write_text(path.with_suffix(".txt"), caption + "\n")


def trigger_prompts(count: int, seed: int = 0) -> list[Prompt]:
    """Prompts for zorps with eyes, mouths and backgrounds at random."""
    rng = Random(f"trigger prompts {seed}")
    creatures = [random_zorp(rng) for _ in range(count)]
    return [Prompt(zorp_caption(creature), creature) for creature in creatures]


def plain_prompts(count: int, seed: int = 0) -> list[Prompt]:
    """Prompts of the base world with all tags and no trigger."""
    rng = Random(f"plain prompts {seed}")
    creatures = [random_creature(rng) for _ in range(count)]
    return [Prompt(", ".join(tags(creature)), creature) for creature in creatures]


def novel_prompts(count: int, seed: int = 0) -> list[Prompt]:
    """Prompts for zorps with a hat or a held thing, which no training image shows."""
    prompts = []
    for index, prompt in enumerate(trigger_prompts(count, seed)):
        tag = NOVEL_TAGS[index % len(NOVEL_TAGS)]
        attribute = "held" if tag.startswith("holding") else "hat"
        creature = replace(prompt.creature, **{attribute: tag})
        text = ", ".join([TRIGGER, tag, creature.eyes, creature.background])
        prompts.append(Prompt(text, creature))
    return prompts
