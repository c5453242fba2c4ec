"""Checks of where adapters attach: targets, blocks, and what learns at which rate."""

from __future__ import annotations

from collections.abc import Iterator

from lorasmith.config.checks.base import Check
from lorasmith.config.schema import TrainSettings
from lorasmith.core.errors import Problem

# Types made of an up and a down matrix, which LoRA+ is about.
WITH_UP = ("lora", "c3lier", "locon", "dylora", "dora")


def _without_effect(s: TrainSettings) -> Iterator[Problem]:
    adapter = s.adapter
    if s.optimizer.loraplus_ratio != 1.0 and adapter.type not in WITH_UP:
        what = f"has no effect on {adapter.type}, which has no up matrix"
        yield Problem("optimizer.loraplus_ratio", what, f"it is for {', '.join(WITH_UP)}")
    if adapter.block_lr_zero_threshold and adapter.blocks is None:
        what = "has no effect without block weights"
        yield Problem("adapter.block_lr_zero_threshold", what, "set adapter.blocks")
    if adapter.targets == ["attn"] and adapter.conv_rank and not adapter.include:
        what = "has no effect: the layers of attn hold no 3x3 convolution"
        yield Problem("adapter.conv_rank", what, "take attn-mlp or full as adapter.targets")


def _targets_leave_something(s: TrainSettings) -> Iterator[Problem]:
    only = {"unet-only": "unet", "te-only": "text_encoder"}
    named = [name for name in only if name in (s.adapter.targets or [])]
    if len(named) == 1 and not getattr(s.adapter, only[named[0]]):
        what = f"{named[0]} and {only[named[0]]} = false leave nothing to train"
        yield Problem("adapter.targets", what, "remove one of them")


CONTRADICTIONS: tuple[Check, ...] = (_targets_leave_something,)

ODDITIES: tuple[Check, ...] = (_without_effect,)
