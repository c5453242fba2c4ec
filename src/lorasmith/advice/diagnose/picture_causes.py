"""Causes that lie in the pictures and in what their captions say."""

from __future__ import annotations

import shlex
from typing import Any

from lorasmith.advice.diagnose.cause import Suspicion, on_log, texts_of
from lorasmith.advice.diagnose.evidence import (
    Evidence,
    Sign,
    constant_answers,
    copies,
    denied_tags,
    disagreements,
    questions_said,
    silent_captions,
    unasked,
)
from lorasmith.advice.diagnose.tag_groups import OPTIONAL, is_negation
from lorasmith.core.text import quantity, word_list
from lorasmith.curation.filter_language.words import at_place


def no_trigger(evidence: Evidence) -> Suspicion | None:
    facts = evidence.facts
    if facts.triggers or facts.source == "nothing" or not facts.captions_known:
        return None
    word = "a word that means nothing yet"
    return Suspicion(
        0.65,
        ("no word of its own stands in all captions, and none was set: nothing calls it up",),
        changes={"captions.trigger": "auto"},
        todo=(
            f"Put {word} in front of all captions (captions.trigger = WORD). For a style that is "
            "to be everywhere, nothing is wrong."
        ),
    )


CONTRADICTORY = 0.1


def contradicting_tags(evidence: Evidence) -> Suspicion | None:
    dataset = evidence.facts.dataset
    if dataset is None:
        return None
    findings = [one for one in dataset.findings if one.rule == "contradiction"]
    texts = [one.what for one in findings[:3]]
    likelihood = 0.0
    if dataset.contradictory >= CONTRADICTORY and findings:
        likelihood = 0.6 + 0.35 * min(1.0, dataset.contradictory / 0.5)
    wrong: list[Any] = []
    if evidence.shown is not None:
        wrong, share = disagreements(evidence.shown)
        if share >= 2 * CONTRADICTORY:
            texts.append(
                f"the base sees another answer than {share:.0%} of the tags say, as in "
                f"{wrong[0].image}: {wrong[0].seen!r}, tagged {wrong[0].tag!r}"
            )
            likelihood = max(likelihood, 0.45) + 0.2 * min(1.0, share / 0.5)
    if not likelihood:
        return None
    return Suspicion(
        min(1.0, likelihood),
        tuple(texts),
        dataset.contradictory,
        command=_without_denied(evidence) or _dataset(evidence, "audit"),
        todo="Take the wrong tag of each pair out; look at what the base sees before you agree.",
    )


def _without_denied(evidence: Evidence) -> str:
    """A line for each tag that another answer of its caption denies."""
    if evidence.shown is None:
        return ""
    lines = []
    for tag, images in sorted(denied_tags(evidence.shown).items()):
        where = " or ".join(map(at_place, images))
        options = ("--remove", shlex.quote(tag), "--where", shlex.quote(where))
        lines.append(_dataset(evidence, "edit", *options))
    return "\n".join(lines)


REPEATED_TIMES, REPEATED_SHARE = 3.0, 0.12


def repeated_image(evidence: Evidence) -> Suspicion | None:
    dataset = evidence.facts.dataset
    if dataset is None or dataset.repeated_image is None:
        return None
    times = dataset.repeated / dataset.even_share
    if times < REPEATED_TIMES or dataset.repeated < REPEATED_SHARE:
        return None
    sign = copies(evidence)
    files = f" in {dataset.copies} files" if dataset.copies > 1 else ""
    text = (
        f"{dataset.repeated_image.name}{files} has {dataset.repeated:.0%} of all showings, "
        f"{times:.2g} times its share"
    )
    return Suspicion(
        0.65 + 0.2 * on_log(times / REPEATED_TIMES + 1, 4) + 0.15 * sign.size,
        texts_of(text, sign),
        times,
        command=_dataset(evidence, "dedupe") if dataset.copies > 1 else "",
        todo="Keep one of the copies, and give the picture the others' repeats.",
    )


FEW_TAGS, SILENT = 1.0, 0.3


def tags_missing(evidence: Evidence) -> Suspicion | None:
    dataset = evidence.facts.dataset
    if dataset is None or dataset.prose:
        return None
    texts: list[str | Sign] = []
    likelihood = 0.0
    if dataset.tags < FEW_TAGS:
        texts.append(f"a caption has {dataset.tags:.1f} tags beside the trigger, in the mean")
        likelihood = 0.85
    if evidence.shown is not None:
        silence = silent_captions(evidence.shown)
        if silence.share >= SILENT:
            image, tag = silence.images[0]
            texts.append(
                f"{silence.share:.0%} of the captions' answers are missing "
                f"({word_list(silence.questions)}), as in {image}: {tag!r}"
            )
            likelihood = max(likelihood, 0.5 + 0.4 * min(1.0, silence.share / 0.6))
    missing = [one for one in dataset.findings if one.rule == "likely-missing-tag"]
    if missing and not likelihood:
        texts.append(missing[0].what)
        likelihood = 0.4
    if not likelihood:
        return None
    return Suspicion(
        likelihood,
        texts_of(*texts),
        dataset.tags,
        command=_dataset(evidence, "tag", "--mode", "append"),
        todo=(
            "Say in the captions what varies from picture to picture: clothes, poses, backgrounds. "
            "What is not said is learned as part of the subject."
        ),
    )


def untagged_accessory(evidence: Evidence) -> Suspicion | None:
    dataset = evidence.facts.dataset
    if dataset is None or evidence.shown is None:
        return None
    said = questions_said(dict(dataset.tag_counts))
    for answer in constant_answers(evidence.shown):
        if answer.question not in OPTIONAL or is_negation(answer.tag) or said.get(answer.question):
            continue
        tags = evidence.shown.groups[answer.question]
        if not any(map(is_negation, tags)):
            continue  # Without "none" among the answers, the base picks one of them in any case.
        seen = f"the base sees {answer.tag!r} in {answer.share:.0%} of the pictures"
        sure = f"({answer.errors:.1f} standard errors above the next answer)"
        texts = [f"{seen} {sure}, and no caption names it"]
        likelihood = 0.8
        rate = unasked(evidence.drawn, answer.tag) if evidence.drawn is not None else None
        if rate is not None and rate > 0:
            texts.append(f"{rate:.0%} of the LoRA's drawings show it unasked")
            likelihood += 0.2 * rate
        return Suspicion(
            likelihood,
            tuple(texts),
            answer.share,
            command=_dataset(evidence, "edit", "--add", shlex.quote(answer.tag)),
            todo=(
                f"Tag it ({answer.tag}), so that it can be left out; a few pictures without it "
                "teach it best."
            ),
        )
    return None


def _dataset(evidence: Evidence, *words: str) -> str:
    """A ``lorasmith dataset`` command on the folders."""
    dataset = evidence.facts.dataset
    assert dataset is not None
    verb, *options = words
    return " ".join(["lorasmith dataset", verb, dataset.command, *options])


FEW_IMAGES = 8


def few_images(evidence: Evidence) -> Suspicion | None:
    dataset, sign = evidence.facts.dataset, copies(evidence)
    if dataset is None or dataset.images >= FEW_IMAGES or sign.size < 0.5:
        return None
    return Suspicion(
        0.35 + 0.2 * sign.size,
        texts_of(f"there are {quantity(dataset.images, 'picture')}", sign),
        float(dataset.images),
        todo="Add pictures that differ, or train for a shorter time.",
    )
