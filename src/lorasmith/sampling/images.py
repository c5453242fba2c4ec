"""Finished images: what they carry, and their way to disk while the next ones are drawn."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from PIL import Image

from lorasmith.core.errors import UserError
from lorasmith.core.files import write_bytes
from lorasmith.models.reference import ModelReference
from lorasmith.prompts.infotext import Infotext, format_infotext
from lorasmith.sampling.infotext import Describe, describe, encode_png
from lorasmith.sampling.request import ImageRequest
from lorasmith.tensors import transfer as tensor_transfer

THREADS = 4
# Images that may wait, those that are being written among them; one of 4096 px takes 50 MB.
MOST_WAITING = 8


def describe_alone(request: ImageRequest, embeddings: Mapping[str, Path]) -> Infotext:
    """What can be said of an image where nobody told the model's name."""
    return describe(request, ModelReference(""))


@dataclass(frozen=True, slots=True)
class GeneratedImage:
    """A finished image.

    Args:
        image: RGB.
        request: what made it, with the size that it has.
        index: its place among the requests: images come in the order of their batches.
        describe: says how it was made, with what is known of the model.
        embeddings: files of those that its prompts name, but what LoRAs carry, by name.
    """

    image: Image.Image
    request: ImageRequest
    index: int
    describe: Describe = describe_alone
    embeddings: Mapping[str, Path] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        return self.request.seed

    @property
    def infotext(self) -> str:
        """How it was made, as web UIs write it; ``lorasmith generate --from-png`` reads it back."""
        return format_infotext(self.describe(self.request, self.embeddings))

    def encode(self) -> bytes:
        """The bytes of a PNG that carries :attr:`infotext`."""
        return encode_png(self.image, self.describe(self.request, self.embeddings))

    def save(self, path: Path | str) -> None:
        """Write a PNG that carries :attr:`infotext`.

        Raises:
            RunError: the disk is full or the folder cannot be written to.
        """
        write_bytes(Path(path), self.encode())

    def _repr_png_(self) -> bytes | None:
        """For notebooks."""
        return self.image._repr_png_()


class ImageWriter:
    """Calls what writes images, in threads where ``device`` leaves the processor free, else at
    once. At the end of its block all are written.

    Packing a PNG of 1024 px takes a processor a third of a second, in which a GPU would wait.

    An error of a writing call is raised from :meth:`add`, of a later image perhaps, or at the
    block's end, after the others that were begun; it comes before other errors of the block.
    """

    def __init__(self, device: torch.device) -> None:
        threads = min(THREADS, os.cpu_count() or 1)
        apart = tensor_transfer.frees_cpu(device)
        self._pool = ThreadPoolExecutor(threads, "image-writer") if apart else None
        self._waiting: deque[tuple[Future[object], Callable[[], object]]] = deque()
        self._failed = False

    def add(self, write: Callable[[], object], on_written: Callable[[], object]) -> None:
        """
        Args:
            write: in any thread.
            on_written: called in this one after ``write``, if that raised nothing; in the order in
                which they were added.
        """
        if self._pool is None:
            write()
            on_written()
            return
        self._waiting.append((self._pool.submit(write), on_written))
        while self._waiting and (len(self._waiting) > MOST_WAITING or self._waiting[0][0].done()):
            self._finish_first()

    def _finish_first(self) -> None:
        write, on_written = self._waiting.popleft()
        try:
            write.result()
        except UserError:
            self._failed = True
            raise
        on_written()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is None:
            return
        failures: list[UserError] = []
        already_raised = self._failed  # Raised from add(), and on its way.
        try:
            while self._waiting:
                try:
                    self._finish_first()
                except UserError as failure:
                    failures.append(failure)
        finally:
            self._pool.shutdown()
        if failures and not already_raised and not isinstance(error, KeyboardInterrupt):
            raise failures[0]
