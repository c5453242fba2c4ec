"""Causes that lie in how a LoRA was trained: rates, length, size, the base model."""

from __future__ import annotations

from typing import Any

from lorasmith.advice.diagnose.cause import Suspicion, larger, on_log, texts_of
from lorasmith.advice.diagnose.evidence import (
    NONE,
    Evidence,
    Sign,
    burnt,
    copies,
    leaks,
    learns_by_heart,
    text_encoder_burnt,
    wants_skip,
    weak,
)

HIGH_RATE, LOW_RATE = 2.0, 0.5
TEXT_RATE = 2.5
LONG, SHORT = 1.8, 0.55


def rate_high(evidence: Evidence) -> Suspicion | None:
    facts, sign = evidence.facts, burnt(evidence)
    rate = facts.rate("unet")
    if rate is None:
        known = facts.sets_lr or bool(facts.lr and facts.usual_lr)
        if sign is NONE or known:
            return None
        todo = "Train with a quarter of the learning rate, or for a quarter as long"
        return Suspicion(0.6 * sign.size, texts_of(sign), todo=f"{todo}.")
    if rate < HIGH_RATE:
        return None
    lr, usual = facts.lr["unet"], facts.usual_lr["unet"]
    likelihood = 0.4 + 0.35 * on_log(rate, 8) + 0.25 * sign.size
    return Suspicion(
        likelihood,
        texts_of(
            f"the UNet's rate was {lr:.3g}, {rate:.2g} times the {usual:.3g} usual here", sign
        ),
        rate,
        _usual_rates(evidence),
        todo=f"Train with the usual rate, optimizer.lr = {usual:.3g}.",
    )


def rate_low(evidence: Evidence) -> Suspicion | None:
    facts, sign = evidence.facts, weak(evidence)
    rate = facts.rate("unet")
    if rate is None or rate > LOW_RATE:
        return None
    lr, usual = facts.lr["unet"], facts.usual_lr["unet"]
    return Suspicion(
        0.4 + 0.35 * on_log(1 / rate, 8) + 0.25 * sign.size,
        texts_of(
            f"the UNet's rate was {lr:.3g}, {rate:.2g} times the {usual:.3g} usual here", sign
        ),
        rate,
        _usual_rates(evidence),
        todo=f"Train with the usual rate, optimizer.lr = {usual:.3g}.",
    )


def _rate_text(part: str, lr: float, usual: float) -> str:
    return f"the {part}'s rate was {lr:.3g}, {lr / usual:.2g} times the {usual:.3g} usual here"


def _usual_rates(evidence: Evidence) -> dict[str, Any]:
    usual = evidence.facts.usual_lr
    changes: dict[str, Any] = {"optimizer.lr": usual["unet"]}
    for part in ("unet", "text_encoder"):
        if part in usual:
            changes[f"optimizer.{part}_lr"] = usual[part]
    return changes


def text_encoder_rate_high(evidence: Evidence) -> Suspicion | None:
    facts, sign = evidence.facts, text_encoder_burnt(evidence)
    rate, unet = facts.rate("text_encoder"), facts.rate("unet")
    if rate is None or unet is None:
        if sign is NONE:
            return None
        todo = "Halve the text encoder's rate (optimizer.text_encoder_lr)."
        return Suspicion(0.6 * sign.size, texts_of(sign), todo=todo)
    ratio = rate / max(unet, 1e-9)
    if ratio < TEXT_RATE or rate < TEXT_RATE / 2:
        # The rates are as usual; the measure alone would be said of a short or a long run as well.
        return None
    lr, usual = facts.lr["text_encoder"], facts.usual_lr["text_encoder"]
    text = _rate_text("text encoder", lr, usual)
    changes = {"optimizer.text_encoder_lr": usual}
    todo = f"Train with optimizer.text_encoder_lr = {usual:.3g}."
    likelihood = 0.45 + 0.35 * on_log(ratio, 10) + 0.2 * larger(sign, burnt(evidence)).size
    return Suspicion(likelihood, texts_of(text, sign), ratio, changes, todo=todo)


def too_long(evidence: Evidence) -> Suspicion | None:
    facts = evidence.facts
    length = facts.length
    sign = larger(copies(evidence), learns_by_heart(evidence), burnt(evidence))
    if length is None or length < LONG:
        return None
    assert facts.uses is not None
    assert facts.usual_uses is not None
    text = f"each picture was shown {facts.uses:.0f} times, where {facts.usual_uses:.0f} are usual"
    return Suspicion(
        0.4 + 0.35 * on_log(length, 3) + 0.25 * sign.size,
        texts_of(text, sign),
        length,
        {"train.epochs": "auto", "train.steps": None},
        todo=(
            'Train for the usual time (train.epochs = "auto"), or keep an earlier snapshot: '
            "lorasmith pick says which."
        ),
    )


def too_short(evidence: Evidence) -> Suspicion | None:
    facts, sign = evidence.facts, weak(evidence)
    length = facts.length
    if length is None or length > SHORT:
        return None
    assert facts.uses is not None
    assert facts.usual_uses is not None
    text = f"each picture was shown {facts.uses:.0f} times, where {facts.usual_uses:.0f} are usual"
    return Suspicion(
        0.35 + 0.3 * on_log(1 / length, 5) + 0.25 * sign.size,
        texts_of(text, sign),
        length,
        {"train.epochs": "auto", "train.steps": None},
        todo='Train for the usual time (train.epochs = "auto").',
    )


def alpha_high(evidence: Evidence) -> Suspicion | None:
    facts = evidence.facts
    # By the rank, with rsLoRA too: its larger scale was chosen for what it is.
    if not facts.alpha or not facts.rank or facts.alpha <= facts.rank:
        return None
    times = facts.alpha / facts.rank
    sign = burnt(evidence)
    text = (
        f"alpha {facts.alpha:g} is {times:.2g} times the rank, {facts.rank}, so all that is "
        "learned is multiplied by more than is usual"
    )
    looked = evidence.measures is not None or evidence.grid is not None
    harmless = "less of it is no better: nothing that was measured shows harm of that"
    return Suspicion(
        0.65 + 0.15 * on_log(times, 2) + 0.2 * sign.size,
        texts_of(text, harmless if looked and sign is NONE else sign),
        times,
        {"adapter.alpha": facts.rank},
        todo=f"Train with adapter.alpha = {facts.rank} or less.",
    )


def clip_skip(evidence: Evidence) -> Suspicion | None:
    facts, measured = evidence.facts, wants_skip(evidence)
    said = facts.usual_clip_skip
    if facts.clip_skip is None:
        return None
    wanted = said if said is not None and said != facts.clip_skip else None
    if wanted is None and (measured is None or said == facts.clip_skip):
        return None
    texts: list[str | Sign] = [f"it was trained at CLIP skip {facts.clip_skip}"]
    likelihood = 0.0
    if wanted is not None:
        texts.append(f"the base says that it wants {wanted}")
        likelihood = 0.8
    if measured is not None and wanted in (None, measured[0]):
        wanted = measured[0]
        texts.append(measured[1])
        likelihood = max(likelihood, 0.5) + (0.4 if likelihood < 0.8 else 0.2) * measured[1].size
    assert wanted is not None
    return Suspicion(
        min(1.0, likelihood),
        texts_of(*texts),
        float(facts.clip_skip),
        {"model.clip_skip": wanted},
        todo=f"Train with model.clip_skip = {wanted}, and draw with the same.",
    )


def other_base(evidence: Evidence) -> Suspicion | None:
    facts = evidence.facts
    if facts.same_base is not False:
        return None
    sign = larger(burnt(evidence), weak(evidence))
    name = facts.base or "another model"
    return Suspicion(
        0.6 + 0.35 * sign.size,
        texts_of(f"it was trained on {name}, which is another file than {facts.given_base}", sign),
        changes={"model.path": facts.given_base},
        todo=f"Train on {facts.given_base}, or use it on {name}.",
    )


def base_not_kept(evidence: Evidence) -> Suspicion | None:
    facts, sign = evidence.facts, leaks(evidence)
    if facts.keeps_base is not False or not facts.triggers or sign.size < 0.3:
        return None
    return Suspicion(
        0.35 + 0.3 * sign.size,
        texts_of("nothing kept the base's own output while it was trained", sign),
        changes={"preservation.enabled": True},
        todo="Train with preservation.enabled = true, or with regularisation pictures.",
    )
