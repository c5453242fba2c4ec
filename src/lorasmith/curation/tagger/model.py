"""A tagger, opened: images in, a score for each label out.

What an image must look like follows the model's own input and its label file::

    label file           axes of the model   what it takes
    selected_tags.csv    N, S, S, 3          BGR, 0..255             (WD14)
                         N, 3, S, S          RGB, mean and deviation of config.json, else -1..1
    tag_mapping.json     N, 3, S, S          BGR, -1..1              (cl_tagger)
    tags.txt, or inside  N, S, S, 3          RGB, 0..1, edges drawn out   (DeepDanbooru)

A first image, of noise, is tagged before any of the user's: whether there is a score for each
label, whether the scores are numbers, and whether they are probabilities already.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from PIL import Image

from lorasmith.core.errors import CheckpointError
from lorasmith.core.files import quick_fingerprint
from lorasmith.core.text import quantity
from lorasmith.curation.tagger.backends import (
    BOTH,
    CPU,
    PROVIDERS,
    Backend,
    Device,
    configured_side,
    open_backend,
)
from lorasmith.curation.tagger.folders import TaggerFiles, find_tagger
from lorasmith.curation.tagger.inputs import InputFormat, to_input
from lorasmith.curation.tagger.labels import (
    DEEPDANBOORU_FILE,
    LABEL_FILES,
    MAPPING_FILE,
    WD14_FILE,
    Labels,
    deepdanbooru_labels,
    read_labels,
)

Channels = Literal["auto", "bgr", "rgb"]

_USUAL_SIDE = {WD14_FILE: 448, MAPPING_FILE: 448, DEEPDANBOORU_FILE: 512}
_PROBABILITY = 1e-3  # outside of 0..1 by more than this, it is none


class Tagger:
    """A model and its labels; the weights are read when the first image is tagged.

    Args:
        files: from :func:`lorasmith.curation.tagger.folders.find_tagger`.
        device: "gpu" insists on one.
        channels: the order of colours, where the rule above is wrong for a model.

    Raises:
        CheckpointError: the label file is damaged.
    """

    def __init__(
        self, files: TaggerFiles, *, device: Device = "auto", channels: Channels = "auto"
    ) -> None:
        self.files = files
        self._device = device
        self._channels = channels
        self._backend: Backend | None = None
        self._form: InputFormat | None = None
        self._logits = False
        self._labels = read_labels(files.labels) if files.labels is not None else None

    @property
    def name(self) -> str:
        return self.files.name

    @property
    def fingerprint(self) -> str:
        """16 hex digits that change with weights, labels, settings, and the order of colours."""
        digest = hashlib.blake2b(digest_size=8)
        for path in (self.files.weights, self.files.labels):
            digest.update((quick_fingerprint(path) if path is not None else "").encode())
        config = sorted((self.files.config.get("pretrained_cfg") or {}).items(), key=str)
        digest.update(f"{self._channels} {config}".encode())
        return digest.hexdigest()

    @property
    def labels(self) -> Labels:
        """
        Raises:
            CheckpointError: there are none, neither in a file nor in the model.
        """
        if self._labels is None:
            self._labels = self._labels_inside()
        return self._labels

    @property
    def form(self) -> InputFormat:
        """What images must look like; opens the model."""
        self.open()
        assert self._form is not None
        return self._form

    @property
    def place(self) -> str:
        """What it computes on, in words; opens the model."""
        self.open()
        assert self._backend is not None
        return self._backend.place

    @property
    def fixed_batch(self) -> int | None:
        """How many images the model must be given at a time; ``None`` for any number."""
        self.open()
        assert self._backend is not None
        return self._backend.batch

    def open(self) -> None:
        """Read the weights, and tag an image of noise.

        Raises:
            CheckpointError: the model is damaged, is no tagger, or does not go with its labels.
        """
        if self._form is not None:
            return
        form = self._input_format(self._opened())
        noise = np.random.default_rng(0).integers(0, 256, (form.side, form.side, 3), np.uint8)
        scores = self._run(to_input(Image.fromarray(noise), form)[None])
        labels = self.labels
        if scores.ndim != 2 or scores.shape[1] != len(labels):
            count = scores.shape[1] if scores.ndim == 2 else 0
            what = (
                f"gives {quantity(count, 'score')} for an image, and {labels.source.name} has "
                f"{quantity(len(labels), 'label')}"
            )
            raise CheckpointError.of(self.files.weights, what, BOTH)
        if not np.isfinite(scores).all():
            raise CheckpointError.of(self.files.weights, *self._not_finite("an image of noise"))
        self._logits = bool(scores.min() < -_PROBABILITY or scores.max() > 1 + _PROBABILITY)
        self._form = form

    def scores(self, inputs: np.ndarray, names: Sequence[str] = ()) -> np.ndarray:
        """Probabilities, float32 (B, labels).

        Args:
            inputs: float32 (B, …), as :attr:`form` says.
            names: of the images, for messages.

        Raises:
            CheckpointError: scores that are no numbers.
        """
        self.open()
        values = self._run(inputs)
        if not np.isfinite(values).all():
            (rows,) = np.nonzero(~np.isfinite(values).all(axis=1))
            name = names[rows[0]] if names else f"image {rows[0] + 1} of the batch"
            raise CheckpointError.of(self.files.weights, *self._not_finite(name))
        if self._logits:
            values = 1 / (1 + np.exp(-values.clip(-60, 60)))
        return values.clip(0, 1)

    def _run(self, inputs: np.ndarray) -> np.ndarray:
        backend = self._opened()
        count = len(inputs)
        if backend.batch is None:
            return np.asarray(backend.run(inputs), dtype=np.float32)
        parts = []
        for begin in range(0, count, backend.batch):
            part = inputs[begin : begin + backend.batch]
            missing = backend.batch - len(part)
            padded = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)])
            parts.append(np.asarray(backend.run(padded), dtype=np.float32)[: len(part)])
        return np.concatenate(parts)

    def _not_finite(self, where: str) -> tuple[str, str]:
        what = f"gives scores that are not numbers (NaN or infinite) for {where}"
        if self._backend is not None and self._backend.place != PROVIDERS[CPU]:
            return what, "try the processor: --device cpu"
        return what, "its weights are damaged: download it again"

    def _opened(self) -> Backend:
        if self._backend is None:
            labels = len(self._labels) if self._labels is not None else None
            self._backend = open_backend(self.files, self._device, labels)
        return self._backend

    def _labels_inside(self) -> Labels:
        names = self._opened().labels
        if names:
            return deepdanbooru_labels(self.files.weights, names)
        what = f"holds no label file ({', '.join(LABEL_FILES)})"
        hint = "put the one there that lies beside the model where that is from"
        raise CheckpointError.of(self.files.weights.parent, what, hint)

    def _input_format(self, backend: Backend) -> InputFormat:
        labels = self.labels
        config = self.files.config.get("pretrained_cfg")
        config = config if isinstance(config, Mapping) else {}
        side = backend.side or configured_side(config) or _USUAL_SIDE[labels.kind]
        form = InputFormat(side, backend.axes)
        if labels.kind == DEEPDANBOORU_FILE:
            form = replace(form, bgr=False, scale=1 / 255, padding="edge")
        elif backend.axes == "NCHW":
            means, deviations = (_triple(config.get(key)) for key in ("mean", "std"))
            is_timm_wd14 = self.files.weights.suffix == ".safetensors" and labels.is_wd14
            form = replace(
                form,
                bgr=labels.kind == MAPPING_FILE or is_timm_wd14,
                scale=1 / 255,
                mean=means or (0.5, 0.5, 0.5),
                std=deviations or (0.5, 0.5, 0.5),
            )
        return form if self._channels == "auto" else replace(form, bgr=self._channels == "bgr")


def open_tagger(
    source: str,
    *,
    device: Device = "auto",
    channels: Channels = "auto",
    fetching: Callable[[str], None] = lambda name: None,
) -> Tagger:
    """The tagger of that name, folder, file or hub id; see :func:`find_tagger` for its arguments.

    Raises:
        CheckpointError: there is none, or its labels cannot be read.
    """
    return Tagger(find_tagger(source, fetching), device=device, channels=channels)


def _triple(value: Any) -> tuple[float, float, float] | None:
    numbers = isinstance(value, list) and len(value) == 3
    if not numbers or not all(isinstance(each, int | float) for each in value):
        return None
    red, green, blue = value
    return red, green, blue
