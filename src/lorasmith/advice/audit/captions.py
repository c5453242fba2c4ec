"""The captions of a dataset, as rules look at them: what is written, its tags, where they stand."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from lorasmith.config.sections.data import CaptionSettings
from lorasmith.curation.check.checks import is_sentence
from lorasmith.curation.edit.spelling import bare
from lorasmith.data.captions import split_tags, tags_of
from lorasmith.data.layout import FolderSpec
from lorasmith.data.scan import Scan


@dataclass(frozen=True, eq=False)
class WrittenCaption:
    """What is written of one image.

    Args:
        image: the file.
        folder: it lies in, with the rules for its captions and their trigger.
        file: the caption file, or the table of captions; ``None`` without.
        text: as training reads it, before a trigger is put in front; "" for nothing.
    """

    image: Path
    folder: FolderSpec
    file: Path | None
    text: str

    @property
    def rules(self) -> CaptionSettings:
        assert self.folder.rules is not None
        return self.folder.rules

    @property
    def trigger(self) -> str:
        """What calls up the images of its folder; "" for nothing."""
        return self.rules.trigger

    @cached_property
    def tags(self) -> tuple[str, ...]:
        """As they are spelled, each as often as it stands there."""
        rules = self.rules
        if rules.prefix or rules.suffix:
            rules = rules.model_copy(update={"prefix": "", "suffix": ""})
        return tuple(tags_of(self.text, rules))

    @cached_property
    def trigger_tags(self) -> frozenset[str]:
        """Bare tags that the trigger is made of."""
        return frozenset(map(bare, split_tags(self.trigger, self.rules.separator)))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The tags without the trigger's, bare: in whatever way they are spelled, the same."""
        return tuple(name for name in map(bare, self.tags) if name not in self.trigger_tags)

    @cached_property
    def is_prose(self) -> bool:
        """Whether there is a sentence in it."""
        return any(map(is_sentence, self.tags))

    def mentions(self, tag: str) -> bool:
        """Whether a tag stands in it, as words of their own, however it is spelled."""
        return re.search(rf"(?<!\w){re.escape(bare(tag))}(?!\w)", bare(self.text)) is not None


def written_captions(files: Scan, with_triggers: Scan, *, reg: bool) -> list[WrittenCaption]:
    """
    Args:
        files: with captions as the files have them.
        with_triggers: the same, with the triggers in the rules of its folders.
        reg: those of the regularisation images; else those of all others.
    """
    captions = []
    for image in files.images:
        folder = with_triggers.folders[image.folder]
        if folder.reg == reg:
            text = (image.caption or "") if image.caption_path is not None else ""
            captions.append(WrittenCaption(image.path, folder, image.caption_path, text))
    return captions


@dataclass(frozen=True, eq=False)
class Concept:
    """What one trigger calls up, or one folder where there is none.

    Args:
        trigger: its text.
        captions: of its images, in all folders.
    """

    trigger: str
    captions: Sequence[WrittenCaption]

    @cached_property
    def tags(self) -> TagTable:
        return TagTable(self.captions)

    @property
    def name(self) -> str:
        return self.trigger or self.captions[0].folder.path.name


def concepts_of(captions: Iterable[WrittenCaption]) -> list[Concept]:
    groups: dict[object, list[WrittenCaption]] = defaultdict(list)
    for caption in captions:
        groups[bare(caption.trigger) or caption.folder.path].append(caption)
    return [Concept(group[0].trigger, group) for group in groups.values()]


@dataclass(frozen=True, eq=False)
class TagTable:
    """Which tags stand in which captions; sentences are left out, and so are triggers."""

    captions: Sequence[WrittenCaption]
    _where: dict[str, list[WrittenCaption]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        for caption in self.tagged:
            for name in dict.fromkeys(caption.names):
                self._where[name].append(caption)

    @cached_property
    def tagged(self) -> list[WrittenCaption]:
        """Captions that are lists of tags."""
        return [caption for caption in self.captions if caption.text and not caption.is_prose]

    @property
    def captions_with(self) -> Mapping[str, Sequence[WrittenCaption]]:
        """By bare tag, in the order in which they come."""
        return self._where

    @cached_property
    def counts(self) -> Counter[str]:
        """Captions by bare tag."""
        return Counter({name: len(captions) for name, captions in self._where.items()})

    @cached_property
    def spellings(self) -> dict[str, Counter[str]]:
        """By bare tag, how often it is spelled how."""
        spellings: dict[str, Counter[str]] = defaultdict(Counter)
        for caption in self.tagged:
            for tag in caption.tags:
                spellings[bare(tag)][tag] += 1
        return spellings

    def spelled(self, name: str) -> str:
        """A bare tag as it is most often spelled."""
        return self.spellings[name].most_common(1)[0][0] if name in self.spellings else name


def images_of(captions: Iterable[WrittenCaption]) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(caption.image for caption in captions))
