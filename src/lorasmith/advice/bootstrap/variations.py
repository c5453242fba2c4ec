"""What a round's drawings are asked for: captions that differ in view, pose and background.

From a file of prompts with wildcards; else from the words that the base model says of itself
(``preservation.prompts`` in its file's metadata); else from short lists of views, poses and
backgrounds that all models trained on tagged images know. Torch-free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from lorasmith.core.errors import PromptError, UserError
from lorasmith.core.rng import python_rng
from lorasmith.data.captions import join_tags, split_tags
from lorasmith.prompts.wildcards import Wildcards
from lorasmith.sampling.from_dataset import words_in

VIEWS = (
    "upper body", "full body", "cowboy shot", "portrait", "from side", "from behind", "from above",
    "from below",
)  # fmt: skip
POSES = (
    "standing", "sitting", "walking", "running", "arms up", "waving", "hands on hips", "lying",
)  # fmt: skip
BACKGROUNDS = (
    "white background", "simple background", "outdoors", "forest", "city street", "beach",
    "indoors", "night sky", "mountains", "snow",
)  # fmt: skip
GENERAL = (VIEWS, POSES, BACKGROUNDS)

# How much of what stands before and behind two words in the base's prompts must be the same for
# them to be of one kind, as an overlap of sets.
ALIKE = 0.6


@dataclass(frozen=True, slots=True)
class Variations:
    """
    Args:
        trigger: what calls the subject; in front of each caption.
        lines: of a file of prompts, their wildcards not yet drawn; they go before ``kinds``.
        kinds: of each thing that varies, the words for it.
        source: where they are from, in words.
    """

    trigger: str
    lines: tuple[str, ...] = ()
    kinds: tuple[tuple[str, ...], ...] = ()
    source: str = ""

    def captions(self, count: int, seed: int, wildcards: Wildcards | None = None) -> list[str]:
        """``count`` captions; every word of a kind comes as often as the others, in an order of
        chance that is fixed by ``seed``.

        Raises:
            PromptError: a line names a wildcard that there is not.
        """
        if self.lines:
            lines = _shuffled(self.lines, count, python_rng(seed, "bootstrap lines"))
            cards = wildcards or Wildcards()
            texts = [cards.expand(line, seed + n) for n, line in enumerate(lines)]
            return [self._called(text) for text in texts]
        columns = [
            _shuffled(kind, count, python_rng(seed, "bootstrap", number))
            for number, kind in enumerate(self.kinds)
        ]
        return [
            join_tags([self.trigger, *(column[row] for column in columns)], ",")
            for row in range(count)
        ]

    def _called(self, text: str) -> str:
        return text if words_in(text, [self.trigger]) else join_tags([self.trigger, text], ",")


def _shuffled(words: Sequence[str], count: int, rng: Random) -> list[str]:
    """Each as often as the others, the rounds in different orders."""
    row: list[str] = []
    while len(row) < count:
        row += rng.sample(list(words), len(words))
    return row[:count]


def choose_variations(
    trigger: str,
    captions: Sequence[str],
    *,
    file: Path | None = None,
    wildcards: Wildcards | None = None,
    base_prompts: Sequence[str] = (),
) -> Variations:
    """What varies in the drawings.

    Args:
        captions: of the images that were given; where the base says its words, what these name is
            what varies: what a caption leaves out belongs to the subject.
        file: prompts, one a line; lines that are blank or begin with ``#`` do not count.
        wildcards: of the file's lines.
        base_prompts: what the base model says that it is asked for.

    Raises:
        UserError: the file cannot be read, holds no prompt, or names a wildcard that there is not.
    """
    if file is not None:
        lines = _lines(file)
        for line in lines:
            (wildcards or Wildcards()).expand(line, 0)
        return Variations(trigger, tuple(lines), source=f"the prompts of {file}")
    if base_prompts:
        kinds = kinds_named(captions, trigger, base_prompts)
        source = "the base model's own words for what the captions name"
        return Variations(trigger, kinds=kinds, source=source)
    return Variations(trigger, kinds=GENERAL, source="views, poses and backgrounds")


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError.of("prompts", f"{file} cannot be read as text", "give a UTF-8 file") from (
            error
        )
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise PromptError.of("prompts", f"{file} holds no prompt", "write one a line")
    return lines


def kinds_named(
    captions: Sequence[str], trigger: str, prompts: Sequence[str]
) -> tuple[tuple[str, ...], ...]:
    """For each tag of the captions that the prompts know, all that could stand in its place."""
    alternatives = words_by_kind(prompts)
    kinds: dict[frozenset[str], tuple[str, ...]] = {}
    for caption in captions:
        for tag in split_tags(caption):
            if tag != trigger and tag in alternatives:
                words = (tag, *alternatives[tag])
                if not any(tag in kind for kind in kinds.values()):
                    kinds.setdefault(frozenset(words), words)
    return tuple(kinds.values())


def words_by_kind(prompts: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    """For each tag of prompts that keep one order, the tags that are of its kind: those that never
    stand before or behind it, not even by way of others, and that have the same around them.

    >>> words = words_by_kind(
    ...     [
    ...         "red hat, smile, forest",
    ...         "red hat, frown, beach",
    ...         "blue hat, smile, beach",
    ...         "blue hat, frown, forest",
    ...     ]
    ... )
    >>> words["beach"]
    ('forest',)
    """
    rows = [split_tags(prompt) for prompt in prompts]
    tags = list(dict.fromkeys(tag for row in rows for tag in row))
    behind: dict[str, set[str]] = {tag: set() for tag in tags}
    for row in rows:
        for place, tag in enumerate(row):
            behind[tag].update(row[place + 1 :])
    # What stands behind something that stands behind a tag, stands behind the tag.
    grew = True
    while grew:
        grew = False
        for tag in tags:
            wider = behind[tag].union(*(behind[other] for other in behind[tag]))
            grew |= wider != behind[tag]
            behind[tag] = wider
    before = {tag: {other for other in tags if tag in behind[other]} for tag in tags}
    candidates = {
        tag: [
            other
            for other in tags
            if other != tag
            and other not in behind[tag] | before[tag]
            and _overlap(behind[tag], behind[other]) >= ALIKE
            and _overlap(before[tag], before[other]) >= ALIKE
        ]
        for tag in tags
    }
    return {tag: tuple(_agreed(tag, candidates)) for tag in tags}


def _agreed(tag: str, candidates: Mapping[str, Sequence[str]]) -> list[str]:
    """Without those that are there by chance, which few prompts leave: they share no word with the
    tag, and most of the others are none of theirs."""
    others = candidates[tag]
    return [
        other
        for other in others
        if _ends(tag) & _ends(other)
        or 2 * len(set(candidates[other]) & set(others)) >= len(others) - 1
    ]


def _ends(tag: str) -> set[str]:
    words = tag.split()
    return {words[0], words[-1]} if len(words) > 1 else set()


def _overlap(one: set[str], other: set[str]) -> float:
    return len(one & other) / len(one | other) if one | other else 1.0
