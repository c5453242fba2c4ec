"""What a model draws for captions, kept as files so that nothing is drawn twice."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from pathlib import Path

from PIL import Image

from lorasmith.core.errors import DatasetError
from lorasmith.core.events import Controls, Event, Notice, Observer, ignore
from lorasmith.core.files import atomic_path
from lorasmith.data.images import load_image
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.sampling.from_dataset import escaped
from lorasmith.sampling.generate import generate
from lorasmith.sampling.images import ImageWriter
from lorasmith.sampling.request import ImageRequest

FIRST_SEED = 100


def kind_of(kind: str, captions: Sequence[str]) -> str:
    """A kind of drawings that changes with what is drawn, as a name that all file systems take."""
    return f"{kind}-{blake2b(repr(tuple(captions)).encode(), digest_size=6).hexdigest()}"


class Drawings:
    """Draws with whatever is attached to the model at the time of a call.

    Args:
        folder: for the files.
        drawing: size, steps, guidance, sampler.
        batch: images that are drawn at once; ``None`` chooses by their size.
        observer: is told warnings.
    """

    def __init__(
        self,
        model: DiffusionModel,
        folder: Path,
        drawing: ImageRequest,
        *,
        batch: int | None = None,
        observer: Observer = ignore,
        controls: Controls | None = None,
    ) -> None:
        self._model, self._folder, self._drawing, self._batch = model, folder, drawing, batch
        self._observe, self._controls = observer, controls or Controls()

    def __call__(self, captions: Sequence[str], name: str, kind: str) -> list[Image.Image]:
        """Drawings of the captions, each of another seed, the same for every ``name`` and ``kind``;
        from the folder, ``NAME-KIND-N.png``, where they are there already.

        Raises:
            Stopped: on a stop request.
        """
        paths = [self._folder / f"{name}-{kind}-{n}.png" for n in range(len(captions))]
        with contextlib.suppress(DatasetError):  # Not drawn yet, or damaged.
            return [load_image(path) for path in paths]
        requests = [
            replace(self._drawing, prompt=escaped(caption), seed=FIRST_SEED + number)
            for number, caption in enumerate(captions)
        ]
        images = generate(
            self._model,
            requests,
            batch=self._batch,
            observer=self._warnings_only,
            controls=self._controls,
        )
        with ImageWriter(self._model.device) as writer:
            for image in images:
                writer.add(partial(_save, paths[image.index], image.image), lambda: None)
        return [load_image(path) for path in paths]

    def _warnings_only(self, event: Event) -> None:
        if isinstance(event, Notice) and event.level == "warning":
            self._observe(event)


def _save(path: Path, image: Image.Image) -> None:
    with atomic_path(path) as part:
        image.save(part, format="PNG")
