"""Checks of the run: length, precision, validation, watchdog."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lorasmith.config.check import Check
from lorasmith.errors import Problem

if TYPE_CHECKING:
    from lorasmith.config.schema import TrainSettings


def _no_fp16_on_cpu(s: TrainSettings) -> Iterator[Problem]:
    if s.performance.device == "cpu" and s.train.precision == "fp16":
        yield Problem(
            "train.precision",
            "fp16 does not train on a CPU: it is slower than fp32 there and overflows",
            'use "auto", "bf16" or "fp32"',
        )


def _length(s: TrainSettings) -> Iterator[Problem]:
    if s.train.steps is not None and "epochs" in s.train.model_fields_set:
        yield Problem(
            "train",
            f"steps ({s.train.steps}) and epochs ({s.train.epochs}) are both given: steps decide",
            "remove one of them",
        )


CONTRADICTIONS: tuple[Check, ...] = (_no_fp16_on_cpu,)

ODDITIES: tuple[Check, ...] = (_length,)
