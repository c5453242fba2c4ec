"""Rules that hold captions against what a tagger said of the images when it looked at them: the
scores that ``dataset tag`` keeps beside them. No model is run here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lorasmith.advice.audit.captions import WrittenCaption, images_of
from lorasmith.advice.audit.finding import Finding, Rule
from lorasmith.advice.audit.inputs import AuditInputs
from lorasmith.advice.audit_rules.caption_edits import edit_images_command, edit_plan, remove_tags
from lorasmith.core.text import quantity, quoted, shortlist
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.edit.consolidate import read_families
from lorasmith.curation.edit.spelling import bare

# A tagger that knows a thing gives it as much as the first in so large a share of the images whose
# captions have it, and in no more than a tenth of the others.
SEEN = 0.5
KNOWS = 0.85
FEWEST = 6
_ELSEWHERE = 0.1
# Below the first it does not see it in an image; above the second it is sure.
UNSEEN = 0.02
SURE = 0.9
# What is lacking in more captions than this share of those that have it is left out on purpose.
FORGOTTEN = 0.25
# A list of labels says what a base knows if it has so much of what the captions say.
SPOKEN = 0.5
_SHOWN = 12

_SOURCE = 'The Other LoRA Training Rentry, "False positives/autotagging"'
_HOW = "lorasmith dataset tag DIR --mode append --dry-run"


@dataclass(frozen=True)
class _Seen:
    """What the tagger gives one tag.

    Args:
        name: bare.
        with_it: captions that have it, with the image's score.
        without: those that have not, with theirs.
    """

    name: str
    with_it: Sequence[tuple[WrittenCaption, float]]
    without: Sequence[tuple[WrittenCaption, float]]

    @property
    def usual(self) -> float:
        """The median of the scores of images whose captions have it."""
        return float(np.median([score for _, score in self.with_it]))

    @property
    def is_known(self) -> bool:
        """Whether the tagger knows the thing, by what it says of these images."""
        seen = [score >= SEEN for _, score in self.with_it]
        elsewhere = [score >= SEEN for _, score in self.without]
        return (
            len(seen) >= FEWEST
            and sum(seen) >= KNOWS * len(seen)
            and sum(elsewhere) <= max(_ELSEWHERE * len(elsewhere), 1)
        )


def _known_tags(inputs: AuditInputs) -> Iterator[_Seen]:
    """Tags that the tagger knows: it sees them in most of the images whose captions have them."""
    scored = inputs.tagger_scores
    if scored is None:
        return
    columns = {bare(name): number for number, name in enumerate(scored.labels.names)}
    names = [name for name, count in inputs.tags.counts.items() if count >= FEWEST]
    names = [name for name in names if name in columns]
    scores = {os.path.abspath(path): one for path, one in scored.scores.items()}
    captions = [
        (caption, scores[os.path.abspath(caption.image)])
        for caption in inputs.tags.tagged
        if os.path.abspath(caption.image) in scores
    ]
    places = {columns[name]: place for place, name in enumerate(names)}
    table = np.zeros((len(captions), len(names)), np.float32)
    for row, (_, one) in enumerate(captions):
        for label, value in zip(one.labels.tolist(), one.values.tolist(), strict=True):
            if label in places:
                table[row, places[label]] = value
    for place, name in enumerate(names):
        pairs = [(caption, float(table[row, place])) for row, (caption, _) in enumerate(captions)]
        seen = _Seen(
            name,
            [(caption, score) for caption, score in pairs if name in caption.names],
            [(caption, score) for caption, score in pairs if name not in caption.names],
        )
        if seen.is_known:
            yield seen


def likely_wrong(inputs: AuditInputs) -> Iterator[Finding]:
    for seen in _known_tags(inputs):
        wrong = [(caption, score) for caption, score in seen.with_it if score < UNSEEN]
        if wrong:
            tag = inputs.tags.spelled(seen.name)
            worst = min(score for _, score in wrong)
            yield Finding(
                f"{quoted(tag)} is in {quantity(len(wrong), 'caption')} of pictures in which the "
                f"tagger does not see it ({worst:.2f}; {seen.usual:.2f} in the median of "
                f"{len(seen.with_it)} that have it)",
                images_of(caption for caption, _ in wrong),
                (tag,),
                value=round(worst, 4),
                command=_command(inputs, f"remove={tag}", wrong),
            )


def likely_missing(inputs: AuditInputs) -> Iterator[Finding]:
    families = read_families()
    for seen in _known_tags(inputs):
        missing = [
            (caption, score)
            for caption, score in seen.without
            if score >= SURE and not any(families.says(name, seen.name) for name in caption.names)
        ]
        if missing and len(missing) <= FORGOTTEN * len(seen.with_it):
            tag = inputs.tags.spelled(seen.name)
            most = max(score for _, score in missing)
            yield Finding(
                f"{quoted(tag)} is not in {quantity(len(missing), 'caption')} of pictures in which "
                f"the tagger sees it ({most:.2f}; {len(seen.with_it)} captions have it)",
                images_of(caption for caption, _ in missing),
                (tag,),
                value=round(most, 4),
                command=_command(inputs, f"add={tag}", missing),
            )


def _command(
    inputs: AuditInputs, operation: str, captions: Sequence[tuple[WrittenCaption, float]]
) -> str:
    return edit_images_command(inputs, operation, images_of(caption for caption, _ in captions))


def unknown(inputs: AuditInputs) -> Iterator[Finding]:
    labels = inputs.labels
    if labels is None:
        return
    known = set(map(bare, labels.names))
    counts = inputs.tags.counts
    others = [name for name, count in counts.items() if name not in known and count > 1]
    spoken = sum(count for name, count in counts.items() if name in known)
    # Whose labels a tagger has is the base's only if captions speak the same language.
    is_the_bases = inputs.vocabulary is not None or spoken >= SPOKEN * counts.total()
    if others and is_the_bases:
        spelled = tuple(map(inputs.tags.spelled, others))
        captions = [one for name in others for one in inputs.tags.captions_with[name]]
        yield Finding(
            f"{quantity(len(others), 'tag', 'is')} not among the {len(labels):,} labels"
            f"{'' if inputs.vocabulary is not None else ' of the tagger'}: "
            f"{shortlist(spelled, _SHOWN)}",
            images_of(captions),
            spelled,
            value=len(others),
        )


def _needs_scores(inputs: AuditInputs) -> str:
    if inputs.tagger_scores is not None:
        return ""
    return f"needs what a tagger says of the pictures; `{_HOW}` keeps it, and changes nothing"


def _needs_labels(inputs: AuditInputs) -> str:
    if inputs.labels is not None:
        return ""
    return f"needs the base's words: --vocabulary FILE, or a tagger's labels (`{_HOW}`)"


def _add(inputs: AuditInputs, findings: Sequence[Finding]) -> Plan:
    return edit_plan(inputs, findings, lambda finding: [f"add={tag}" for tag in finding.tags])


TAGGER_RULES: tuple[Rule, ...] = (
    Rule(
        "likely-wrong-tag",
        "Tags that are probably wrong",
        "warning",
        likely_wrong,
        "A single wrong tag makes its thing appear in other prompts, and the right one less.",
        source=_SOURCE,
        threshold=UNSEEN,
        unit=f"score, of a tag that has {SEEN} in {KNOWS:.0%} of the pictures that are to have it",
        fix=remove_tags,
        missing=_needs_scores,
    ),
    Rule(
        "likely-missing-tag",
        "Tags that are probably lacking",
        "warning",
        likely_missing,
        "What is there and not named is learned as part of the trigger, and answers to its name "
        "less.",
        source=_SOURCE,
        threshold=SURE,
        unit="score",
        fix=_add,
        missing=_needs_scores,
    ),
    Rule(
        "unknown-tags",
        "Tags that no label list has",
        "note",
        unknown,
        "Taggers' labels are the words that base models of the same site were trained with; others "
        "have to be learned from these pictures alone.",
        source='The Other LoRA Training Rentry, "Tags and details"',
        threshold=2,
        unit="captions with it, at least",
        missing=_needs_labels,
    ),
)
