"""What a snapshot does, in numbers: the denoiser on fixed noise, and a few drawings."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lorasmith.core.events import Controls, Observer, ignore
from lorasmith.data.augmentation.views import View, render
from lorasmith.data.dataset import Dataset, Item
from lorasmith.data.holdout import image_number
from lorasmith.diffusion.schedule import NoiseSchedule
from lorasmith.measures.drawings import Drawings
from lorasmith.measures.eval_set import SEED, EvalSet
from lorasmith.measures.features import (
    Content,
    FeatureExtractor,
    ImageFeatures,
    MiddleBlock,
    distances,
    mean_within,
    nearest,
)
from lorasmith.measures.noise_probe import Predictions, Probe, Row
from lorasmith.measures.on_model import LoraOnModel, OpenSnapshot, SnapshotOnModel
from lorasmith.measures.records import (
    FULL,
    KINDS,
    PLAIN,
    Extent,
    Measures,
    finite,
)
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.sampling.request import ImageRequest


class SnapshotMeasurer:
    """Measures snapshots of one run; what is the same for all of them is worked out once.

    Args:
        model: the run's base model, nothing attached.
        schedule: the run's.
        eval_set: what is measured on.
        extent: how much is measured.
        drawing: the run's own way to draw: size, steps, guidance, sampler.
        background: what transparent images stand on.
        folder: for the drawings.
        open_snapshot: reads what is measured.
        content: compares what images show; the model's own features when ``None``.
        draw_batch: images that are drawn at once; ``None`` chooses by their size.
    """

    def __init__(
        self,
        model: DiffusionModel,
        schedule: NoiseSchedule,
        eval_set: EvalSet,
        *,
        extent: Extent,
        drawing: ImageRequest,
        background: str,
        folder: Path,
        open_snapshot: OpenSnapshot = LoraOnModel,
        content: Content | None = None,
        draw_batch: int | None = None,
        observer: Observer = ignore,
        controls: Controls | None = None,
    ) -> None:
        self._model, self._eval_set, self._open = model, eval_set, open_snapshot
        self._kinds = {key: kind for key, kind in KINDS.items() if float(key) in extent.strengths}
        self._controls = controls or Controls()
        self._drawings_of = Drawings(
            model,
            folder,
            replace(drawing, steps=min(drawing.steps, extent.drawing_steps)),
            batch=draw_batch,
            observer=observer,
            controls=self._controls,
        )
        self._extractor = FeatureExtractor(model, content or MiddleBlock(model, schedule))
        rows = [
            Row.of(model, image, item.caption, image_number(item.image), view.size_condition())
            for image, item, view in rendered(eval_set.dataset, background)
        ]
        held_out, training = rows[: eval_set.held_out], rows[eval_set.held_out :]
        timesteps = extent.timesteps
        self._training = Probe(model, schedule, training, SEED, timesteps)
        self._held_out = Probe(model, schedule, held_out, SEED, timesteps) if held_out else None
        # What plain prompts are measured on is drawn even where nothing else is.
        plain = self._drawings_of(eval_set.plain, "base", PLAIN)
        plain_rows = [
            Row.of(model, image, prompt, number)
            for number, (image, prompt) in enumerate(zip(plain, eval_set.plain, strict=True))
        ]
        self._plain = Probe(model, schedule, plain_rows, SEED, timesteps) if plain else None
        compares = extent.plain_drawings and len(plain) > 1
        self._plain_features = self._extractor.look(plain) if compares else None
        self._references: ImageFeatures | None = None
        self._base_distance = 0.0
        if eval_set.prompts and len(eval_set.references.items) > 1:
            references = [image for image, _, _ in rendered(eval_set.references, background)]
            self._references = self._extractor.look(references)
            base = self._extractor.look(self._drawings_of(eval_set.prompts, "base", KINDS[FULL]))
            self._base_distance = self._distance(base)
        self._loss_strengths = extent.loss_strengths(drawn=self._references is not None)

    @property
    def parts(self) -> int:
        """What is measured of a snapshot: its predictions, and each kind of drawings."""
        return 2 + len(self._kinds)

    def measure(
        self, path: Path, drawings: str, part_done: Callable[[], object] = lambda: None
    ) -> Measures:
        """Measure a snapshot.

        Args:
            drawings: what the names of its drawings begin with.
            part_done: is called after each of :attr:`parts`.

        Raises:
            UserError: it is damaged.
            Stopped: on a stop request; nothing of it is kept but drawings.
        """
        begin = time.perf_counter()
        snapshot = self._open(path, self._model)
        with snapshot.attached():
            measures = self._probed(snapshot)
            part_done()
            features = self._drawings(snapshot, drawings, part_done)
        measures = self._compared(measures, features)
        return replace(measures, seconds=time.perf_counter() - begin)

    def _probed(self, snapshot: SnapshotOnModel) -> Measures:
        """The measures that need no drawing."""
        probe = self._held_out or self._training
        loss, by_image, predictions = {}, [], None
        for strength in self._loss_strengths:
            snapshot.set_strength(strength)
            predicted = self._predict(probe)
            change = probe.change(predicted)
            loss[f"{strength:.1f}"] = finite(change.mean())
            if strength == 1.0:
                by_image, predictions = [finite(value) for value in change], predicted
        snapshot.set_strength(1.0)
        assert predictions is not None
        on_training = predictions if probe is self._training else self._predict(self._training)
        plain_moved = plain_loss = None
        errors = {"loss": standard_error(torch.tensor(by_image))}
        if self._plain is not None:
            on_plain = self._predict(self._plain)
            moved = on_training.moved(self._training.base).mean()
            ratios = on_plain.moved(self._plain.base) / moved.clamp(min=1e-12)
            plain_moved, errors["plain_moved"] = finite(ratios.mean()), standard_error(ratios)
            plain_loss = finite(self._plain.change(on_plain).mean())
        return Measures(
            loss=loss,
            by_picture=by_image,
            training=finite(self._training.change(on_training).mean()),
            held_out=loss[FULL] if self._held_out is not None else None,
            plain_moved=plain_moved,
            plain_loss=plain_loss,
            norms={part: finite(norm) for part, norm in snapshot.norms().items()},
            errors=known(errors),
        )

    def _predict(self, probe: Probe) -> Predictions:
        self._controls.check("stopped")
        return probe.predict()

    def _drawings(
        self, snapshot: SnapshotOnModel, stem: str, part_done: Callable[[], object]
    ) -> dict[str, list[Image.Image]]:
        drawings: dict[str, list[Image.Image]] = {}
        eval_set = self._eval_set
        for key, kind in self._kinds.items():
            if self._references is not None:
                snapshot.set_strength(float(key))
                drawings[key] = self._drawings_of(eval_set.prompts, stem, kind)
            part_done()
        snapshot.set_strength(1.0)
        if self._plain_features is not None:
            drawings[PLAIN] = self._drawings_of(eval_set.plain, stem, PLAIN)
        part_done()
        return drawings

    def _compared(self, measures: Measures, drawings: dict[str, list[Image.Image]]) -> Measures:
        """With what the drawings tell; no snapshot may be attached."""
        measures = replace(measures, plain_drawings=self._plain_change(drawings.get(PLAIN, [])))
        references = self._references
        if references is None:
            return measures
        features = {key: self._extractor.look(drawings[key]) for key in self._kinds}
        spread = mean_within(references.content)
        room = self._base_distance - spread
        likeness = {
            # A base model that draws the subject already leaves nothing to come nearer by.
            key: finite((self._base_distance - self._distance(look)) / room) if room > 0 else 1.0
            for key, look in features.items()
        }
        full = features[FULL]
        apart = float(nearest(references.layout).mean())
        copies = nearest(full.layout, references.layout)
        errors = {"copying": standard_error(copies) / apart} if apart else {}
        if room > 0:
            away = distances(full.content, references.content).mean(1)
            errors["likeness"] = standard_error(away) / room
        return replace(
            measures,
            likeness=likeness,
            diversity=finite(mean_within(full.content) / spread) if spread else None,
            copying=finite(copies.mean() / apart) if apart else None,
            errors=measures.errors | known(errors),
        )

    def _plain_change(self, drawings: Sequence[Image.Image]) -> float | None:
        """Mean distance from the base model's drawings, as a share of that between these."""
        before = self._plain_features
        apart = mean_within(before.content) if before is not None else 0.0
        if before is None or not apart:
            return None
        moved = self._extractor.look(drawings).content - before.content
        return finite(moved.norm(dim=1).mean() / apart)

    def _distance(self, features: ImageFeatures) -> float:
        """Mean distance to the training images."""
        assert self._references is not None
        return float(distances(features.content, self._references.content).mean())


def rendered(dataset: Dataset, background: str) -> Iterator[tuple[Image.Image, Item, View]]:
    """Each image as training would see it, nothing varied."""
    for sample in dataset.samples:
        item = dataset.items[sample.item]
        view = dataset.view_for(sample, seed=0, epoch=0)
        yield Image.fromarray(np.asarray(render(item.image.path, view, background))), item, view


def standard_error(values: Tensor) -> float:
    """Of the mean of (N,) values; infinite for a single one."""
    return float(values.std() / math.sqrt(len(values))) if len(values) > 1 else math.inf


def known(errors: dict[str, float]) -> dict[str, float]:
    """Without those that a single value leaves unknown, which JSON cannot write."""
    return {name: error for name, error in errors.items() if math.isfinite(error)}
