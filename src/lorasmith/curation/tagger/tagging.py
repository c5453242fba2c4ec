"""Tags of a tagger into captions: a plan for a collection, from scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from lorasmith.core.errors import DatasetError, Problem
from lorasmith.core.text import quantity
from lorasmith.curation.collection import Collection, CollectionImage
from lorasmith.curation.edit.caption_text import CaptionFile, TagLine, edit_captions
from lorasmith.curation.edit.spelling import bare
from lorasmith.curation.plan import Plan
from lorasmith.curation.tagger.choose import TagChooser, TagRules
from lorasmith.curation.tagger.scores import Scored
from lorasmith.data.captions import join_tags

Mode = Literal["if-empty", "append", "prepend", "replace"]
MODES: tuple[Mode, ...] = get_args(Mode)
"""What becomes of a caption that is there: it stays; tags that it lacks follow it, or precede it;
or it goes."""


def images_to_tag(images: Sequence[CollectionImage], mode: Mode) -> list[CollectionImage]:
    """Those whose captions may change, so that no others are scored.

    Raises:
        DatasetError: with the captions that cannot be read.
    """
    if mode != "if-empty":
        return list(images)
    problems: list[Problem] = []
    chosen = []
    for image in images:
        try:
            if not image.caption:
                chosen.append(image)
        except DatasetError as error:
            problems += error.problems
    if problems:
        raise DatasetError(problems)
    return chosen


def plan_tags(
    collection: Collection,
    scored: Scored,
    rules: TagRules | None = None,
    *,
    mode: Mode = "if-empty",
    images: Sequence[CollectionImage] | None = None,
    command: str = "tag",
) -> Plan:
    """What writing the tagger's tags would change.

    Args:
        collection: of the images.
        scored: from :func:`lorasmith.curation.tagger.scoring.score_images`.
        rules: which scores become tags.
        mode: what becomes of captions that are there.
        images: only these; all of the collection.
        command: what the history says of it.
    """
    plan = Plan(command, collection.roots)
    plan.warnings += scored.problems
    choose = TagChooser(scored.labels, rules or TagRules())
    without: list[Path] = []
    owners: dict[Path, Path] = {}
    for image in images_to_tag(collection.images if images is None else images, mode):
        scores = scored.scores.get(image.path)
        if scores is None:
            continue
        tags = choose(scores)
        path = image.new_caption_path
        if not tags:
            without.append(image.path)
        elif path in owners:
            what = f"shares {path.name} with {owners[path].name}, whose tags are written"
            plan.warnings.append(Problem(str(image.path), what, "rename one of them"))
        else:
            owners[path] = image.path
            _plan_caption(plan, path, image.caption_path is not None, tags, mode)
    if without:
        others = f", nor for {quantity(len(without) - 1, 'more picture')}" if without[1:] else ""
        what = f"no tag reaches its threshold{others}; nothing is written there"
        plan.warnings.append(Problem(str(without[0]), what, "lower --general"))
    return plan


def _plan_caption(plan: Plan, path: Path, is_there: bool, tags: Sequence[str], mode: Mode) -> None:
    try:
        before = path.read_bytes() if is_there else None
        plan.write_text(path, before, tagged_caption(before, tags, mode))
    except OSError as error:
        what = f"the caption cannot be read: {error.strerror}"
        plan.problems.append(Problem(str(path), what, "mend or remove it"))
    except DatasetError as error:
        plan.problems += [Problem(str(path), one.what, one.hint) for one in error.problems]


def tagged_caption(before: bytes | None, tags: Sequence[str], mode: Mode) -> bytes:
    """The bytes of a caption file with these tags; what was there and stays keeps its bytes.

    Args:
        before: of the file; ``None`` without one.
        tags: at least one.

    Raises:
        DatasetError: the file is not text, or in broken bytes of its encoding.
    """
    new = join_tags(tags)
    if before is None:
        return f"{new}\n".encode()
    file = CaptionFile.of(before)
    if not file.is_text:
        what = "is not a text file, though it has a caption's name"
        raise DatasetError.of("", what, "remove it, or give it another ending")
    if not file.text.strip():
        return file.with_text(edit_captions(file.text, lambda _: new) if file.text else f"{new}\n")
    if mode == "replace":
        stripped = file.text.rstrip("\r\n")
        return file.with_text(new + file.text[len(stripped) :])
    if mode == "if-empty":
        return before

    def more(caption: str) -> str:
        line = TagLine(caption)
        present = set(map(bare, line.tags))
        missing = [tag for tag in tags if bare(tag) not in present]
        line.insert(0 if mode == "prepend" else len(line.tags), missing)
        return str(line)

    return file.with_text(edit_captions(file.text, more))
