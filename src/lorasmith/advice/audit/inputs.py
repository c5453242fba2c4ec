"""What rules look at: the files, what is measured of them, and the dataset as a run would use it.

Everything is worked out when it is first asked for, so that a rule pays only for what it reads.
"""

from __future__ import annotations

import os
import shlex
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from lorasmith.advice.audit.captions import (
    Concept,
    TagTable,
    WrittenCaption,
    concepts_of,
    written_captions,
)
from lorasmith.advice.audit.looks import Looks
from lorasmith.config.schema import TrainSettings
from lorasmith.core.events import Controls, Observer, ignore
from lorasmith.core.file_names import whole_path
from lorasmith.curation.changes.plan import Plan, name_within
from lorasmith.curation.collection import Collection, CollectionImage, open_collection
from lorasmith.curation.facts import ImageFacts, Pixels
from lorasmith.curation.tagger.labels import Labels
from lorasmith.curation.tagger.scores import Scored, kept_scores
from lorasmith.data.buckets import plan_buckets
from lorasmith.data.dataset import Dataset, Item, build_dataset
from lorasmith.data.layout import FolderSpec, find_folders_of
from lorasmith.data.scan import Scan, scan
from lorasmith.data.triggers import Trigger, apply_triggers
from lorasmith.models.tokenizer import count_tokens

RESOLUTION = 512

Kind = Literal["character", "style", "concept", "object"]


@dataclass(eq=False)
class AuditInputs:
    """
    Args:
        folders: in kohya's layout or plain.
        reg: regularisation images; ``None`` takes those beside the folders.
        settings: of the run: captions, buckets, batch, resolution (``None`` is 512 px).
        observer: told of progress.
        controls: asked while images are decoded.
        kind: what is to be learned, where the user says it; some rules are about one kind alone.
        vocabulary: what the base was trained with, by a tagger's labels; ``None`` is those of a
            tagger that looked at the images, if one did.
        faces: what finds faces: a cascade of OpenCV's, or YuNet; ``None`` looks for none.
    """

    folders: Sequence[Path]
    reg: Path | None = None
    settings: TrainSettings = field(default_factory=TrainSettings)
    observer: Observer = ignore
    controls: Controls = field(default_factory=Controls)
    kind: Kind | None = None
    faces: Path | None = None
    vocabulary: Labels | None = None

    @cached_property
    def collection(self) -> Collection:
        """The files; for plans that change them."""
        extension = self.settings.captions.extension
        return open_collection(list(self.folders), extension=extension, observer=self.observer)

    @cached_property
    def images(self) -> list[CollectionImage]:
        """The training images: those that lie where a run looks for them."""
        places = {os.path.abspath(spec.path) for spec in self.folder_specs if not spec.reg}
        by_folder: dict[Path, list[CollectionImage]] = defaultdict(list)
        for image in self.collection.images:
            by_folder[image.path.parent].append(image)
        inside = [path for path in by_folder if os.path.abspath(path) in places]
        return [image for path in inside for image in by_folder[path]]

    def of_paths(self, paths: Iterable[Path]) -> list[CollectionImage]:
        """The training images with these paths, in the order of :attr:`images`."""
        chosen = set(paths)
        return [image for image in self.images if image.path in chosen]

    @cached_property
    def facts(self) -> dict[Path, ImageFacts]:
        """What is measured of each training image, by ``CollectionImage.path``.

        Raises:
            Stopped: by the controls.
        """
        return self.collection.measure(self.images, self.observer, self.controls, closely=True)

    @cached_property
    def usable(self) -> dict[Path, ImageFacts]:
        """:attr:`facts` of the images that decode to their end."""
        return {path: facts for path, facts in self.facts.items() if not facts.problem}

    @cached_property
    def contents(self) -> dict[str, list[CollectionImage]]:
        """Usable images by the hash of their bytes: those of one are the same file."""
        contents: dict[str, list[CollectionImage]] = defaultdict(list)
        for image in self.images:
            if (facts := self.usable.get(image.path)) is not None:
                contents[facts.content_hash].append(image)
        return dict(contents)

    @cached_property
    def pixels(self) -> dict[Path, Pixels]:
        """Of :attr:`usable` images, what a closer look shows."""
        return {
            path: facts.pixels for path, facts in self.usable.items() if facts.pixels is not None
        }

    @cached_property
    def looks(self) -> Looks:
        """What rules remember of pixels that they looked at again."""
        return Looks(self.collection.root)

    @cached_property
    def files(self) -> Scan:
        """The dataset with captions as the files have them."""
        extension = self.settings.captions.extension
        # What is known of images by their content needs no second look at their headers.
        facts = self.collection.remembered()
        known = {path: one.header for path, one in facts.items() if not one.problem}
        return scan(self.folder_specs, extension=extension, known=known)

    @cached_property
    def folder_specs(self) -> list[FolderSpec]:
        """The folders that a run takes its images from.

        Raises:
            DatasetError: one is not there, or holds no images.
        """
        return find_folders_of(self.folders, self.reg)

    @cached_property
    def _with_triggers(self) -> tuple[Scan, tuple[Trigger, ...]]:
        return apply_triggers(self.files, self.settings.captions)

    @property
    def scan(self) -> Scan:
        """The dataset with each folder's trigger in front of captions that lack it."""
        return self._with_triggers[0]

    @property
    def triggers(self) -> tuple[Trigger, ...]:
        """What calls up the images of each training folder."""
        return self._with_triggers[1]

    @cached_property
    def dataset(self) -> Dataset:
        """As a run would use it: buckets, crops, uses."""
        resolution = self.settings.data.resolution or RESOLUTION
        width, height = (resolution, resolution) if isinstance(resolution, int) else resolution
        values = self.settings.buckets.model_dump()
        return build_dataset(
            self.scan,
            plan_buckets(width, height, **values),
            self.settings.captions,
            augmentation=self.settings.augment,
        )

    @cached_property
    def items(self) -> list[Item]:
        """Of the training images that are used, without regularisation."""
        return [item for item in self.dataset.items if not item.reg and item.repeats]

    @cached_property
    def captions(self) -> list[WrittenCaption]:
        """Of the training images."""
        return written_captions(self.files, self.scan, reg=False)

    @cached_property
    def reg_captions(self) -> list[WrittenCaption]:
        """Of the regularisation images."""
        return written_captions(self.files, self.scan, reg=True)

    @cached_property
    def tags(self) -> TagTable:
        """Of all training captions."""
        return TagTable(self.captions)

    @cached_property
    def concepts(self) -> list[Concept]:
        """What the triggers call up."""
        return concepts_of(self.captions)

    @cached_property
    def tagger_scores(self) -> Scored | None:
        """What a tagger that looked at the training images said of them, by their paths."""
        by_root: dict[Path, list[Path]] = {}
        for image in self.images:
            by_root.setdefault(image.root, []).append(image.path)
        return kept_scores(by_root)

    @property
    def labels(self) -> Labels | None:
        """:attr:`vocabulary`, or the labels of :attr:`tagger_scores`."""
        if self.vocabulary is not None or self.tagger_scores is None:
            return self.vocabulary
        return self.tagger_scores.labels

    @property
    def count_tokens(self) -> Callable[[str], int]:
        """CLIP tokens of a text."""
        return count_tokens

    @property
    def batch(self) -> int:
        """Samples per batch."""
        return self.settings.train.batch

    @cached_property
    def _names(self) -> dict[Path, str]:
        return {}

    def name_of(self, path: Path) -> str:
        """A file within its dataset, with ``/``: it is the same wherever the dataset lies."""
        if path not in self._names:
            self._names[path] = self._name_of(path)
        return self._names[path]

    def _name_of(self, path: Path) -> str:
        whole = whole_path(path)
        for root in self.collection.roots:
            if whole.startswith(within := os.path.join(root, "")):
                return whole[len(within) :].replace(os.sep, "/")
        return Path(path).as_posix()

    def shown_name(self, path: Path) -> str:
        """A file as it is told: within the dataset; of several datasets its whole path."""
        return name_within(self.collection.roots, str(path))

    def plan(self, rule: str) -> Plan:
        """An empty plan that is to mend what a rule found."""
        return Plan(f"audit --fix {rule}", self.collection.roots)

    def command(self, verb: str, *words: str, folders: Sequence[Path] = ()) -> str:
        """A shell command on these folders: ``lorasmith dataset VERB DIR … WORDS``, quoted.

        Args:
            verb: of ``lorasmith dataset``.
            words: options behind the folders.
            folders: of these alone.
        """
        parts = ["lorasmith", "dataset", verb, *map(str, folders or self.folders), *words]
        return shlex.join(parts)
