"""Checks of loss, noise and masks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lorasmith.config.check import Check
from lorasmith.errors import Problem

if TYPE_CHECKING:
    from lorasmith.config.schema import TrainSettings

HIGH_NOISE_OFFSET = 0.2


def _loss(s: TrainSettings) -> Iterator[Problem]:
    if s.loss.noise_offset > HIGH_NOISE_OFFSET:
        yield Problem(
            "loss.noise_offset",
            f"{s.loss.noise_offset:g} is high: pictures look deep-fried",
            "0.05 to 0.1 is usual",
        )


CONTRADICTIONS: tuple[Check, ...] = ()

ODDITIES: tuple[Check, ...] = (_loss,)
