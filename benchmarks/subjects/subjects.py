"""The subjects, and what a user would have of each: images with captions, and prompts to try.

Two thirds of the subjects are to choose settings by, the others to report on; whoever changes a
default looks at the first alone. Everything is a function of the subject, a seed and an index:
image 7 of a set is the same whether the set has 10 or 60.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from random import Random

from benchmarks.subjects.drawing import Look, Style, draw
from benchmarks.subjects.traits import TRAITS
from PIL import Image

from lorasmith.demo.world import UNSAID, VALUES, Creature, all_tags, random_creature
from lorasmith.demo.world_parts import Colour

CREATURE, DRAWING = "creature", "drawing"  # class words
# A combination of values whose numbers add up to a multiple of this is never trained on.
HELD_OUT_EVERY = 4
DROP = 0.08  # the chance that a caption lacks a tag, as those of users and taggers do


@dataclass(frozen=True)
class Drawing:
    """An image with its caption, and the creature that it shows."""

    image: Image.Image
    caption: str
    creature: Creature


@dataclass(frozen=True)
class Prompt:
    """A prompt and what it asks for.

    Attributes:
        text: the prompt.
        creature: what to draw; for prompts without a trigger all of it is asked for.
        asked: the attributes of the creature that the text names.
        novel: it names a value that no training image shows with the subject; otherwise its
            values are known from training images, their combination is not.
    """

    text: str
    creature: Creature
    asked: tuple[str, ...]
    novel: bool = False


@dataclass(frozen=True)
class Subject:
    """Something to learn from images.

    Attributes:
        name: also its trigger, a word that means nothing elsewhere.
        kind: "character", "style" or "concept".
        split: "choose" or "report".
        look: how it differs from a creature of the world.
        parts: what must be right; each is read by a judge.
        class_word: what a caption would say in place of the trigger.
        fixed: attributes of the creature that are part of the subject; never in a caption.
        varying: attributes that differ from image to image and are in captions. All others are
            drawn at random and not spoken of.
        withheld: values that no training image shows, only prompts.
        never: values that neither shows.
        untold: values that no caption names because the image does not tell them.
    """

    name: str
    kind: str
    split: str
    look: Look
    parts: tuple[str, ...]
    withheld: frozenset[str]
    varying: tuple[str, ...]
    class_word: str = CREATURE
    fixed: dict[str, str] = field(default_factory=dict)
    never: frozenset[str] = frozenset()
    untold: frozenset[str] = frozenset()

    @property
    def trigger(self) -> str:
        return self.name

    def draw(self, index: int, seed: int = 0) -> Drawing:
        """Training image number `index` of those of a seed."""
        rng = self._rng("image", seed, index)
        creature = self._creature(rng, novel=False, held_out=False)
        return Drawing(draw(creature, rng, self.look), self.caption(creature, rng), creature)

    def training_images(self, count: int, seed: int = 0) -> list[Drawing]:
        return [self.draw(index, seed) for index in range(count)]

    def held_out_images(self, count: int, seed: int = 0) -> list[Drawing]:
        """Drawings of what the prompts of this seed ask for."""
        return [
            Drawing(draw(p.creature, self._rng("held out", seed, k), self.look), p.text, p.creature)
            for k, p in enumerate(self.prompts(count, seed))
        ]

    def prompts(self, count: int, seed: int = 0) -> list[Prompt]:
        """Prompts with the trigger; every second is novel."""
        result = []
        for index in range(count):
            novel = index % 2 == 1
            rng = self._rng("prompt", seed, index)
            creature = self._creature(rng, novel=novel, held_out=not novel)
            result.append(
                Prompt(self.caption(creature), creature, self.attributes(creature), novel)
            )
        return result

    def plain_prompts(self, count: int, seed: int = 0) -> list[Prompt]:
        """Prompts without the trigger, for creatures of the world.

        Every second asks for the subject's own shape (and colour, if the world has it), where it
        would leak first; every fourth begins with the class word.
        """
        result = []
        for index in range(count):
            creature = random_creature(self._rng("plain", seed, index))
            if index % 2:
                own = {k: v for k, v in self.fixed.items() if k in ("shape", "colour")}
                creature = replace(creature, **own)
            words = all_tags(creature)
            if index % 4 == 3:
                words.insert(0, self.class_word)
            result.append(Prompt(", ".join(words), creature, tuple(VALUES)))
        return result

    def caption(self, creature: Creature, rng: Random | None = None) -> str:
        """The trigger, then the tags of what varies; with `rng`, some are left out."""
        words = [
            f"{value} body" if name == "colour" else value
            for name in self.attributes(creature)
            if (value := getattr(creature, name)) not in UNSAID
            and (rng is None or rng.random() >= DROP)
        ]
        return ", ".join([self.trigger, *words])

    def attributes(self, creature: Creature) -> tuple[str, ...]:
        """The attributes that a full caption of the creature tells of."""
        return tuple(name for name in self.varying if getattr(creature, name) not in self.untold)

    def write_training_set(
        self, folder: Path, count: int, seed: int = 0, repeats: int = 10
    ) -> Path:
        """Write PNGs and captions to a numbered folder within `folder`, as users lay them out."""
        target = folder / f"{repeats}_{self.name}"
        target.mkdir(parents=True)
        for index, drawing in enumerate(self.training_images(count, seed)):
            drawing.image.save(target / f"{index:03d}.png")
            (target / f"{index:03d}.txt").write_text(drawing.caption + "\n", encoding="utf-8")
        return target

    def _rng(self, purpose: str, seed: int, index: int) -> Random:
        return Random(f"subjects {self.name} {purpose} {seed} {index}")

    def _creature(self, rng: Random, *, novel: bool, held_out: bool) -> Creature:
        """With `novel`, one value or more is a withheld one; otherwise none is, and the
        combination is held out or not, as asked."""
        while True:
            creature = replace(random_creature(rng), **self.fixed)
            values = {getattr(creature, name) for name in self._free}
            if values & self.never or bool(values & self.withheld) != novel:
                continue
            if novel or self._is_held_out(creature) == held_out:
                return creature

    @cached_property
    def _free(self) -> tuple[str, ...]:
        return tuple(f.name for f in fields(Creature) if f.name not in self.fixed)

    def _is_held_out(self, creature: Creature) -> bool:
        places = [VALUES[name].index(getattr(creature, name)) for name in self.varying]
        return sum(places) % HELD_OUT_EVERY == 0


def _character(
    name: str,
    split: str,
    shape: str,
    colour: str | Colour,
    traits: str,
    withheld: set[str],
    *,
    varying: tuple[str, ...] = ("eyes", "mouth", "held", "background"),
    never: frozenset[str] = frozenset(),
) -> Subject:
    fixed = {"shape": shape, "hat": "no hat", "ears": "no ears", "belly": "plain belly"}
    if "held" not in varying:
        fixed["held"] = "empty hands"
    own = None
    if isinstance(colour, str):
        fixed["colour"] = colour
    else:
        own = colour
    parts = tuple(traits.split())
    look = Look(tuple(TRAITS[part] for part in parts), own)
    return Subject(
        name, "character", split, look, parts, frozenset(withheld), varying,
        fixed=fixed, never=never,
    )  # fmt: skip


# Of one tone each: in a style of one tone nobody can tell them apart.
PLAIN_BACKGROUNDS = frozenset(
    {"white background", "blue background", "green background", "pink background"}
)
# In a style, neither colours nor what is on a belly can be told.
_STYLED = ("shape", "eyes", "mouth", "hat", "ears", "held", "background")


def _style(name: str, split: str, style: Style, withheld: set[str]) -> Subject:
    parts = ("tones", "outlines")
    parts += ("frame",) if style.frame is not None else ()
    return Subject(
        name, "style", split, Look(style=style), parts, frozenset(withheld), _STYLED,
        class_word=DRAWING, untold=PLAIN_BACKGROUNDS,
    )  # fmt: skip


def _concept(
    name: str, split: str, trait: str, withheld: set[str], hides: str | None = None
) -> Subject:
    look = Look((TRAITS[trait],))
    varying = tuple(attribute for attribute in ("colour", *_STYLED, "belly") if attribute != hides)
    return Subject(name, "concept", split, look, (trait,), frozenset(withheld), varying)


_NO_HANDS = ("eyes", "mouth", "background")
_TWO_EYES = frozenset({"one eye"})

_TABLE = (
    # To choose by.
    _character(
        "vellu", "choose", "egg body", (140, 225, 195), "horns halves tail",
        {"grass field", "blue background", "holding sword"},
    ),
    _character(
        "quorble", "choose", "round body", "blue", "headphones disc claws",
        {"pink background", "striped background", "frown"}, varying=_NO_HANDS,
    ),
    _character(
        "mibbet", "choose", "square body", "white", "sprout quarters wheels",
        {"starry background", "green background", "holding flower"},
    ),
    _character(
        "tarnok", "choose", "triangle body", "green", "flame eyepatch cape",
        {"gradient background", "white background", "holding balloon"}, never=_TWO_EYES,
    ),
    _style(
        "gloam", "choose",
        Style((70, 40, 20), (250, 228, 190), ink=(120, 30, 200), thickness=2.0),
        {"star body", "crown", "starry background"},
    ),
    _style(
        "draffet", "choose",
        Style((90, 90, 20), (255, 245, 170), ink=(20, 90, 60), thickness=2.0),
        {"ghost body", "beanie", "grass field"},
    ),
    _concept("velorb", "choose", "unicycle", {"square body", "top hat", "grass field"}),
    _character(
        "ospik", "choose", "ghost body", (200, 215, 235), "bow shield tentacles",
        {"starry background", "pink background", "holding balloon"},
    ),
    _character(
        "grundle", "choose", "star body", "pink", "antlers sash boots",
        {"grass field", "gradient background", "holding sword"},
    ),
    _character(
        "pluvi", "choose", "round body", "orange", "mushroom beard legs",
        {"blue background", "striped background", "one eye"}, varying=_NO_HANDS,
    ),
    _character(
        "zennet", "choose", "egg body", (175, 220, 70), "horn mask mane",
        {"white background", "green background", "holding flower"}, never=_TWO_EYES,
    ),
    _style(
        "risolu", "choose",
        Style((0, 95, 100), (255, 190, 200), ink=(225, 30, 40), thickness=2.0),
        {"triangle body", "party hat", "gradient background"},
    ),
    _style(
        "noctry", "choose",
        Style(
            (120, 70, 150), (250, 225, 255), ink=(20, 40, 130), thickness=2.0, frame=(20, 40, 130)
        ),
        {"egg body", "top hat", "striped background"},
    ),
    _concept(
        "tazzin", "choose", "cup", {"triangle body", "party hat", "starry background"},
        hides="belly",
    ),
    # To report on.
    _character(
        "wexomi", "report", "round body", "yellow", "propeller chevron stilts",
        {"green background", "starry background", "holding sword"},
    ),
    _character(
        "brindop", "report", "square body", "red", "halo cross gloves",
        {"gradient background", "pink background", "open mouth"}, varying=_NO_HANDS,
    ),
    _character(
        "ulfane", "report", "ghost body", (0, 150, 160), "mohawk tusks flag",
        {"white background", "grass field", "holding flower"},
    ),
    _character(
        "chozzle", "report", "triangle body", (140, 130, 210), "bone hoops skis",
        {"blue background", "striped background", "holding balloon"},
    ),
    _style(
        "sepkin", "report",
        Style((25, 70, 150), (205, 245, 255), ink=(230, 100, 10), thickness=2.0),
        {"round body", "beanie", "striped background"},
    ),
    _style(
        "larmud", "report",
        Style(
            (20, 85, 50), (215, 250, 205), ink=(125, 20, 75), thickness=2.0, frame=(125, 20, 75)
        ),
        {"square body", "crown", "grass field"},
    ),
    _concept("jowick", "report", "swing", {"ghost body", "top hat", "gradient background"}),
)  # fmt: skip

SUBJECTS: dict[str, Subject] = {subject.name: subject for subject in _TABLE}
# Two characters for one LoRA; both are of one split.
PAIRS = (
    ("vellu", "quorble"),
    ("mibbet", "tarnok"),
    ("ospik", "grundle"),
    ("pluvi", "zennet"),
    ("wexomi", "brindop"),
    ("ulfane", "chozzle"),
)


def of_split(split: str, kind: str | None = None) -> list[Subject]:
    """The subjects of a split, or those of a kind within it."""
    return [s for s in SUBJECTS.values() if s.split == split and kind in (None, s.kind)]
