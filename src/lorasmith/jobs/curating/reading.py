"""What is still to be read of a large folder: the captions of its images, then their sizes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from lorasmith.core.errors import DatasetError
from lorasmith.core.events import Progress
from lorasmith.curation.collection import Collection, CollectionImage

CAPTIONS, SIZES = "captions", "sizes"

_HEADERS = 200  # read, and remembered, together


class Reading:
    """What one thread reads while others use the images: it reads copies, and what it read becomes
    the images' own by :meth:`keep`.

    Args:
        images: of the collection, those of which nobody knows the captions and sizes yet.
    """

    def __init__(self, collection: Collection, images: Sequence[CollectionImage]) -> None:
        self._collection = collection
        self._images = images
        self._captions = self._sizes = 0
        self._read: list[CollectionImage] = []

    @property
    def progress(self) -> Progress | None:
        """What is read now, and how many of the images; ``None`` once all is."""
        count = len(self._images)
        if self._captions < count:
            return Progress(CAPTIONS, self._captions, count)
        return Progress(SIZES, self._sizes, count) if self._sizes < count else None

    @property
    def lacks_captions(self) -> bool:
        return self._captions < len(self._images)

    def read(self, seconds: float) -> None:
        """The captions of some more images, for about so long; or sizes, which are remembered."""
        if not self.lacks_captions:
            self._read = list(self._images[self._sizes : self._sizes + _HEADERS])
            self._collection.sizes(self._read)
            return
        self._read = []
        end = time.monotonic() + seconds
        for at in range(self._captions, len(self._images)):
            copy = replace(self._images[at])
            tags_or_none(copy)
            self._read.append(copy)
            if time.monotonic() >= end:
                return

    def keep(self) -> None:
        """What was read last; not where a file may have changed meanwhile."""
        if not self.lacks_captions:
            self._sizes += len(self._read)
            return
        for copy in self._read:
            self._images[self._captions].take_texts(copy)
            self._captions += 1


def tags_or_none(image: CollectionImage) -> list[str]:
    """Its tags; of a caption that cannot be read, none."""
    try:
        return image.tags
    except DatasetError:
        return []
