"""Why a LoRA is as it is: one table of causes, a function each, ranked by how likely they are.

Each weighs what is known of the training (a rate eight times the usual one) with what was measured
(the LoRA is best at half strength). What is known counts for most where it is there: the same
measures come of many causes. Without it the measures alone speak, more quietly.

The weights were set by hand, and tried on runs of the demo world that were made wrong on purpose:
benchmarks/diagnose.md has what came of it.
"""

from __future__ import annotations

from lorasmith.advice.diagnose.cause import Cause, CauseRule
from lorasmith.advice.diagnose.evidence import Evidence
from lorasmith.advice.diagnose.picture_causes import (
    CONTRADICTORY,
    FEW_IMAGES,
    FEW_TAGS,
    REPEATED_TIMES,
    contradicting_tags,
    few_images,
    no_trigger,
    repeated_image,
    tags_missing,
    untagged_accessory,
)
from lorasmith.advice.diagnose.training_causes import (
    HIGH_RATE,
    LONG,
    LOW_RATE,
    SHORT,
    TEXT_RATE,
    alpha_high,
    base_not_kept,
    clip_skip,
    other_base,
    rate_high,
    rate_low,
    text_encoder_rate_high,
    too_long,
    too_short,
)

NAMED = 0.35
"""From this likelihood on a cause is told."""

_OTHER = "The Other LoRA Training Rentry"
_OVERFITTING = f'{_OTHER}, "Overfitting"'
_STRENGTH = f'{_OTHER}, "Strength (at generation time)"'
_PARTS = f'{_OTHER}, "If you have the additional-networks extension"'
_TAGGING = f'{_OTHER}, "Debugging tagging"'


CAUSES: tuple[CauseRule, ...] = (
    CauseRule(
        "rate-high",
        "Learning rate much too high",
        rate_high,
        "Weights overshoot: the subject comes with damage, and less of the LoRA is better.",
        _OVERFITTING,
        HIGH_RATE,
        "times the usual rate",
    ),
    CauseRule(
        "rate-low",
        "Learning rate much too low",
        rate_low,
        "In the same time it learns a fraction of what it could.",
        _STRENGTH,
        LOW_RATE,
        "times the usual rate",
    ),
    CauseRule(
        "text-encoder-rate-high",
        "Text encoder's learning rate much too high",
        text_encoder_rate_high,
        "Words lose what they meant, and prompts stop doing what they say.",
        _PARTS,
        TEXT_RATE,
        "times the UNet's, each as a share of its usual one",
    ),
    CauseRule(
        "too-long",
        "Trained much too long",
        too_long,
        "Pictures are learned by heart, and drawings repeat them.",
        _OVERFITTING,
        LONG,
        "times the usual showings",
    ),
    CauseRule(
        "too-short",
        "Trained too short",
        too_short,
        "It has not seen its pictures often enough.",
        _STRENGTH,
        SHORT,
        "times the usual showings",
    ),
    CauseRule(
        "alpha-high",
        "Alpha above the rank",
        alpha_high,
        "Each step goes further than the rate says: guides never put alpha above the rank.",
        _OVERFITTING,
        1.0,
        "times the rank",
    ),
    CauseRule(
        "clip-skip",
        "Another CLIP skip than the base wants",
        clip_skip,
        "Captions reach the UNet in a form that the base was not trained with.",
    ),
    CauseRule(
        "other-base",
        "Trained on another base model",
        other_base,
        "What is learned are differences from one base's weights; on others they mean less.",
        f'{_OTHER}, "Test your model with multiple checkpoints"',
    ),
    CauseRule(
        "no-trigger",
        "No trigger word",
        no_trigger,
        "What all the pictures share has no word to go to, so it goes everywhere.",
    ),
    CauseRule(
        "contradicting-tags",
        "Tags that contradict each other, or the pictures",
        contradicting_tags,
        "A wrong tag teaches the wrong thing, and neither can be had when asked for.",
        f'{_OTHER}, "False positives/autotagging"',
        CONTRADICTORY,
        "of the captions",
    ),
    CauseRule(
        "repeated-image",
        "One picture shown far more often than others",
        repeated_image,
        "The LoRA learns that picture by heart before it learns the others.",
        "",
        REPEATED_TIMES,
        "times its share of the showings",
    ),
    CauseRule(
        "tags-missing",
        "Tags missing from the captions",
        tags_missing,
        "What no caption says belongs to the trigger, and comes with it unasked.",
        _TAGGING,
        FEW_TAGS,
        "tags a caption",
    ),
    CauseRule(
        "untagged-accessory",
        "Something worn in all pictures, never tagged",
        untagged_accessory,
        "It becomes part of the subject, and prompts can hardly take it off.",
        _TAGGING,
    ),
    CauseRule(
        "few-images",
        "Too few pictures",
        few_images,
        "A handful of pictures is learned by heart before the subject is.",
        "",
        FEW_IMAGES,
        "pictures",
    ),
    CauseRule(
        "base-not-kept",
        "Nothing keeps the base as it is",
        base_not_kept,
        "Prompts of other things change with the LoRA.",
    ),
)


def causes_of(evidence: Evidence, least: float = NAMED) -> list[Cause]:
    """The likeliest first."""
    found = [
        Cause(rule, suspicion)
        for rule in CAUSES
        if (suspicion := rule.find(evidence)) is not None and suspicion.likelihood >= least
    ]
    return sorted(found, key=lambda cause: -cause.likelihood)
