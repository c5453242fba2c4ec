"""Datasets that are kept in memory while somebody works on them, and follow their files.

A look at a folder costs a few calls (:meth:`OpenDataset.refresh`): files that come, go or get
another name, and all that lorasmith itself writes, change the time of their folder. What an editor
writes into a file that is there is seen by a close look, which asks every file for its size and
time: 75 ms for 10 000 images and their captions on a slow machine.

Of many images only the names are known at first: captions and sizes are read by a thread, behind
those who look at the pictures meanwhile. Whoever asks for what is not read yet waits for it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorasmith.core.disk import changed_ns
from lorasmith.core.errors import DatasetError, Problem
from lorasmith.core.events import Progress
from lorasmith.core.files import file_version
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.changes.trash import STORE
from lorasmith.curation.collection import Collection, CollectionImage, open_collection
from lorasmith.curation.facts_store import NAME as FACTS
from lorasmith.data.caption_files import TABLE_SUFFIXES
from lorasmith.formats.run_paths import RUN_FILES
from lorasmith.jobs.curating.reading import Reading, tags_or_none
from lorasmith.jobs.curating.tag_index import TagTable

_MOST_OPEN = 4
_MOST_PLANS = 2
_MOST_WATCHED = 500
_CLOSE_LOOK = 10.0
"""Seconds after which a quick look is a close one."""
AT_ONCE = 200
"""Images at most that are read when they are asked for, and not before."""
_HEAD_START = 1.0
"""Seconds after which reading begins."""
_TURN = 0.05
"""Seconds of reading after which is told how far it is."""

Allowed = Callable[[Path], bool]
Stamp = tuple[int, int]  # size, time of change in ns


@dataclass
class _Files:
    """What a folder holds, with those in it: their times, and the stamps of their files by name.

    ``links`` are symbolic ones among the files.
    """

    times: dict[str, int] = field(default_factory=dict)
    stamps: dict[str, dict[str, Stamp]] = field(default_factory=dict)
    links: list[Path] = field(default_factory=list)

    @classmethod
    def below(cls, folder: Path) -> _Files:
        """Of a folder that is there; of one that goes meanwhile, nothing. Hidden files are none,
        nor are those of runs."""
        files = cls()
        waiting = [str(folder)]
        while waiting:
            place = waiting.pop()
            inner: list[str] = []
            try:
                changed = os.stat(place).st_mtime_ns
                with os.scandir(place) as entries:
                    stamps = files._stamps_of(entries, inner)
            except OSError:
                continue
            # A run that is at work changes nothing of the dataset.
            if place == str(folder) or not set(RUN_FILES) <= stamps.keys():
                files.times[place], files.stamps[place] = changed, stamps
                waiting += inner
        return files

    def _stamps_of(self, entries: Any, folders: list[str]) -> dict[str, Stamp]:
        stamps = {}
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
                continue
            if entry.is_symlink():
                self.links.append(Path(entry.path))
            try:
                status = entry.stat()
            except OSError:
                continue
            # Paths hold the same name, which is kept once so.
            stamps[sys.intern(entry.name)] = status.st_size, status.st_mtime_ns
        return stamps

    def names(self) -> dict[str, frozenset[str]]:
        return {place: frozenset(stamps) for place, stamps in self.stamps.items()}

    def of(self, path: Path | None) -> Stamp | None:
        if path is None:
            return None
        place, name = os.path.split(path)
        return self.stamps.get(place, {}).get(name)

    def differing(self, others: _Files) -> set[Path]:
        """Files that are there in both, and not the same."""
        return {
            Path(place, name)
            for place, stamps in self.stamps.items()
            if stamps != (old := others.stamps.get(place, {}))
            for name, stamp in stamps.items()
            if old.get(name, stamp) != stamp
        }


class OpenDataset:
    """A folder of images, as its files are: call :meth:`refresh` before looking.

    Its methods are for one thread at a time; hold :attr:`lock`.

    Args:
        folder: absolute, without symbolic links.
        allowed: whether a path, whose links are followed, may be read and written.

    Raises:
        DatasetError: it is not there, cannot be read, or leads to where nothing may be read.
    """

    def __init__(self, folder: Path, allowed: Allowed) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        self._prefix = len(os.path.join(folder, ""))
        self.left_out: list[Problem] = []
        """Images that are or have links to where nothing may be read."""
        self._allowed = allowed
        self._files = _Files()
        self._collection: Collection | None = None
        self._looked = 0.0
        self._facts_changed = 0
        self._changes = self._image_changes = 0
        self._began = time.time_ns()
        self._places: dict[str, int] = {}
        self._table: TagTable | None = None
        self._answers: dict[str, tuple[str, Any]] = {}
        self._plans: OrderedDict[Hashable, Plan] = OrderedDict()
        self._reading: Reading | None = None
        self.refresh(close=True)

    def close(self) -> None:
        """Read no further."""
        self._reading = None

    @property
    def reading(self) -> Progress | None:
        """What is still being read ("captions", then "sizes"), and how far that is; safe to ask
        from any thread."""
        reading = self._reading
        return reading.progress if reading is not None else None

    @property
    def lacks_captions(self) -> bool:
        """Whether captions are still being read."""
        return self._reading is not None and self._reading.lacks_captions

    def folder_times(self) -> list[tuple[str, int]]:
        """When each of its folders (the first ones of very many) changed last; safe to ask from
        any thread."""
        return [(place, changed_ns(place)) for place in list(self._files.times)[:_MOST_WATCHED]]

    @property
    def version(self) -> str:
        """Another word after every change that was seen."""
        return f"{self._began:x}.{self._changes}"

    @property
    def files_version(self) -> str:
        """Another word after an image came, went or changed; captions do not matter."""
        return f"{self._began:x}.{self._image_changes}"

    @property
    def collection(self) -> Collection:
        assert self._collection is not None
        return self._collection

    @property
    def images(self) -> list[CollectionImage]:
        return self.collection.images

    @property
    def root(self) -> Path:
        """The dataset's folder, whose journal has what is changed here."""
        return self.collection.root

    def name_of(self, image: CollectionImage) -> str:
        """Its path from the folder on, with ``/``."""
        name = str(image.path)[self._prefix :]
        return sys.intern(name if os.sep == "/" else name.replace(os.sep, "/"))

    def allows(self, path: Path) -> bool:
        """Whether a file, whose links are followed, may be read and written."""
        return self._allowed(path)

    def has(self, name: str) -> bool:
        return name in self._places

    def image(self, name: str) -> CollectionImage:
        """
        Raises:
            DatasetError: the dataset has none of this name.
        """
        return self.images[self.place(name)]

    def place(self, name: str) -> int:
        """Where an image stands among all.

        Raises:
            DatasetError: as :meth:`image`.
        """
        if name not in self._places:
            hint = "it was moved or removed meanwhile; look again"
            raise DatasetError.of(name, "is no picture of this dataset", hint)
        return self._places[name]

    def some(self, names: Sequence[str] | None) -> list[CollectionImage]:
        """The images of these names, or all.

        Raises:
            DatasetError: as :meth:`image`.
        """
        return self.images if names is None else [self.image(name) for name in names]

    def version_of(self, path: Path) -> str:
        """See :func:`.file_version`; "" of what is not there."""
        stamp = self._files.of(path)
        return file_version(*stamp) if stamp is not None else ""

    def changed_since(self, moment: float) -> bool:
        """Whether a file was changed after a moment, in Unix seconds."""
        limit = int(moment * 1e9)
        return any(
            time > limit for some in self._files.stamps.values() for _, time in some.values()
        )

    def sizes(self) -> dict[Path, tuple[int, int]]:
        """Upright width and height in px, by path; without images that have none."""
        sizes: dict[Path, tuple[int, int]] = self.remembered(
            "sizes", self.collection.sizes, self.files_version
        )
        return sizes

    def size_of(self, image: CollectionImage) -> tuple[int, int] | None:
        """As :meth:`sizes` has it, without waiting for those of all."""
        sizes = self.sizes() if self._reading is None else self.collection.sizes([image])
        return sizes.get(image.path)

    def tags(self) -> TagTable:
        """Of all captions; those that cannot be read count as empty."""
        if self._table is None:
            self._table = TagTable.of([tags_or_none(image) for image in self.images])
        return self._table

    @property
    def captions_are_good(self) -> bool:
        """Whether each could be read, when all were."""
        self.tags()
        are_good: bool = self.remembered(
            "captions are good", lambda: all(image.is_read for image in self.images)
        )
        return are_good

    def refresh(self, *, close: bool = False) -> bool:
        """Follow what has happened to the files.

        Args:
            close: also see what was written into files that are there; not while they are still
                being read.

        Returns:
            whether anything has changed.

        Raises:
            DatasetError: as the constructor.
        """
        if not ((close and self._reading is None) or self._is_due()):
            return False
        files = _Files.below(self.folder)
        if self._collection is not None and not self.folder.is_dir():
            what = "is not there any more"
            raise DatasetError.of(self.folder, what, "bring it back, or open another folder")
        self._looked = time.monotonic()
        self._follow_facts()
        before, self._files = self._files, files
        if self._collection is None or files.names() != before.names():
            self._open(files, before)
            self._image_changes += 1
        elif changed := files.differing(before):
            self._forget(changed)
        else:
            return False
        self._changes += 1
        self._table = None
        self._plans.clear()
        return True

    def remembered(self, question: str, work_out: Callable[[], Any], holds: str = "") -> Any:
        """An answer that is worked out again once something has changed.

        Args:
            holds: while it does; by itself as long as :attr:`version` does.
        """
        known, answer = self._answers.get(question, ("", None))
        now = holds or self.version
        if known != now:
            answer = work_out()
            self._answers[question] = now, answer
        return answer

    def plan(self, question: Hashable, work_out: Callable[[], Plan]) -> Plan:
        """What a question's plan is, worked out once as long as nothing changes: pages of a
        preview, and what is then done, are of one plan."""
        if question not in self._plans:
            self._plans[question] = work_out()
            while len(self._plans) > _MOST_PLANS:
                self._plans.popitem(last=False)
        self._plans.move_to_end(question)
        return self._plans[question]

    def forget_plans(self) -> None:
        self._plans.clear()

    def _is_due(self) -> bool:
        if time.monotonic() - self._looked > _CLOSE_LOOK:
            return True
        return any(changed_ns(place) != time for place, time in self._files.times.items())

    def _follow_facts(self) -> None:
        """See what another process has measured."""
        if self._collection is None:
            return
        changed = changed_ns(self.root / STORE / FACTS)
        if changed != self._facts_changed:
            self._facts_changed = changed
            self._collection.reread_facts()

    def _open(self, files: _Files, before: _Files) -> None:
        known = self._collection.images if self._collection is not None else []
        captions = {image.caption_path: image for image in known}
        bad = [path for path in files.links if not self._allowed(path)]
        collection = open_collection(self.folder)
        # What belongs to an image is left out with it; tables hold captions of any.
        tables = {path for path in bad if path.suffix.lower() in TABLE_SUFFIXES}
        if tables:
            tables -= {file for image in collection.images for file in image.files}
        if tables:
            what = "is a symbolic link out of the folders that may be opened"
            hint = "remove it, or copy it"
            raise DatasetError(Problem(str(path), what, hint) for path in sorted(tables))
        if not self._allowed(collection.root):
            what = f"is part of the dataset {collection.root}, which may not be opened"
            raise DatasetError.of(self.folder, what, "allow that folder, too")
        outside = set(bad)
        self.left_out = []
        if outside:
            self._leave_out(collection, outside)
        for image in collection.images:
            old = captions.get(image.caption_path) if image.caption_path is not None else None
            if old is not None and files.of(old.caption_path) == before.of(old.caption_path):
                image.take_texts(old)
        self._collection = collection
        self._places = {self.name_of(image): n for n, image in enumerate(collection.images)}
        unread = [image for image in collection.images if not image.is_read]
        self._read(unread if self._reading is None else collection.images)

    def _read(self, images: list[CollectionImage]) -> None:
        """Many of them in a thread, from now on."""
        self._reading = None
        if len(images) <= AT_ONCE:
            return
        reading = self._reading = Reading(self.collection, images)
        # Whoever put the dataset away without closing it keeps nothing alive.
        mine = weakref.ref(self)
        threading.Thread(target=_read_on, args=(mine, reading), daemon=True).start()

    def read_on(self, reading: Reading) -> bool:
        """Read a little more of what is still to be read; whether there is more. Not for who holds
        the lock: others use the dataset meanwhile."""
        with self.lock:
            if self._reading is not reading:
                return False
            changes = self._changes
        reading.read(_TURN)
        with self.lock:
            if self._reading is not reading:
                return False
            # Else it is read once more.
            if self._changes == changes:
                self._keep(reading)
            return self._reading is not None

    def _keep(self, reading: Reading) -> None:
        lacked_captions = reading.lacks_captions
        reading.keep()
        if reading.progress is None:
            self._reading = None
        if self._reading is None or lacked_captions != reading.lacks_captions:
            self._changes += 1

    def _leave_out(self, collection: Collection, outside: set[Path]) -> None:
        def leads_out(image: CollectionImage) -> bool:
            masks = [mask] if (mask := collection.masks.get(image.path)) is not None else []
            return not outside.isdisjoint((*image.files, *masks))

        gone = [image for image in collection.images if leads_out(image)]
        collection.images = [image for image in collection.images if image not in gone]
        for image in gone:
            collection.masks.pop(image.path, None)
            what = "it, or what belongs to it, is a link out of the folders that may be opened"
            self.left_out.append(Problem(self.name_of(image), what, "put a copy there"))

    def _forget(self, changed: set[Path]) -> None:
        self._image_changes += any(image.path in changed for image in self.images)
        for image in self.images:
            if image.caption_path in changed:
                image.forget_texts()


def _read_on(dataset: weakref.ref[OpenDataset], reading: Reading) -> None:
    # Whoever opened it asks for its first pictures now.
    time.sleep(_HEAD_START)
    while (mine := dataset()) is not None and mine.read_on(reading):
        del mine


class OpenDatasets:
    """Those that were looked at lately.

    Args:
        allowed: as of :class:`OpenDataset`.
    """

    def __init__(self, allowed: Allowed) -> None:
        self._allowed = allowed
        self._lock = threading.Lock()
        self._datasets: OrderedDict[Path, OpenDataset] = OrderedDict()
        # A slow folder keeps nobody from another one. Each is there as long as somebody holds it.
        self._opening: weakref.WeakValueDictionary[Path, Any] = weakref.WeakValueDictionary()

    def open(self, folder: Path) -> OpenDataset:
        """
        Raises:
            DatasetError: as :class:`OpenDataset`.
        """
        with self._lock:
            opening = self._opening.setdefault(folder, threading.Lock())
        with opening:
            with self._lock:
                known = self._datasets.get(folder)
            dataset = known or OpenDataset(folder, self._allowed)
            with self._lock:
                self._datasets[folder] = dataset
                self._datasets.move_to_end(folder)
                while len(self._datasets) > _MOST_OPEN:
                    self._datasets.popitem(last=False)[1].close()
        return dataset

    def all(self) -> list[OpenDataset]:
        with self._lock:
            return list(self._datasets.values())
