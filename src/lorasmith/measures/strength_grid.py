"""How much of each part of a LoRA is best: the loss over a grid of strengths of the UNet's part and
the text encoder's.

The guides' test ("works at 0.5 for the UNet and 1.0 for the text encoder: halve the UNet's rate")
with the loss on fixed noise in place of eyes. Other noise gives another optimum; how far it moves
is its error.

Shapes: S seeds of noise, U strengths of the UNet's part, T of the text encoder's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from lorasmith.measures.records import finite

if TYPE_CHECKING:
    from lorasmith.adapters.network import AdapterNetwork
    from lorasmith.measures.noise_probe import Probe

UNET = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
TEXT_ENCODER = (0.0, 0.5, 1.0, 1.5, 2.0)
# Cells whose losses are nearer than this share of the base's to the best one are as good.
TIE = 0.01


@dataclass(frozen=True, slots=True)
class Optimum:
    """The strengths of the lowest loss, refined between the grid's.

    Args:
        unet, text_encoder: mean over the seeds; ``text_encoder`` is 1 for a LoRA without that part.
        unet_error, text_encoder_error: standard errors over the seeds.
        gain: loss at the optimum less that at (1, 1), in shares of the base's; <= 0.
    """

    unet: float
    text_encoder: float
    unet_error: float
    text_encoder_error: float
    gain: float


@dataclass(frozen=True, slots=True)
class StrengthGrid:
    """
    Args:
        unet, text_encoder: the strengths; the latter is [1] for a LoRA without that part.
        loss: (S, U, T) change of the loss since the base model, in shares of the base's.
    """

    unet: list[float]
    text_encoder: list[float]
    loss: list[list[list[float]]]

    def at(self, unet: float, text_encoder: float) -> tuple[float, float]:
        """Mean loss over the seeds and its standard error, at strengths of the grid."""
        row, column = self.unet.index(unet), self.text_encoder.index(text_encoder)
        return mean_and_error([plane[row][column] for plane in self.loss])

    def means(self) -> list[list[float]]:
        """(U, T) over the seeds."""
        return [
            [fmean(plane[row][column] for plane in self.loss) for column in self._columns]
            for row in range(len(self.unet))
        ]

    @property
    def _columns(self) -> range:
        return range(len(self.text_encoder))

    def optimum(self) -> Optimum:
        """Where the loss is lowest; of cells that are as good, those nearest to full strength."""
        best = [self._best(plane) for plane in self.loss]
        unet, unet_error = mean_and_error([u for u, _ in best])
        text, text_error = mean_and_error([t for _, t in best])
        full = self.at(1.0, 1.0)[0]
        lowest = min(min(row) for row in self.means())
        return Optimum(unet, text, unet_error, text_error, lowest - full)

    def _best(self, plane: Sequence[Sequence[float]]) -> tuple[float, float]:
        lowest = min(min(row) for row in plane)
        good = [
            (row, column)
            for row in range(len(self.unet))
            for column in self._columns
            if plane[row][column] <= lowest + TIE
        ]
        row, column = min(good, key=self._distance_from_full)
        if (self.unet[row], self.text_encoder[column]) == (1.0, 1.0):
            return 1.0, 1.0
        return (
            lowest_between(self.unet, [one[column] for one in plane], row),
            lowest_between(self.text_encoder, plane[row], column),
        )

    def _distance_from_full(self, cell: tuple[int, int]) -> float:
        return abs(self.unet[cell[0]] - 1) + abs(self.text_encoder[cell[1]] - 1)


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and its standard error; that is infinite for a single value."""
    if len(values) < 2:
        return fmean(values), math.inf
    return fmean(values), stdev(values) / math.sqrt(len(values))


def lowest_between(places: Sequence[float], values: Sequence[float], index: int) -> float:
    """Where the parabola through a point and its neighbours is lowest; the point itself at an end,
    or where it is not lower than both."""
    if not 0 < index < len(places) - 1:
        return places[index]
    (x0, x1, x2), (y0, y1, y2) = places[index - 1 : index + 2], values[index - 1 : index + 2]
    left, right = (y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1)
    curve = (right - left) / (x2 - x0)
    if curve <= 0 or left > 0 or right < 0:
        return places[index]
    lowest = (x0 + x1) / 2 - left / (2 * curve)
    return min(max(lowest, x0), x2)


def measure_strength_grid(
    network: AdapterNetwork,
    probes: Sequence[Probe],
    unet: Sequence[float] = UNET,
    text_encoder: Sequence[float] = TEXT_ENCODER,
    cell_done: Callable[[], object] = lambda: None,
) -> StrengthGrid:
    """
    Args:
        network: not attached.
        probes: the same images with the noise of each seed.
        cell_done: is called after each pair of strengths.
    """
    text = list(text_encoder) if network.parts().get("text_encoder") else [1.0]
    loss: list[list[list[float]]] = [[[] for _ in unet] for _ in probes]
    with network.attached():
        for row, strength in enumerate(unet):
            for other in text:
                network.set_strength(strength, other)
                for plane, probe in zip(loss, probes, strict=True):
                    plane[row].append(finite(probe.change(probe.predict()).mean()))
                cell_done()
        network.set_strength()
    return StrengthGrid(list(unet), text, loss)
