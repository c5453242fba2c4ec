"""How much memory decoded images take at a time, over all threads of the process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

MOST_DECODED = 2 << 30
"""Bytes of decoded images that there may be at a time, over all threads that decode: eight
photographs of 20 megapixels. A compressed file of a few kilobytes can be an image of 178; as many
of them at once as the machine has cores would fill its memory. An image that needs more is decoded
alone."""

# Pillow keeps RGB in four bytes; reading, turning and averaging it takes as much again, twice.
_PLAIN, _WITH_COPIES = 12, 28
_DIRECT_MODES = ("1", "L", "P", "RGB")
_DIRECT_FORMATS = ("PNG", "JPEG", "MPO", "BMP")


def decoded_bytes(image: Image.Image) -> int:
    """What decoding an opened image to RGB takes, from its header.

    Other modes are converted, transparent ones laid on a ground, and the decoders of WebP, AVIF
    and JPEG XL keep a canvas of their own.
    """
    direct = (
        image.mode in _DIRECT_MODES
        and image.format in _DIRECT_FORMATS
        and not image.has_transparency_data
    )
    return image.width * image.height * (_PLAIN if direct else _WITH_COPIES)


class DecodeMemory:
    """A semaphore that counts bytes.

    A thread takes part in it from :meth:`scope` on, and gives back all that it took at the scope's
    end; scopes may be nested. Only a thread that holds nothing waits, so none waits for another
    that waits.
    """

    def __init__(self, limit: int = MOST_DECODED) -> None:
        self.limit = limit
        self.used = 0
        self.most = 0
        self._free = threading.Condition()
        self._mine = threading.local()

    @contextmanager
    def scope(self) -> Iterator[None]:
        """What the thread takes inside is held until the outermost scope ends."""
        depth = getattr(self._mine, "depth", 0)
        self._mine.depth = depth + 1
        try:
            yield
        finally:
            self._mine.depth = depth
            if not depth:
                with self._free:
                    self.used -= getattr(self._mine, "bytes", 0)
                    self._mine.bytes = 0
                    self._free.notify_all()

    def take(self, size: int) -> None:
        """Wait until ``size`` bytes fit below the limit, or nobody else decodes."""
        assert getattr(self._mine, "depth", 0), "outside of a scope"
        held_bytes = getattr(self._mine, "bytes", 0)
        with self._free:
            if not held_bytes:
                self._free.wait_for(lambda: not self.used or self.used + size <= self.limit)
            self.used += size
            self.most = max(self.most, self.used)
            self._mine.bytes = held_bytes + size


decode_memory = DecodeMemory()
"""The process's own."""
