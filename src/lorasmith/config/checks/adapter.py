"""Checks of the adapter: its type and sizes, and the layers that it is on."""

from __future__ import annotations

import math
from collections.abc import Iterator

from lorasmith.config.adapter_types import ADAPTERS, having
from lorasmith.config.checks.base import Check, is_given, trained_rates
from lorasmith.config.optimizers import optimizer_facts
from lorasmith.config.schema import TrainSettings
from lorasmith.core.errors import Problem

HIGH_LOHA_RANK = 32
SD_WIDTH = 320
LOW_IA3_LR = 1e-3

# Types made of an up and a down matrix, which LoRA+ is about.
WITH_UP = ("lora", "c3lier", "locon", "dylora", "tlora", "dora")

# What presets set for all types alike, so that a type without them leaves them aside.
_SIZES = ("rank", "alpha", "conv_rank", "conv_alpha")


def _something_is_trained(s: TrainSettings) -> Iterator[Problem]:
    parts = s.adapter.parts
    if not (s.adapter.unet or s.adapter.text_encoder):
        yield Problem(
            "adapter",
            "unet and text_encoder are both false: there is nothing to train",
            "set at least one of them to true",
        )
    elif not any(parts.values()):
        yield Problem(
            "adapter",
            "targets and blocks leave nothing of what unet and text_encoder allow",
            "give at least one block a weight, or another target",
        )
    elif not any(s.optimizer.lrs[part] for part, is_trained in parts.items() if is_trained):
        yield Problem(
            "optimizer.lr",
            "the learning rate of everything that is trained is 0: nothing would change",
            "give a learning rate, such as 1e-4",
        )


def _type_has_the_options(s: TrainSettings) -> Iterator[Problem]:
    for name in _options_only(_SIZES):
        if name not in ADAPTERS[s.adapter.type].options and is_given(s, "adapter", name):
            types = having(name)
            yield Problem(
                f"adapter.{name}",
                f"{s.adapter.type} does not have it; only {', '.join(types)} "
                + ("has" if len(types) == 1 else "have"),
                f"remove it, or set adapter.type to {types[0]}",
            )


def _alpha_over_rank(s: TrainSettings) -> Iterator[Problem]:
    adapter = s.adapter
    if "alpha" not in ADAPTERS[adapter.type].options:
        return
    sizes = (
        ("rank", adapter.rank, "alpha", adapter.effective_alpha),
        ("conv_rank", adapter.effective_conv_rank, "conv_alpha", adapter.effective_conv_alpha),
    )
    for rank_name, rank, alpha_name, alpha in sizes:
        if not rank or (alpha_name == "conv_alpha" and getattr(adapter, alpha_name) is None):
            continue
        full, word = (math.sqrt(rank), "the root of ") if adapter.rs_lora else (rank, "")
        if alpha > full * 1.001:
            yield Problem(
                f"adapter.{alpha_name}",
                f"{alpha:g} is larger than {word}{rank_name} {rank}: every change counts "
                f"{alpha / full:.3g} times, which tends to burn",
                f"take {full:.3g} or half of it" if adapter.rs_lora else "take the rank or half",
            )
    if adapter.conv_alpha is not None and not adapter.effective_conv_rank:
        yield Problem(
            "adapter.conv_alpha", "has no effect while conv_rank is 0", "set adapter.conv_rank"
        )


def _options_without_effect(s: TrainSettings) -> Iterator[Problem]:
    adapter, facts = s.adapter, ADAPTERS[s.adapter.type]
    for name in _SIZES:
        if name not in facts.options and is_given(s, "adapter", name):
            yield Problem(
                f"adapter.{name}", f"has no effect: {adapter.type} has no {name}", "remove it"
            )
    if adapter.tucker and not adapter.effective_conv_rank:
        yield Problem(
            "adapter.tucker",
            "has no effect while no 3x3 convolution is adapted",
            "set adapter.conv_rank",
        )
    if adapter.decompose_on_output and adapter.type != "dora" and not adapter.weight_decompose:
        yield Problem(
            "adapter.decompose_on_output",
            "has no effect while weight_decompose is false",
            "set adapter.weight_decompose",
        )
    if adapter.decompose_on_output and adapter.init_from is not None:
        yield Problem(
            "adapter.decompose_on_output",
            "has no effect: lengths in the file that training goes on from stay of the side that "
            "they are of",
            "remove it",
        )
    if adapter.full_matrix and adapter.decompose_both:
        yield Problem(
            "adapter.decompose_both", "has no effect while full_matrix is true", "remove one"
        )
    if adapter.full_matrix and adapter.alpha is not None:
        yield Problem(
            "adapter.alpha",
            "has no effect while full_matrix is true: no rank scales full matrices",
            "remove it",
        )


def _odd_sizes(s: TrainSettings) -> Iterator[Problem]:
    adapter = s.adapter
    if adapter.type == "loha" and adapter.rank > HIGH_LOHA_RANK:
        yield Problem(
            "adapter.rank",
            f"loha of rank {adapter.rank} reaches rank {adapter.rank**2}, more than any layer has, "
            "and its file is twice a LoRA's",
            "4 to 16 is usual",
        )
    if adapter.type == "lokr" and adapter.factor > 0 and SD_WIDTH % adapter.factor:
        yield Problem(
            "adapter.factor",
            f"{adapter.factor} does not divide {SD_WIDTH}, the width of the widest maps; the next "
            "smaller divisor is taken there",
            "take 4, 8 or 16",
        )
    if adapter.type == "dylora" and adapter.unit >= adapter.rank > 1:
        yield Problem(
            "adapter.unit",
            f"{adapter.unit} ranks together are all {adapter.rank}: the file cannot be cut",
            "take 1, or a small part of the rank",
        )
    if adapter.type == "tlora" and (adapter.min_rank or 0) >= adapter.rank > 1:
        yield Problem(
            "adapter.min_rank",
            f"{adapter.min_rank} are all {adapter.rank} ranks: noise makes no difference",
            "take half of the rank or less",
        )
    if adapter.type == "c3lier" and adapter.conv_rank == 0:
        yield Problem(
            "adapter.conv_rank",
            "is 0: c3lier without convolutions is lora",
            "set adapter.type to lora to say so",
        )


def _ia3_learns_slowly(s: TrainSettings) -> Iterator[Problem]:
    rates = trained_rates(s)
    adaptive = optimizer_facts(s.optimizer.name).adaptive
    if s.adapter.type != "ia3" or adaptive or s.optimizer.seeks_lr or not rates:
        return
    if (highest := max(rates.values())) < LOW_IA3_LR:
        yield Problem(
            "optimizer.lr",
            f"{highest:g} is low for ia3, whose few numbers have a long way to go",
            "5e-3 to 1e-2 is usual",
        )


def _options_only(others: tuple[str, ...]) -> list[str]:
    """Every setting that some type has, but for ``others``."""
    names = dict.fromkeys(name for facts in ADAPTERS.values() for name in facts.options)
    return [name for name in names if name not in others]


def _layers_without_effect(s: TrainSettings) -> Iterator[Problem]:
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


CONTRADICTIONS: tuple[Check, ...] = (
    _something_is_trained,
    _type_has_the_options,
    _targets_leave_something,
)

ODDITIES: tuple[Check, ...] = (
    _alpha_over_rank,
    _options_without_effect,
    _odd_sizes,
    _ia3_learns_slowly,
    _layers_without_effect,
)
