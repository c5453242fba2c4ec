"""Images that are there twice: which one stays, and why; the others go to the trash."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorasmith.core.errors import Problem
from lorasmith.core.events import Controls, Observer, ignore
from lorasmith.core.file_names import relative_path
from lorasmith.core.text import bytes_text, quantity
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.collection import Collection, CollectionImage
from lorasmith.curation.edit.caption_text import CaptionFile, TagLine, edit_captions
from lorasmith.curation.facts import ImageFacts
from lorasmith.curation.filter import folded, parse_filter
from lorasmith.curation.sorting.duplicates import (
    alike,
    exact_duplicates,
    near_duplicates,
)
from lorasmith.data.companions import stem_of

# What differs by less is the same: re-encoded files differ a little in size, and one that is cut by
# a few pixels is no worse.
_SAME_PIXELS, _SAME_BYTES = 0.98, 0.9
_LOSSLESS = frozenset({"PNG", "BMP", "TIFF", "GIF"})

Images = list[CollectionImage]
Facts = dict[Path, ImageFacts]


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Images that show the same.

    Args:
        kept: the best of them.
        dropped: the others, each with what the best has before it ("has more tags: 5, not 2").
    """

    kept: CollectionImage
    dropped: tuple[tuple[CollectionImage, str], ...]


def find_duplicates(
    collection: Collection,
    images: Sequence[CollectionImage],
    *,
    exact: bool = False,
    facts: Facts | None = None,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> list[DuplicateGroup]:
    """Groups of images with the same bytes, or nearly the same to look at.

    Args:
        exact: only the same bytes; nothing is decoded then.
        facts: of the images, where they were measured already.
        observer: told of progress where images are decoded.

    Raises:
        Stopped: by ``controls``.
    """
    by_path = {image.path: image for image in images}
    order = {path: number for number, path in enumerate(by_path)}
    if facts is None:
        facts = {} if exact else collection.measure(images, observer, controls)
    decoded = {path: one for path, one in facts.items() if not one.problem}
    near = near_duplicates(decoded)
    # Without the pixels, or where they cannot be decoded, the same bytes are the same image.
    others = [path for path in by_path if path not in decoded]
    groups = sorted(
        (sorted(group, key=order.__getitem__) for group in near + exact_duplicates(others)),
        key=lambda group: order[group[0]],
    )
    found: list[DuplicateGroup] = []
    for paths in groups:
        rest = [by_path[path] for path in paths]
        while len(rest) > 1:
            kept, reasons = _judged(rest, facts)
            # Alike to one that is alike to the best is not enough to be thrown away for it.
            dropped = [image for image in reasons if _are_alike(kept, image, decoded)]
            if dropped:
                found.append(
                    DuplicateGroup(kept, tuple((image, reasons[image]) for image in dropped))
                )
            rest = [image for image in rest if image is not kept and image not in dropped]
    return found


def _are_alike(
    first: CollectionImage,
    second: CollectionImage,
    decoded: Mapping[Path, ImageFacts],
) -> bool:
    if first.path not in decoded:
        return True  # of a group of the same bytes
    return alike(decoded[first.path], decoded[second.path])


def _judged(group: Images, facts: Facts) -> tuple[CollectionImage, dict[CollectionImage, str]]:
    """The best: the largest, of those the least compressed, of those the one with most tags, of
    those the first. And the others, in their order, with what the best has before each."""
    best = list(group)
    rounds: list[tuple[str, Images]] = []
    for name, pick in _ROUNDS:
        chosen = pick(best, facts)
        rounds.append((name, [image for image in best if image not in chosen]))
        best = chosen
    kept = best[0]
    reasons = dict.fromkeys(best[1:], "is the first by name")
    for name, losers in rounds:
        reasons |= {image: _reason(name, kept, image, facts) for image in losers}
    return kept, {image: reasons[image] for image in group if image is not kept}


def _files_themselves(images: Images, facts: Facts) -> Images:
    """Without links to others of them, which would lead to nothing."""
    links = [image for image in images if os.path.islink(image.path)]
    paths = (
        {os.path.realpath(image.path) for image in images if image not in links} if links else ()
    )
    lesser = [image for image in links if os.path.realpath(image.path) in paths]
    return [image for image in images if image not in lesser]


def _largest(images: Images, facts: Facts) -> Images:
    return _top(images, lambda image: _pixels(image, facts), _SAME_PIXELS)


def _lossless(images: Images, facts: Facts) -> Images:
    return [image for image in images if _format(image, facts) in _LOSSLESS] or images


def _least_compressed(images: Images, facts: Facts) -> Images:
    """Of formats that lose something; of the others the size of the file says nothing."""
    if any(_format(image, facts) in ("", *_LOSSLESS) for image in images):
        return images
    return _top(images, lambda image: facts[image.path].file_bytes, _SAME_BYTES)


def _most_tags(images: Images, facts: Facts) -> Images:
    return _top(images, lambda image: len(set(map(folded, image.tags))), 1.0)


_Round = Callable[[Images, Facts], Images]
_ROUNDS: tuple[tuple[str, _Round], ...] = (
    ("no link", _files_themselves),
    ("larger", _largest),
    ("lossless", _lossless),
    ("less compressed", _least_compressed),
    ("more tags", _most_tags),
)


def _top(
    images: list[CollectionImage], value: Callable[[CollectionImage], float], share: float
) -> list[CollectionImage]:
    least = share * max(map(value, images))
    return [image for image in images if value(image) >= least]


def _pixels(image: CollectionImage, facts: Facts) -> int:
    one = facts.get(image.path)
    return one.width * one.height if one is not None else 0


def _format(image: CollectionImage, facts: Facts) -> str:
    one = facts.get(image.path)
    return one.format if one is not None else ""


def _reason(name: str, kept: CollectionImage, other: CollectionImage, facts: Facts) -> str:
    if name == "no link":
        return "is the file that this is a link to"
    if name == "more tags":
        return f"has more tags: {len(kept.tags)}, not {len(other.tags)}"
    a, b = facts[kept.path], facts[other.path]
    if name == "larger":
        return f"is larger: {a.width}x{a.height}, not {b.width}x{b.height}"
    if name == "lossless":
        return f"is lossless: {a.format}, not {b.format}"
    return f"is less compressed: {bytes_text(a.file_bytes)}, not {bytes_text(b.file_bytes)}"


def plan_dedupe(
    collection: Collection,
    where: str = "",
    *,
    exact: bool = False,
    keep_tags: bool = False,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> Plan:
    """Keep the best of each group; the others, with captions and what else is theirs alone, go to
    the trash.

    Args:
        where: only images that this filter takes.
        exact: only files with the same bytes.
        keep_tags: tags that only the others have go to the end of the best one's caption.

    Raises:
        DatasetError: the filter is wrong, or a caption cannot be read.
        Stopped: by ``controls``.
    """
    images = parse_filter(where).select(collection, observer, controls)
    groups = find_duplicates(collection, images, exact=exact, observer=observer, controls=controls)
    words = ["dedupe", *(["--exact"] if exact else []), *(["--keep-tags"] if keep_tags else [])]
    plan = Plan(" ".join(words + ([f"--where '{where}'"] if where else [])), collection.roots)
    drop_duplicates(plan, collection, groups)
    if keep_tags:
        for group in groups:
            _merge_tags(plan, group)
    if groups:
        copies = sum(len(group.dropped) for group in groups)
        plan.notes.append(f"{quantity(copies, 'copy')} of {quantity(len(groups), 'picture')}")
    if groups and not exact:
        what = "nearly the same may be two versions of one drawing"
        plan.warnings.append(
            Problem("", what, "look at them before you agree; --exact takes the same files only")
        )
    return plan


def drop_duplicates(plan: Plan, collection: Collection, groups: Iterable[DuplicateGroup]) -> None:
    """All but the best of each group into the trash, with what belongs to them."""
    reasons = {
        image: f"as {_relative(group.kept.path, image.root)}, which {why}"
        for group in groups
        for image, why in group.dropped
    }
    remove_images(plan, collection, reasons)


def remove_images(
    plan: Plan, collection: Collection, reasons: Mapping[CollectionImage, str]
) -> None:
    """Images into the trash, with their captions and side files, but for what images that stay
    need as well.

    Args:
        reasons: the images, and why each goes.
    """
    removed = {image.path for image in reasons}
    staying = _Staying([image for image in collection.images if image.path not in removed])
    going: set[Path] = set()
    for image, why in reasons.items():
        plan.remove(image.path, what=why)
        for file in image.files[1:]:
            if file not in going and not staying.need(image, file):
                plan.remove(file)
                going.add(file)


def _relative(path: Path, root: Path) -> str:
    return Path(relative_path(os.path.abspath(path), root)).as_posix()


class _Staying:
    """What images that stay need; they may share it with others, as a.png and a.jpg one caption."""

    def __init__(self, images: Iterable[CollectionImage]) -> None:
        self._files: set[Path] = set()
        self._stems: set[tuple[Path, str]] = set()
        for image in images:
            self._files.update(image.files)
            self._stems.add((image.path.parent, stem_of(image.path)))

    def need(self, other: CollectionImage, file: Path) -> bool:
        """Whether a file that is with another image is theirs, too."""
        shared = (other.path.parent, stem_of(other.path)) in self._stems
        return file in self._files or (shared and not file.name.startswith(other.path.name))


def _merge_tags(plan: Plan, group: DuplicateGroup) -> None:
    kept = group.kept
    known = set(map(folded, kept.tags))
    new: dict[str, str] = {}
    for image, _ in group.dropped:
        if image.caption_path != kept.caption_path:
            new |= {folded(tag): tag for tag in image.tags if folded(tag) not in known | new.keys()}
    if not new:
        return
    path = kept.new_caption_path
    before = path.read_bytes() if kept.caption_path is not None else None
    file = CaptionFile.of(before or b"")

    def extended(line: str) -> str:
        tags = TagLine(line)
        tags.insert(len(tags.tags), list(new.values()))
        return str(tags)

    plan.write_text(path, before, file.with_text(edit_captions(file.text, extended)))
