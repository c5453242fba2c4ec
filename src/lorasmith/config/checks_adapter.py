"""Checks of the adapter and what it is trained on: type, sizes, targets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lorasmith.config.check import Check
from lorasmith.errors import Problem

if TYPE_CHECKING:
    from lorasmith.config.schema import TrainSettings


def _something_is_trained(s: TrainSettings) -> Iterator[Problem]:
    parts = {"unet": s.adapter.unet, "text_encoder": s.adapter.text_encoder}
    if not any(parts.values()):
        yield Problem(
            "adapter",
            "unet and text_encoder are both false: there is nothing to train",
            "set at least one of them to true",
        )
    elif not any(s.optimizer.lrs[part] for part, wanted in parts.items() if wanted):
        yield Problem(
            "optimizer.lr",
            "the learning rate of everything that is trained is 0: nothing would change",
            "give a learning rate, such as 1e-4",
        )


def _alpha_over_rank(s: TrainSettings) -> Iterator[Problem]:
    pairs = (("rank", "alpha"), ("conv_rank", "conv_alpha"))
    for rank_name, alpha_name in pairs:
        rank, alpha = getattr(s.adapter, rank_name), getattr(s.adapter, alpha_name)
        if alpha is not None and rank and alpha > rank:
            yield Problem(
                f"adapter.{alpha_name}",
                f"{alpha:g} is larger than {rank_name} {rank}: every change counts "
                f"{alpha / rank:g} times, which tends to burn",
                "take the rank or half of it",
            )
    if s.adapter.conv_alpha is not None and not s.adapter.conv_rank:
        yield Problem(
            "adapter.conv_alpha", "has no effect while conv_rank is 0", "set adapter.conv_rank"
        )


CONTRADICTIONS: tuple[Check, ...] = (_something_is_trained,)

ODDITIES: tuple[Check, ...] = (_alpha_over_rank,)
