"""What a run can train, as far as settings must know it: a row for each value of ``train.kind``.

What makes it is in :mod:`lorasmith.training.kinds.table`, which says how a kind is added.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from lorasmith.core.errors import RunError

if TYPE_CHECKING:
    from pathlib import Path

    from lorasmith.config.schema import TrainSettings

EMBEDDING_LR = 5e-3
"""What the web UI's textual inversion takes: vectors have far to go, and there are few of them."""

PIVOTAL_LR = 5e-4
"""What cloneofsimo's pivotal tuning takes, beside a LoRA's 1e-4."""


Contrast = Literal["prompts", "pairs"]


@dataclass(frozen=True, slots=True)
class KindFacts:
    """
    Args:
        title: what a run of this kind makes, in a sentence: "a LoRA".
        sections: those of the settings that have an effect for some kinds alone, this among them.
        trains: for each part that can have a learning rate in such a run, whether it is trained.
        one_pass: whether a step has one backward pass alone, in one process.
        defaults: settings that nobody chose, where such runs want others than LoRAs; what a base
            says of settings is meant for LoRAs, too, and counts for less.
        has_strength: whether who draws with it says how much of it to apply.
        keeps_base: captions without its words mean what they did, whatever it learns.
        unjudged: why neither ``pick`` nor ``train.stop = "best"`` can compare the snapshots of such
            a run, "" if they can.
        contrast: what such a run learns the difference between, if it is no run on images and their
            captions: two prompts, or the two sides of pairs of images.
        steps: optimizer steps of such a run, if it is not told how long.
    """

    title: str
    sections: tuple[str, ...]
    trains: Callable[[TrainSettings], Mapping[str, bool]]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    has_strength: bool = True
    keeps_base: bool = False
    unjudged: Callable[[TrainSettings], str] = lambda settings: ""
    one_pass: Callable[[TrainSettings], bool] = lambda settings: False
    contrast: Callable[[TrainSettings], Contrast | None] = lambda settings: None
    steps: int = 500


def _adapter_parts(settings: TrainSettings) -> dict[str, bool]:
    adapter = settings.adapter
    return {"unet": adapter.unet, "text_encoder": adapter.text_encoder}


def _full_parts(settings: TrainSettings) -> dict[str, bool]:
    return {"unet": settings.full.unet, "text_encoder": settings.full.text_encoder}


def _slider_parts(settings: TrainSettings) -> dict[str, bool]:
    return {"unet": settings.adapter.parts["unet"]}


def _embedding_contrast(settings: TrainSettings) -> Contrast | None:
    return "pairs" if settings.embedding.negative else None


def _slider_contrast(settings: TrainSettings) -> Contrast:
    return "prompts" if settings.data.path is None else "pairs"


# The rank of the paper's code: an attribute is one direction. Of its 1000 steps half will do, since
# each trains both sides.
SLIDER = {"adapter.type": "lora", "adapter.rank": 4, "adapter.alpha": 4}

KINDS: Mapping[str, KindFacts] = {
    "lora": KindFacts("a LoRA", ("adapter",), _adapter_parts),
    "embedding": KindFacts(
        "an embedding",
        ("embedding",),
        lambda settings: {"embedding": True},
        defaults={"optimizer.lr": EMBEDDING_LR},
        has_strength=False,
        keeps_base=True,
        contrast=_embedding_contrast,
        unjudged=lambda settings: (
            "it is an embedding to be avoided, and its drawings are not to be like the pictures"
            if settings.embedding.negative
            else ""
        ),
    ),
    "lora+embedding": KindFacts(
        "a LoRA with an embedding",
        ("adapter", "embedding"),
        lambda settings: {**_adapter_parts(settings), "embedding": True},
        defaults={"optimizer.embedding_lr": PIVOTAL_LR},
    ),
    "full": KindFacts(
        "a checkpoint",
        ("full",),
        _full_parts,
        has_strength=False,
        one_pass=lambda settings: settings.full.fused_backward,
        defaults={"optimizer.lr": 5e-6},  # diffusers' DreamBooth example.
    ),
    "slider": KindFacts(
        "a slider",
        ("adapter", "slider"),
        _slider_parts,
        defaults=SLIDER,
        contrast=_slider_contrast,
        unjudged=lambda settings: "a slider has no pictures that its drawings are to be like",
    ),
}


def refuse_unjudged(run: Path, settings: TrainSettings) -> None:
    """
    Raises:
        RunError: ``pick`` cannot compare the run's snapshots; says why, and what to do.
    """
    if why := kind_facts(settings).unjudged(settings):
        hint = "look at its snapshots side by side: `lorasmith grid --epochs RUN`"
        raise RunError.of(run, f"pick does not judge it: {why}", hint)


def kind_facts(settings: TrainSettings) -> KindFacts:
    """Those of the kind that the settings choose."""
    return KINDS[settings.train.kind]
