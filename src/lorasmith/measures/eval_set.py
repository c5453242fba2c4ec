"""From a run's captions to the trigger word, and to prompts with and without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lorasmith.data.captions import join_tags, split_tags
from lorasmith.sampling.from_dataset import stripped

# Captions with fewer tags behind the trigger are used as they are: there is little to exchange.
FEWEST_TAGS = 2


@dataclass(frozen=True, slots=True)
class Trigger:
    """What calls the subject.

    Args:
        text: "" where there is none.
        source: how it was found, for people.
    """

    text: str
    source: str

    def __bool__(self) -> bool:
        return bool(self.text)


def find_trigger(setting: str | None, captions: Sequence[str], separator: str = ",") -> Trigger:
    """The trigger of a run: its setting, else the first tag where all captions share it.

    A shared first tag is what a trigger that is kept in front looks like. Of a single caption
    nothing is known.
    """
    if setting:
        return Trigger(setting.strip(), "captions.trigger")
    rows = [split_tags(caption, separator) for caption in captions]
    firsts = {tags[0].lower() for tags in rows if tags}
    if len(rows) > 1 and len(firsts) == 1 and all(rows):
        return Trigger(rows[0][0], "the first tag of every caption")
    return Trigger("", "no setting captions.trigger, and the captions share no first tag")


def mixed_captions(captions: Sequence[str], trigger: str, separator: str = ",") -> list[str]:
    """Captions that no training image has, as far as that can be had.

    Behind the trigger, the first half of the tags of one caption and the second half of those of
    the next, so that an image that repeats a training image does not do what it was asked.
    Captions of few tags, such as sentences, stay as they are.
    """
    mixed: list[str] = []
    without = [trigger] if trigger else []
    rows = [split_tags(stripped(c, without, separator), separator) for c in captions]
    for number, caption in enumerate(captions):
        own, other = rows[number], rows[(number + 1) % len(rows)]
        if min(len(own), len(other)) < FEWEST_TAGS:
            mixed.append(caption.split("\n", 1)[0].strip())
            continue
        first, second = own[: len(own) // 2], other[len(other) // 2 :]
        tags = [trigger, *first, *(tag for tag in second if tag not in first)]
        mixed.append(join_tags((tag for tag in tags if tag), separator))
    return list(dict.fromkeys(mixed))


def spread(texts: Sequence[str], count: int) -> list[str]:
    """``count`` of them, evenly over the whole; fewer texts are repeated."""
    if not texts:
        return []
    if len(texts) >= count:
        return [texts[i * len(texts) // count] for i in range(count)]
    return [texts[i % len(texts)] for i in range(count)]
