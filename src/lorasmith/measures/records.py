"""What is measured of a snapshot, and the file in the run's folder that keeps it. Torch-free."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, SupportsFloat

from lorasmith.core.files import parse_json, write_json

# Raised when a number comes to mean something else, so that old files are measured anew.
VERSION = 1

STRENGTHS = (0.6, 1.0, 1.4)
LOW, FULL, HIGH = (f"{strength:.1f}" for strength in STRENGTHS)
# Names of the drawings' files, by strength; and of those without the trigger.
KINDS = {f"{strength:.1f}": f"at-{strength:.1f}" for strength in STRENGTHS}
PLAIN = "plain"
# What is measured of a snapshot: its predictions, and each kind of drawings.
PARTS = 2 + len(KINDS)
# Stands for numbers that are none, which JSON cannot write: a snapshot that has diverged.
DIVERGED = 1e6


def finite(value: SupportsFloat) -> float:
    """As a float; :data:`DIVERGED` for what is none, or infinite."""
    real = float(value)
    return real if math.isfinite(real) else DIVERGED


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured of each snapshot: by default what a verdict at leisure takes.

    Args:
        loss_images: whose loss is measured, of each kind: held out, trained on. Noise and timesteps
            are the same for every snapshot, so that even few tell snapshots apart.
        references: training images that drawings are set beside, at most.
        timesteps: noise levels of each image and strength; two for each quarter, as validation has
            them.
        drawing_steps: of each drawing, enough to see what it shows; the run's own number where that
            is smaller.
        strengths: at which is drawn with the trigger.
        plain_drawings: whether drawings without the trigger are compared, too.
        has_strength: whether snapshots can be applied by less or more than they are.
    """

    loss_images: int = 8
    references: int = 64
    timesteps: int = 8
    drawing_steps: int = 12
    strengths: tuple[float, ...] = STRENGTHS
    plain_drawings: bool = True
    has_strength: bool = True

    def without_strength(self) -> Extent:
        """The same of what is there or not, and no more or less of it."""
        return dataclasses.replace(self, strengths=(1.0,), has_strength=False)

    def loss_strengths(self, *, drawn: bool) -> tuple[float, ...]:
        """At which the loss is measured: what more would do tells of what is not learned yet, where
        no drawings do."""
        if not self.has_strength:
            return self.strengths
        return tuple(s for s in STRENGTHS if s <= 1 or not drawn or s in self.strengths)


AT_LEISURE = Extent()


@dataclass(frozen=True, slots=True)
class Measures:
    """The numbers of one snapshot. Strengths are keys "0.6", "1.0", "1.4".

    Loss is the mean squared error of the predictions on fixed noise, each image and timestep
    counting the same, as a change since the base model in shares of the base model's: -0.8 is a
    fifth of it.

    Args:
        loss: by strength, of the held-out images if the run has any, else of training images; 1.4
            may be left out where there are drawings, and all but 1.0 of what has no strength.
        by_picture: the same at 1.0 of each image, to compare snapshots image by image.
        training, held_out: of either kind at 1.0; ``None`` where nothing is held out.
        plain_moved: how far the predictions of prompts without the trigger have moved, in mean
            squares, as a share of how far those of the training images have. ``None`` without a
            trigger.
        plain_loss: change of the loss on images that the base model drew of those prompts.
        likeness: of drawings with the trigger to the training images, by strength that was drawn:
            0 is the base model's, 1 as like as these are to each other.
        diversity: mean distance between these drawings, as a share of that between training
            images.
        copying: distance of a drawing's layout to the nearest training image, as a share of that
            between training images. Small is a copy.
        plain_drawings: distance of drawings without the trigger from the base model's of the same
            seed, as a share of that between two of these: 0 the same image, 1 another one.
        norms: Frobenius norm of the weight change by part, "unet" and "text_encoder".
        errors: standard errors of ``loss`` over the images, of ``likeness`` and ``copying`` over
            the drawings, each of another seed, at 1.0; of ``plain_moved`` over the prompts.
        seconds: what measuring took.
    """

    loss: dict[str, float]
    by_picture: list[float]
    training: float
    held_out: float | None
    plain_moved: float | None
    plain_loss: float | None
    norms: dict[str, float]
    likeness: dict[str, float] = field(default_factory=dict)
    diversity: float | None = None
    copying: float | None = None
    plain_drawings: float | None = None
    errors: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def drawn(self) -> bool:
        """Whether images were drawn."""
        return bool(self.likeness)

    def record(self) -> dict[str, Any]:
        """JSON-ready, rounded to what means something."""
        return {name: _rounded(value) for name, value in dataclasses.asdict(self).items()}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


class MeasuresFile:
    """``measures.json``: the measures of each snapshot that was measured, by its file's bytes.

    Args:
        folder: of measures with the same images, prompts and noise; is made when written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / "measures.json"
        self._by_fingerprint = self._read()

    def get(self, fingerprint: str) -> Measures | None:
        return self._by_fingerprint.get(fingerprint)

    def put(self, fingerprint: str, measures: Measures) -> None:
        """Write at once, so that nothing is measured twice after Ctrl-C."""
        self._by_fingerprint[fingerprint] = measures
        snapshots = {key: each.record() for key, each in self._by_fingerprint.items()}
        write_json(self._path, {"version": VERSION, "snapshots": snapshots})

    def _read(self) -> dict[str, Measures]:
        try:
            content = parse_json(self._path.read_text(encoding="utf-8"))
            if content["version"] != VERSION:
                return {}
            return {key: Measures(**record) for key, record in content["snapshots"].items()}
        # It holds nothing that cannot be measured again.
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}
