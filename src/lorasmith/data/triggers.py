"""The word that calls up what a folder shows: found in its captions or its name, and put in front
of captions that lack it. Files stay as they are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lorasmith.config.sections.data import CaptionSettings
from lorasmith.config.values import AUTO
from lorasmith.core.text import quantity
from lorasmith.data.captions import join_tags, readings, split_tags
from lorasmith.data.layout import FolderSpec, folder_name
from lorasmith.data.scan import DatasetImage, Scan

# A first tag that so many of a folder's captions share is the trigger, forgotten in the others.
SHARE = 0.8
# A single caption shares its first tag with itself, which says nothing.
FEWEST_CAPTIONS = 2
# A tag of more words is a sentence.
MOST_WORDS = 5

# What captions begin with whatever they show.
GENERIC_TAGS = frozenset(
    (
        *("1girl", "1boy", "1other", "2girls", "2boys", "multiple girls", "multiple boys", "solo"),
        *("no humans", "simple background", "white background", "masterpiece", "best quality"),
        *("high quality", "amazing quality", "very aesthetic", "absurdres", "highres", "photo"),
    )
)


@dataclass(frozen=True, slots=True)
class Trigger:
    """What calls up the images of a folder of training images.

    Args:
        text: one tag or several; "" where there is none.
        source: how it was found, for people.
        folder: whose captions have it.
        captions: how many these are.
        added: in front of how many of them it was put.
    """

    text: str
    source: str
    folder: Path
    captions: int
    added: int = 0

    def __str__(self) -> str:
        if not self.text:
            return f"none: {self.source}"
        if not self.added:
            return f"{self.text} ({self.source})"
        of = f"{self.added} of {quantity(self.captions, 'caption')}"
        return f"{self.text} ({self.source}), put in front of {of}; the files stay as they are"


def trigger_words(triggers: Iterable[Trigger]) -> list[str]:
    """The different words, in the order of their folders."""
    return list(dict.fromkeys(trigger.text for trigger in triggers if trigger.text))


def apply_triggers(scan: Scan, rules: CaptionSettings) -> tuple[Scan, tuple[Trigger, ...]]:
    """The scan with each folder's trigger in its rules and in front of its captions.

    Args:
        rules: for captions of folders without rules of their own; ``trigger`` may be "auto".

    Returns:
        The scan, whose folders all have rules of their own, with the trigger's tags kept in front;
        and the triggers, one for each folder of training images. Those of regularisation folders
        are empty.
    """
    images, folders, triggers = list(scan.images), list(scan.folders), []
    for index, spec in enumerate(scan.folders):
        own = spec.rules or rules
        if spec.reg:
            folders[index] = replace(spec, rules=own.model_copy(update={"trigger": ""}))
            continue
        places = [place for place, image in enumerate(images) if image.folder == index]
        text, source = find_trigger(spec, [images[place] for place in places], own)
        folders[index] = replace(spec, rules=_keeping(own, text))
        added = 0
        for place in places:
            caption = images[place].caption or ""
            with_trigger = in_front(caption, text, own)
            added += with_trigger != caption and not _has_all(caption, text, own)
            if (with_trigger or None) != images[place].caption:
                images[place] = replace(images[place], caption=with_trigger or None)
        triggers.append(Trigger(text, source, spec.path, len(places), added))
    return replace(scan, images=tuple(images), folders=tuple(folders)), tuple(triggers)


def apply_like(scan: Scan, training: Scan) -> Scan:
    """A scan of images that are measured, with the triggers of the training folders of the same
    names; of folders of other names with the one that all training folders share, or none.

    Args:
        training: as :func:`apply_triggers` returns it.
    """
    rules_by_name = {
        folder_name(spec): spec.rules for spec in training.folders if spec.rules and not spec.reg
    }
    shared = {rules.trigger: rules for rules in rules_by_name.values()}
    folders = list(scan.folders)
    for index, spec in enumerate(folders):
        rules = rules_by_name.get(folder_name(spec))
        if rules is None and len(shared) == 1:
            (rules,) = shared.values()
        folders[index] = replace(spec, rules=rules)
    images = [
        image
        if (rules := folders[image.folder].rules) is None
        else replace(image, caption=in_front(image.caption or "", rules.trigger, rules) or None)
        for image in scan.images
    ]
    return replace(scan, images=tuple(images), folders=tuple(folders))


def find_trigger(
    spec: FolderSpec, images: Sequence[DatasetImage], rules: CaptionSettings
) -> tuple[str, str]:
    """The trigger of a folder, and how it was found.

    It is the setting; else the first tag that all captions share (nearly all: of a few it was
    forgotten); else the folder's name, where it may be put in front of captions that lack it.
    """
    if rules.trigger != AUTO:
        return rules.trigger.strip(), "as set" if rules.trigger.strip() else "switched off"
    captions = [image.caption for image in images if image.caption_path and image.caption]
    rows = [split_tags(readings(caption, rules)[0], rules.separator) for caption in captions]
    shared = _shared_first_tag(rows) if len(rows) >= FEWEST_CAPTIONS else ""
    if shared:
        all_have = all(_has_all(caption, shared, rules) for caption in captions)
        share = "all" if all_have else "most"
        return shared, f"the first tag of {share} {quantity(len(rows), 'caption')}"
    why = "its captions share no first tag" if rows else "there are no captions"
    if len(rows) == 1:
        why = "one caption alone does not tell which of its tags that is"
    name = folder_name(spec)
    if not rules.trigger_in_front and not all(_has_all(text, name, rules) for text in captions):
        return "", why
    if name:
        return name, f"the folder's name: {why}"
    return "", f"{why}, and the folder's name says nothing"


def _shared_first_tag(rows: Sequence[Sequence[str]]) -> str:
    """The first tag that is at its place in enough of them and says what is shown."""
    for tags in zip(*(row for row in rows if row), strict=False):
        counts = Counter(tag.casefold() for tag in tags)
        tag, count = counts.most_common(1)[0]
        if count < SHARE * len(rows):
            return ""
        if tag not in GENERIC_TAGS and len(tag.split()) <= MOST_WORDS:
            return next(written for written in tags if written.casefold() == tag)
    return ""


def in_front(caption: str, trigger: str, rules: CaptionSettings) -> str:
    """The caption with all of the trigger's tags, those that it lacks in front of each line.

    Where tags vary from step to step, those that it has come to the front as well.
    """
    if not trigger or not rules.trigger_in_front:
        return caption
    return "\n".join(_line_in_front(line, trigger, rules) for line in caption.splitlines() or [""])


def _line_in_front(line: str, trigger: str, rules: CaptionSettings) -> str:
    words = split_tags(trigger, rules.separator)
    missing = [word for word in words if not _has(line, word, rules)]
    moves = rules.shuffle or rules.tag_dropout > 0 or rules.tag_warmup_steps > 0
    marked = rules.keep_tokens_separator and rules.keep_tokens_separator in line
    if moves and not marked and not rules.prefix:
        tags = split_tags(line, rules.separator)
        late = [tag for tag in tags[rules.keep_tokens :] if any(_same(tag, one) for one in words)]
        if late and tags[: len(late)] != late:
            line = join_tags([*late, *(tag for tag in tags if tag not in late)], rules.separator)
    return join_tags([*missing, line] if line.strip() else missing, rules.separator)


def _keeping(rules: CaptionSettings, trigger: str) -> CaptionSettings:
    """The rules of a folder whose captions begin with the trigger."""
    keep = rules.keep_tokens
    if trigger and rules.trigger_in_front:
        keep = max(keep, len(split_tags(trigger, rules.separator)))
    return rules.model_copy(update={"trigger": trigger, "keep_tokens": keep})


def _has_all(caption: str, trigger: str, rules: CaptionSettings) -> bool:
    """Whether each line of a caption that training may see has all of the trigger's tags."""
    lines = caption.splitlines() or [""]
    words = split_tags(trigger, rules.separator)
    return all(_has(line, word, rules) for line in lines for word in words)


def _has(line: str, word: str, rules: CaptionSettings) -> bool:
    text = _plain(f"{rules.prefix} {line} {rules.suffix}")
    return re.search(rf"(?<!\w){re.escape(_plain(word))}(?!\w)", text) is not None


def _same(tag: str, word: str) -> bool:
    return _plain(tag) == _plain(word)


def _plain(text: str) -> str:
    """As taggers and web UIs may write the same: without underscores, escapes and capitals."""
    return text.replace("\\", "").replace("_", " ").casefold().strip()
