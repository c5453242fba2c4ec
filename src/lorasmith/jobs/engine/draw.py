"""In the process of an engine: drawings, with the model of the last one kept loaded."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorasmith.core.errors import RunError
from lorasmith.core.events import Controls, Event
from lorasmith.core.files import write_bytes
from lorasmith.jobs.drawing import draw
from lorasmith.jobs.generate import GenerateRequest, prepare
from lorasmith.jobs.images import choose_place
from lorasmith.jobs.kept_models import KeptModels
from lorasmith.models.reference import ModelReference

PREVIEW_SECONDS = 0.2
"""Between two previews of a drawing."""

Tell = Callable[[dict[str, Any]], None]


class Drawer:
    """Answers about drawings; keeps one base model, and its LoRAs."""

    def __init__(self) -> None:
        self._kept = KeptModels()

    def draw(self, question: Mapping[str, Any], tell: Tell, controls: Controls) -> dict[str, Any]:
        """Draw what a request of `lorasmith generate` asks for.

        Args:
            question: ``request``, values of a :class:`.GenerateRequest`; ``previews``, the folder
                of previews, "" for none.
            tell: called with events' records, and of previews with
                ``{"event": "Preview", "path", "place", "version"}``: a small PNG of the picture
                with that place among those asked for.

        Returns:
            ``images``: the files.

        Raises:
            UserError: with everything that is wrong, before anything is drawn; or there is not
                enough memory.
            Stopped: finished pictures stay.
        """

        def observe(event: Event) -> None:
            tell(event.record())

        request = GenerateRequest.read(question["request"])
        folder = question["previews"]
        watch = _Previews(self._kept, Path(folder), tell) if folder else None
        try:
            report = draw(
                prepare(request, observe), observe, controls, kept=self._kept, watch=watch
            )
        except torch.OutOfMemoryError as error:
            self._kept.forget()
            what = "there is not enough memory on the device for this picture"
            hint = "draw it smaller or fewer at once, or end what else uses the device"
            raise RunError.of("", what, hint) from error
        return {"images": [str(path.absolute()) for path in report.images]}

    def load(self, question: Mapping[str, Any], tell: Tell, controls: Controls) -> dict[str, Any]:
        """Load the model of a request before anything is drawn with it.

        Raises:
            UserError: as :meth:`draw`.
        """
        request = GenerateRequest.read(question["request"])
        reference = ModelReference(
            request.model,
            vae=request.vae,
            prediction=request.prediction,
            zero_terminal_snr=request.zero_terminal_snr or "auto",
            clip_skip=request.clip_skip,
        )
        place = choose_place([(reference, [])], request.device, request.precision)
        self._kept.load(
            reference,
            place.dtypes[str(reference.path)],
            place.device,
            lambda event: tell(event.record()),
        )
        return {}


class _Previews:
    """Writes what a drawing will be, now and then."""

    def __init__(self, kept: KeptModels, folder: Path, tell: Tell) -> None:
        self._kept, self._folder, self._tell = kept, folder, tell
        self._last = 0.0
        self._number = 0

    def __call__(self, places: Sequence[int], latents: Callable[[], Tensor]) -> None:
        now = time.monotonic()
        if now - self._last < PREVIEW_SECONDS:
            return
        self._last = now
        self._number += 1
        for place, image in zip(places, self._kept.colors.images(latents()), strict=True):
            path, data = self._folder / f"{place}.png", io.BytesIO()
            image.save(data, "PNG", compress_level=1)
            write_bytes(path, data.getvalue())
            event = {"event": "Preview", "path": str(path), "place": place}
            self._tell({**event, "version": str(self._number)})
