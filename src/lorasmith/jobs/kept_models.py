"""The base model and the LoRAs of the last drawing, kept so that the next one begins at once."""

from __future__ import annotations

import gc
from collections.abc import Hashable
from dataclasses import replace
from pathlib import Path

import torch

from lorasmith.core.events import Observer, Progress, ignore
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.families.table import check_clip_skip
from lorasmith.models.load import load_model
from lorasmith.models.reference import ModelReference
from lorasmith.sampling.infotext import Provenance
from lorasmith.sampling.lora_library import LoadedLoras
from lorasmith.sampling.step_preview import LatentColors


class KeptModels:
    """
    Attributes:
        loras: of the model that is kept.
    """

    def __init__(self) -> None:
        self.loras = LoadedLoras()
        self._key: Hashable = None
        self._model: DiffusionModel | None = None
        self._provenance: Provenance | None = None
        self._colors: LatentColors | None = None

    def load(
        self,
        reference: ModelReference,
        dtype: torch.dtype,
        device: torch.device,
        observer: Observer = ignore,
    ) -> DiffusionModel:
        """The model; read from its files where it is another one than the last, or they changed.

        Raises:
            CheckpointError: as :func:`.load_model`.
        """
        key = self._key_of(reference, dtype, device)
        if self._model is None or key != self._key:
            # First what is there, which may take the room that the new one needs.
            self.forget()
            observer(Progress("loading the model", 0, 1))
            plain = replace(reference, clip_skip=1)
            self._model = load_model(plain, dtype=dtype, device=device)
            self._key = key
            observer(Progress("loading the model", 1, 1))
        # What the text encoder's layer is changes no weight.
        check_clip_skip(self._model.architecture, reference.clip_skip, str(reference.path))
        self._model.clip_skip = reference.clip_skip
        return self._model

    def provenance(self, reference: ModelReference) -> Provenance:
        """What pictures say of the model that was loaded last; its file is hashed once."""
        known = self._provenance
        self._provenance = known.of(reference) if known is not None else Provenance(reference)
        return self._provenance

    @property
    def colors(self) -> LatentColors:
        """Of the latents of the model that was loaded last."""
        assert self._model is not None, "no model is loaded"
        if self._colors is None:
            self._colors = LatentColors.of(self._model)
        return self._colors

    def forget(self) -> None:
        """Give the memory back."""
        self._key = self._model = self._provenance = self._colors = None
        self.loras = LoadedLoras()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @staticmethod
    def _key_of(
        reference: ModelReference, dtype: torch.dtype, device: torch.device
    ) -> tuple[Hashable, ...]:
        files = (_state_of(reference.path), _state_of(reference.vae))
        return replace(reference, clip_skip=1), files, dtype, str(device)


def _state_of(place: str | Path | None) -> Hashable:
    """Another value whenever a file, or any in a folder, is another one."""
    path = Path(place or "")
    if place is None or not path.exists():
        return None
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    states = [(file, file.stat()) for file in files if file.is_file()]
    return tuple((str(file), state.st_size, state.st_mtime_ns) for file, state in states)
