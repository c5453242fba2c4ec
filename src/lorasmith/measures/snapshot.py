"""Measures snapshots: the denoiser on fixed noise, and a few drawings."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lorasmith.adapters.file import load_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.advice.pick_probe import Predictions, Probe, Row, image_rows
from lorasmith.advice.pick_run import SEED, Candidate, PickRun
from lorasmith.core.errors import DatasetError
from lorasmith.core.events import Controls, Event, Notice, Observer, Progress
from lorasmith.core.files import atomic_path
from lorasmith.data.augmentation.render import render
from lorasmith.data.dataset import Dataset
from lorasmith.data.images import load_image
from lorasmith.measures.features import (
    ClipImages,
    Content,
    FeatureExtractor,
    ImageFeatures,
    MiddleBlock,
    distances,
    mean_within,
    nearest,
)
from lorasmith.measures.records import (
    DIVERGED,
    DRAWING_STEPS,
    FULL,
    KINDS,
    PARTS,
    PLAIN,
    STRENGTHS,
    Measures,
    MeasuresFile,
)
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.flops import unet_weights
from lorasmith.models.load import load_model
from lorasmith.sampling.from_dataset import escaped
from lorasmith.sampling.generate import generate
from lorasmith.sampling.images import ImageWriter
from lorasmith.sampling.request import ImageRequest
from lorasmith.tensors.device import choose_device, choose_precision
from lorasmith.training.objective import build_objective
from lorasmith.training.setup.preflight import model_reference

FIRST_SEED = 100


def measure(
    run: PickRun,
    missing: Sequence[Candidate],
    known: MeasuresFile,
    *,
    clip: Path | None,
    device: str,
    precision: str,
    observer: Observer,
    controls: Controls,
) -> None:
    """Measure snapshots, and put each into ``known`` as soon as that is done; see :func:`.pick`."""
    model = load_base(run, device, precision)
    content = ClipImages(clip) if clip is not None else None
    measurer = Measurer(run, model, known.folder, content, observer, controls)
    observer(Progress("measuring", 0, len(missing) * PARTS))
    for done, candidate in enumerate(missing):
        known.put(candidate.fingerprint, measurer(candidate, done, len(missing)))


def load_base(run: PickRun, device: str, precision: str) -> DiffusionModel:
    """The run's base model, as it was trained on, but for where and in what it computes."""
    chosen = choose_device(device)
    weights = unet_weights(run.architecture.denoiser)
    return load_model(
        model_reference(run.settings),
        dtype=choose_precision(precision, chosen, weights).dtype,
        device=chosen,
    )


@dataclass(frozen=True, slots=True)
class _Set:
    """A probe with the base model's part, ``loss`` (P,)."""

    probe: Probe
    base: Predictions
    loss: Tensor

    @classmethod
    def of(cls, probe: Probe) -> _Set:
        base = probe.predict()
        return cls(probe, base, probe.losses(base))

    def change(self, predictions: Predictions) -> Tensor:
        """(P,) change of the loss as shares of the base model's mean."""
        return (self.probe.losses(predictions) - self.loss) / self.loss.mean()


class Measurer:
    """Everything that is the same for all snapshots, worked out once.

    Args:
        model: the run's base model, nothing attached.
        folder: for the drawings.
        content: compares what images show; the model's own features when ``None``.
    """

    def __init__(
        self,
        run: PickRun,
        model: DiffusionModel,
        folder: Path,
        content: Content | None,
        observer: Observer,
        controls: Controls,
    ) -> None:
        self._run, self._model, self._folder = run, model, folder
        self._observe, self._controls = observer, controls
        self._schedule = build_objective(run.settings, model).schedule
        self._extractor = FeatureExtractor(model, content or MiddleBlock(model, self._schedule))
        eval_set, background = run.eval_set, run.settings.data.background
        rows = list(image_rows(eval_set.dataset, model, background))
        self._training = self._set(rows[eval_set.held_out :])
        self._held_out = self._set(rows[: eval_set.held_out]) if eval_set.held_out else None
        # What plain prompts are measured on is drawn even where nothing else is.
        plain = self._draw(eval_set.plain, "base", PLAIN)
        self._plain = self._set(list(self._plain_rows(plain))) if plain else None
        self._plain_features = self._extractor.look(plain) if len(plain) > 1 else None
        self._references: ImageFeatures | None = None
        self._base_distance = 0.0
        if eval_set.prompts and len(eval_set.references.items) > 1:
            self._references = self._extractor.look(list(_images(eval_set.references, background)))
            base = self._extractor.look(self._draw(eval_set.prompts, "base", KINDS[FULL]))
            self._base_distance = self._distance(base)

    def __call__(self, candidate: Candidate, done: int, total: int) -> Measures:
        """Measure a snapshot, the ``done``-th (from 0) of ``total``.

        Raises:
            LoraFileError: it is damaged.
            Stopped: on a stop request; nothing of it is kept but drawings.
        """
        begin = time.perf_counter()
        tensors = load_lora(candidate.path).tensors
        roots = self._model.adapter_roots()
        network = AdapterNetwork.load(tensors, roots, where=str(candidate.path))
        watch = _Watch(self._observe, done, total)
        with network.attached():
            measures = self._probed(network)
            watch.finished()
            drawings = self._drawings(network, candidate.drawings, watch)
        measures = self._compared(measures, drawings)
        return replace(measures, seconds=time.perf_counter() - begin)

    def _set(self, rows: Sequence[Row]) -> _Set:
        return _Set.of(Probe(self._model, self._schedule, rows, SEED))

    def _plain_rows(self, drawings: Sequence[Image.Image]) -> Iterator[Row]:
        for number, (image, prompt) in enumerate(
            zip(drawings, self._run.eval_set.plain, strict=True)
        ):
            width, height = map(float, image.size)
            sizes = torch.tensor([[height, width, 0.0, 0.0, height, width]])
            yield Row(self._extractor.latents(image), prompt, number, sizes)

    def _probed(self, network: AdapterNetwork) -> Measures:
        """The measures that need no drawing."""
        judged = self._held_out or self._training
        loss, by_image, predictions = {}, [], None
        for strength in STRENGTHS:
            network.set_strength(strength, strength)
            found = self._predict(judged)
            change = judged.change(found)
            loss[f"{strength:.1f}"] = _number(change.mean())
            if strength == 1.0:
                by_image, predictions = [_number(value) for value in change], found
        network.set_strength()
        assert predictions is not None
        on_training = predictions if judged is self._training else self._predict(self._training)
        plain_moved = plain_loss = None
        if self._plain is not None:
            on_plain = self._predict(self._plain)
            moved = on_training.moved(self._training.base).mean()
            ratio = on_plain.moved(self._plain.base).mean() / moved if moved > 0 else moved
            plain_moved = _number(ratio)
            plain_loss = _number(self._plain.change(on_plain).mean())
        return Measures(
            loss=loss,
            by_picture=by_image,
            training=_number(self._training.change(on_training).mean()),
            held_out=loss[FULL] if self._held_out is not None else None,
            plain_moved=plain_moved,
            plain_loss=plain_loss,
            norms=_norms(network),
        )

    def _predict(self, what: _Set) -> Predictions:
        self._controls.check("stopped")
        return what.probe.predict()

    def _drawings(
        self, network: AdapterNetwork, stem: str, watch: _Watch
    ) -> dict[str, list[Image.Image]]:
        drawings: dict[str, list[Image.Image]] = {}
        eval_set = self._run.eval_set
        for key, kind in KINDS.items():
            if self._references is not None:
                network.set_strength(float(key), float(key))
                drawings[key] = self._draw(eval_set.prompts, stem, kind)
            watch.finished()
        network.set_strength()
        if self._plain_features is not None:
            drawings[PLAIN] = self._draw(eval_set.plain, stem, PLAIN)
        watch.finished()
        return drawings

    def _compared(self, measures: Measures, drawings: dict[str, list[Image.Image]]) -> Measures:
        """With what the drawings tell; no adapter may be attached."""
        measures = replace(measures, plain_drawings=self._plain_change(drawings.get(PLAIN, [])))
        references = self._references
        if references is None:
            return measures
        features = {key: self._extractor.look(drawings[key]) for key in KINDS}
        own = mean_within(references.content)
        room = self._base_distance - own
        likeness = {
            # A base model that draws the subject already leaves nothing to come nearer by.
            key: _number((self._base_distance - self._distance(look)) / room) if room > 0 else 1.0
            for key, look in features.items()
        }
        full = features[FULL]
        apart = float(nearest(references.layout).mean())
        return replace(
            measures,
            likeness=likeness,
            diversity=_number(mean_within(full.content) / own) if own else None,
            copying=_number(nearest(full.layout, references.layout).mean() / apart)
            if apart
            else None,
        )

    def _plain_change(self, drawings: Sequence[Image.Image]) -> float | None:
        """Mean distance from the base model's drawings, as a share of that between these."""
        before = self._plain_features
        apart = mean_within(before.content) if before is not None else 0.0
        if before is None or not apart:
            return None
        moved = self._extractor.look(drawings).content - before.content
        return _number(moved.norm(dim=1).mean() / apart)

    def _distance(self, features: ImageFeatures) -> float:
        """Mean distance to the training images."""
        assert self._references is not None
        return float(distances(features.content, self._references.content).mean())

    def _draw(self, captions: Sequence[str], name: str, kind: str) -> list[Image.Image]:
        """Drawings of the captions, from the folder where they are there already."""
        paths = [self._folder / f"{name}-{kind}-{n}.png" for n in range(len(captions))]
        with contextlib.suppress(DatasetError):  # Not drawn yet, or damaged.
            return [load_image(path) for path in paths]
        requests = [self._request(escaped(said), n) for n, said in enumerate(captions)]
        made = generate(
            self._model, requests, observer=self._warnings_only, controls=self._controls
        )
        with ImageWriter(self._model.device) as writer:
            for image in made:
                writer.add(partial(_save, paths[image.index], image.image), lambda: None)
        return [load_image(path) for path in paths]

    def _request(self, prompt: str, number: int) -> ImageRequest:
        sample = self._run.settings.sample
        size = sample.size
        width, height = (size, size) if isinstance(size, int) or size is None else size
        return ImageRequest(
            prompt=prompt,
            negative=sample.negative,
            seed=FIRST_SEED + number,
            steps=min(sample.steps, DRAWING_STEPS),
            cfg=sample.cfg,
            sampler=sample.sampler,
            width=width,
            height=height,
        )

    def _warnings_only(self, event: Event) -> None:
        if isinstance(event, Notice) and event.level == "warning":
            self._observe(event)


class _Watch:
    """Tells how far the work is, in parts of a snapshot: its probe, and each kind of drawings."""

    def __init__(self, observe: Observer, done: int, total: int) -> None:
        self._observe, self._parts, self._total = observe, done * PARTS, total * PARTS

    def finished(self) -> None:
        """One part more."""
        self._parts += 1
        self._observe(Progress("measuring", self._parts, self._total))


def _save(path: Path, image: Image.Image) -> None:
    with atomic_path(path) as part:
        image.save(part, format="PNG")


def _norms(network: AdapterNetwork) -> dict[str, float]:
    squares: dict[str, float] = {}
    parts = [target.part for target in network.targets.values()]
    for part, norm in zip(parts, network.norms().tolist(), strict=True):
        squares[part] = squares.get(part, 0.0) + norm**2
    return {part: _number(math.sqrt(square)) for part, square in squares.items()}


def _images(dataset: Dataset, background: str) -> Iterator[Image.Image]:
    for sample in dataset.samples:
        item = dataset.items[sample.item]
        view = dataset.view_for(sample, seed=0, epoch=0)
        yield Image.fromarray(np.asarray(render(item.image.path, view, background)))


def _number(value: Tensor | float) -> float:
    found = float(value)
    return found if math.isfinite(found) else DIVERGED
