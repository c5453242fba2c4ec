"""Tags of a tagger into captions: a plan for a collection."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from lorasmith.core.errors import Problem
from lorasmith.core.events import Controls, Observer, ignore
from lorasmith.core.text import quantity
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.collection import Collection
from lorasmith.curation.edit.caption_text import TagLine
from lorasmith.curation.edit.new_captions import Mode, NewCaptions
from lorasmith.curation.edit.spelling import bare
from lorasmith.curation.filter import parse_filter
from lorasmith.curation.tagger.choose import TagChooser, TagRules
from lorasmith.curation.tagger.model import Tagger
from lorasmith.curation.tagger.scores import Scored
from lorasmith.curation.tagger.scoring import score_images
from lorasmith.data.captions import join_tags


def plan_tags(
    collection: Collection,
    tagger: Tagger,
    rules: TagRules | None = None,
    *,
    where: str = "",
    mode: Mode = "if-empty",
    batch: int = 8,
    command: str = "tag",
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> Plan:
    """What writing the tagger's tags would change.

    Its scores are kept in the dataset's ``.lorasmith``; images that have them are not shown to it
    again. Images that cannot be read are left out, and those for which no tag is found warned of.

    Args:
        rules: which scores become tags.
        where: only images that this filter takes.
        mode: what becomes of captions that are there.
        batch: images at a time.
        command: what the history says of it.

    Raises:
        UserError: the tagger cannot be opened.
        Stopped: by ``controls``; scores are kept.
    """
    plan = Plan(command, collection.roots)
    images = parse_filter(where).select(collection, observer, controls)
    captions = NewCaptions(images, mode, plan)
    by_root = {
        root: [image.path for image in captions.images if image.root == root]
        for root in collection.roots
    }
    scored = score_images(by_root, tagger, batch=batch, observer=observer, controls=controls)
    plan.skipped += scored.problems
    without = write_tags(captions, scored, rules or TagRules(), mode)
    if without:
        others = f", nor for {quantity(len(without) - 1, 'more picture')}" if without[1:] else ""
        what = f"no tag reaches its threshold{others}; nothing is written there"
        plan.warnings.append(Problem(str(without[0]), what, "lower --general"))
    return plan


def write_tags(captions: NewCaptions, scored: Scored, rules: TagRules, mode: Mode) -> list[Path]:
    """Plan the tags of images that have scores.

    Returns:
        Images for which there are none.
    """
    choose = TagChooser(scored.labels, rules)
    without = []
    for image in captions.images:
        scores = scored.scores.get(image.path)
        if scores is None:
            continue
        if tags := choose(scores):
            captions.write(image, join_tags(tags), partial(with_tags, tags=tags, mode=mode))
        else:
            without.append(image.path)
    return without


def with_tags(caption: str, tags: Sequence[str], mode: Mode) -> str:
    """A caption with the tags that it lacks, in any spelling, behind or before its own."""
    line = TagLine(caption)
    present = set(map(bare, line.tags))
    missing = [tag for tag in tags if bare(tag) not in present]
    line.insert(0 if mode == "prepend" else len(line.tags), missing)
    return str(line)
