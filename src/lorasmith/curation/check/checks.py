"""What is odd about a dataset: each check gives the warnings of one kind, or none.

A check speaks once for all images that it concerns, with their number and the first few names.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from lorasmith.config.sections.data import CaptionSettings
from lorasmith.core.errors import Problem
from lorasmith.core.text import quantity, shortlist
from lorasmith.curation.facts import ImageFacts
from lorasmith.data.captions import free_tags, readings, split_tags, tags_of
from lorasmith.data.dataset import Dataset, Item
from lorasmith.data.layout import folder_caption
from lorasmith.data.scan import Scan

# Share of an image's area that may go without a word.
CROP_WORTH_SAYING = 0.25

# A single tag of so many words is a list of tags, if it is no sentence.
MANY_WORDS = 5

_NAMES = 3
# Words that sentences have and tags between spaces do not.
_SENTENCE = frozenset(
    (
        *("a", "an", "the", "of", "in", "on", "at", "with", "and", "or", "is", "are", "to", "for"),
        *("from", "by", "as", "his", "her", "its", "their", "who", "that", "which", "into"),
        *("over", "under", "near", "behind", "while", "wearing", "holding"),
    )
)
# Tags of image boards that are about the file: rating, score, size, source, translation.
_META = re.compile(
    r"(?:rating|source|score|meta|year|date|artist|uploader|id|md5):\S*|score_\d+(?:_up)?|"
    r"rating_\w+|source_\w+|(?:absurd|high|low|incredibly_absurd)res|huge_filesize|"
    r"(?:partial_)?commentary(?:_request|_typo)?|(?:\w+_)?(?:un)?translated|translation_request|"
    r"md5_mismatch|bad_(?:\w+_)?(?:id|link|source)|tagme|(?:\w+_)?request|(?:un|de)?censored_version|"
    r"revision|duplicate|(?:paid|patreon|fanbox)_(?:reward|username)(?:_available)?|artist_name|"
    r"(?:scan|resized|upscaled|jpeg_artifacts|third-party_(?:edit|source)|check_\w+)",
    re.IGNORECASE,
)


def missing_captions(scan: Scan) -> list[Problem]:
    """Training images without a caption file, and what they are called instead."""
    warnings = []
    for index, spec in enumerate(scan.folders):
        images = [image for image in scan.images if image.folder == index]
        without = [image for image in images if image.caption_path is None]
        name = folder_caption(spec)
        if not without or (spec.reg and name):  # their class is all that they need
            continue
        which = f"{len(without)} of {quantity(len(images), 'picture')} {_have(len(without))} no"
        if len(without) == len(images):
            which = f"none of {quantity(len(images), 'picture')} has a"
        instead = f"the folder's name is used, {name!r}" if name else "they train with no words"
        names = (
            f" ({_names([image.path for image in without])})" if len(without) < len(images) else ""
        )
        hint = "write captions, or leave it so if one name is all that they need"
        warnings.append(Problem(str(spec.path), f"{which} caption; {instead}{names}", hint))
    return warnings


def unused_mask_files(scan: Scan, dataset: Dataset) -> list[Path]:
    """Masks beside training images that the run does not use."""
    used_masks = {item.mask.path for item in dataset.items if item.mask is not None}
    image_paths = {item.image.path for item in dataset.items}
    return [
        mask
        for image, mask in scan.masks.items()
        if image in image_paths and mask not in used_masks
    ]


def unused_masks(scan: Scan, dataset: Dataset) -> list[Problem]:
    """Masks that lie beside the images, where the run is not told to use them."""
    unused = unused_mask_files(scan, dataset)
    if not unused:
        return []
    what = f"{quantity(len(unused), 'mask')} beside pictures: not trained on, and not used as masks"
    hint = 'set loss.masked = "beside" to learn only what they show'
    return [Problem("masks", f"{what} ({_names(unused)})", hint)]


def caption_lengths(dataset: Dataset, count_tokens: Callable[[str], int] | None) -> dict[Path, int]:
    """CLIP tokens of each training image's caption as training sees it, at its longest."""
    if count_tokens is None:
        return {}
    lengths: dict[tuple[str, CaptionSettings], int] = {}
    by_path: dict[Path, int] = {}
    for item in dataset.items:
        if item.reg:
            continue
        rules = dataset.rules_of(item)
        key = (item.caption, rules)
        if key not in lengths:
            lengths[key] = max(map(count_tokens, readings(item.caption, rules)))
        by_path[item.image.path] = max(lengths[key], by_path.get(item.image.path, 0))
    return by_path


def long_captions(tokens: dict[Path, int], max_tokens: int) -> list[Problem]:
    over = sorted((path for path in tokens if tokens[path] > max_tokens), key=lambda p: -tokens[p])
    if not over:
        return []
    longest = tokens[over[0]]
    what = (
        f"{quantity(len(over), 'caption', 'is')} longer than "
        f"{max_tokens} tokens, and cut off there "
        f"(the longest has {longest}: {_name(over[0])})"
    )
    fitting = next((n for n in (150, 225) if n >= longest), 225)
    hint = f"shorten them or set model.max_tokens = {fitting}"
    return [Problem("captions", what, hint if max_tokens < 225 else "shorten them")]


def unused_syntax(dataset: Dataset) -> list[Problem]:
    """Lines and choices in training captions that are read as plain text, or not at all."""
    items = [i for i in dataset.items if not i.reg and not dataset.rules_of(i).wildcards]
    warnings = []
    several = [item for item in items if len(item.caption.splitlines()) > 1]
    if several:
        names = _names([item.image.path for item in several])
        what = f"{quantity(len(several), 'caption')} {_have(len(several))} several lines ({names})"
        hint = "join them with `lorasmith dataset edit --join-lines`, or set captions.wildcards"
        warnings.append(Problem("captions", f"{what}; only the first is used", hint))
    braces = [item for item in items if "{" in item.caption and "|" in item.caption]
    if braces:
        names = _names([item.image.path for item in braces])
        what = f"{{a|b}} in {quantity(len(braces), 'caption')} is read as plain text ({names})"
        warnings.append(Problem("captions", what, "set captions.wildcards to draw one"))
    return warnings


def odd_captions(dataset: Dataset) -> list[Problem]:
    """Training captions that are written otherwise than models were trained with."""
    spaced: list[Path] = []
    underscored: list[Path] = []
    meta: list[Path] = []
    words: dict[str, dict[str, None]] = {"_": {}, "meta": {}}
    for item in dataset.items:
        if item.reg:
            continue
        tags = tags_of(item.caption, dataset.rules_of(item))
        if any(map(is_list_without_commas, tags)):
            spaced.append(item.image.path)
        parts = [part for tag in tags for part in tag.split()]
        for paths, key, matches in (
            (meta, "meta", [part for part in parts if _META.fullmatch(part)]),
            # The first word is the trigger, which may be spelled in any way.
            (underscored, "_", [part for part in parts[1:] if has_underscores(part)]),
        ):
            words[key] |= dict.fromkeys(matches)
            if matches:
                paths.append(item.image.path)
    warnings = []
    if spaced:
        what = f"{quantity(len(spaced), 'caption', 'has')} many words and no comma, so a single tag"
        hint = "put commas between tags, or name what stands there: captions.separator"
        warnings.append(Problem("captions", f"{what} ({_names(spaced)})", hint))
    if underscored:
        what = f"{quantity(len(underscored), 'caption', 'has')} tags with underscores"
        hint = "write spaces, unless the base model was trained with underscores"
        warnings.append(Problem("captions", f"{what} ({_first(words['_'])})", hint))
    if meta:
        what = f"{quantity(len(meta), 'caption', 'has')} tags about the file, not what it shows"
        hint = "take them out, or they are learned with the rest"
        warnings.append(Problem("captions", f"{what} ({_first(words['meta'])})", hint))
    return warnings


def nothing_to_vary(dataset: Dataset) -> list[Problem]:
    """Captions of which so many tags are kept that none is left to shuffle or drop."""
    few: list[Path] = []
    keep_counts: set[int] = set()
    count = 0
    for item in dataset.items:
        rules = dataset.rules_of(item)
        if item.reg or not item.caption or not (rules.shuffle or rules.tag_dropout):
            continue
        count += 1
        kept_for_trigger = len(split_tags(rules.trigger, rules.separator))
        if rules.keep_tokens <= kept_for_trigger:  # Nobody asked for more.
            continue
        free = len(free_tags(item.caption, rules))
        if free < (2 if rules.shuffle else 1) and rules.keep_tokens:
            few.append(item.image.path)
            keep_counts.add(rules.keep_tokens)
    if not few:
        return []
    numbers = " or ".join(map(str, sorted(keep_counts)))
    what = f"at {numbers} leaves nothing to shuffle in {len(few)} of {quantity(count, 'caption')}"
    hint = "lower it: it counts tags between separators, not words or CLIP tokens"
    return [Problem("captions.keep_tokens", f"{what} ({_names(few)})", hint)]


def is_list_without_commas(tag: str) -> bool:
    """Many words that are no sentence: booru's own lists have spaces between tags."""
    parts = tag.split()
    if len(parts) < MANY_WORDS:
        return False
    marked = [part for part in parts if has_underscores(part) or _META.fullmatch(part)]
    return bool(marked) or not is_sentence(tag)


def is_sentence(tag: str) -> bool:
    """Whether what stands between two commas has many words, with such as only sentences have."""
    parts = tag.split()
    words = (part.lower().strip(".,;:!?") for part in parts)
    return len(parts) >= MANY_WORDS and not _SENTENCE.isdisjoint(words)


def has_underscores(part: str) -> bool:
    """As in long_hair; not as in ^_^, o_o or score_9."""
    return re.fullmatch(r"[\w'()\\:.-]*[^\W\d_]{2,}_+[\w'()\\:.-]*", part) is not None and not (
        _META.fullmatch(part)
    )


def _first(words: Iterable[str]) -> str:
    return shortlist(list(words), _NAMES)


def shared_stems(scan: Scan) -> list[Problem]:
    """Images of one name but different endings: they share a caption file."""
    stems: dict[tuple[int, str], list[Path]] = defaultdict(list)
    for image in scan.images:
        stems[image.folder, image.path.stem].append(image.path)
    doubles = [paths for paths in stems.values() if len(paths) > 1]
    if not doubles:
        return []
    names = "; ".join(" and ".join(path.name for path in paths) for paths in doubles[:_NAMES])
    what = (
        f"{quantity(len(doubles), 'name', 'is')} shared by several "
        f"pictures, with one caption ({names}"
    )
    what += _more(len(doubles)) + ")"
    return [Problem(str(doubles[0][0].parent), what, "rename or remove one of them")]


def enlarged(items: Sequence[Item]) -> list[Problem]:
    """Images smaller than what they are trained at."""
    small = sorted(
        (item for item in items if item.repeats and item.placement.scale > 1),
        key=lambda item: -item.placement.scale,
    )
    if not small:
        return []
    twice = sum(item.placement.scale > 2 for item in small)
    worst = ", ".join(
        f"{_name(item.image.path)} {item.placement.scale:.1f}x" for item in small[:_NAMES]
    )
    which = "all of them" if 1 < twice == len(small) else f"{twice} of them"
    which = "" if len(small) == 1 else f", {which}"
    very = f"{which} more than twice" if twice else ""
    what = (
        f"{quantity(len(small), 'picture', 'is')} smaller than "
        f"the bucket and enlarged{very} ({worst}"
    )
    hint = "find larger ones, train at a lower data.resolution, or set buckets.upscale = false"
    return [Problem("resolution", f"{what}{_more(len(small))})", hint)]


def cropped(items: Sequence[Item]) -> list[Problem]:
    """Images of which much is cut away."""
    lost = sorted(
        (i for i in items if i.repeats and i.placement.cropped > CROP_WORTH_SAYING),
        key=lambda item: -item.placement.cropped,
    )
    if not lost:
        return []
    worst = ", ".join(
        f"{_name(item.image.path)} {item.placement.cropped:.0%}" for item in lost[:_NAMES]
    )
    what = (
        f"{quantity(len(lost), 'picture')} {_have(len(lost))} over {CROP_WORTH_SAYING:.0%} cut off"
    )
    hint = "crop them yourself around what matters, or widen buckets.min and buckets.max"
    return [Problem("buckets", f"{what} ({worst}{_more(len(lost))})", hint)]


def lonely_buckets(dataset: Dataset, batch: int, processes: int = 1) -> list[Problem]:
    """Buckets whose batches are one image over and over, or never full."""
    if len(dataset.buckets) < 2:
        return []
    alone = [
        dataset.items[bucket.samples[0].item].image.path
        for bucket in dataset.buckets
        if dataset.groups[bucket.group].batch_size(batch, processes) > 1
        and len({ref.item for ref in bucket.samples}) == 1
    ]
    if not alone:
        return []
    what = (
        f"{quantity(len(alone), 'bucket')} {_have(len(alone))} a single picture, never in a batch"
    )
    hint = "crop it to a more common shape, or use a larger buckets.step"
    return [Problem("buckets", f"{what} with others ({_names(alone)})", hint)]


def regularisation(dataset: Dataset) -> list[Problem]:
    """Regularisation images that are not needed, or used unevenly."""
    problems = []
    for group in range(len(dataset.groups)):
        items = [item for item in dataset.items if item.group == group]
        reg = [item for item in items if item.reg]
        unused = [item for item in reg if not item.repeats]
        samples = sum(item.repeats for item in items if not item.reg)
        if not unused:
            continue
        what = f"{quantity(len(unused), 'regularisation picture', 'is')} not used"
        if samples:
            what += (
                f", of {len(reg)}: the first {len(reg) - len(unused)} are enough for "
                f"{samples} training samples"
            )
            hint = "remove them or repeat less"
        else:
            what += ": no training pictures have their resolution, batch, buckets and group"
            hint = "give their folder those of the training pictures that they are for"
        problems.append(Problem(str(unused[0].image.path.parent), what, hint))
    return problems


def transparent(facts: Mapping[Path, ImageFacts]) -> list[Problem]:
    clear = [path for path, one in facts.items() if one.transparent]
    if not clear:
        return []
    what = (
        f"{quantity(len(clear), 'picture', 'is')} transparent in "
        "places, and laid on data.background"
    )
    return [Problem("pictures", f"{what} ({_names(clear)})", "choose its colour to suit them")]


def alike(groups: Sequence[Sequence[Path]]) -> list[Problem]:
    if not groups:
        return []
    names = "; ".join(" ~ ".join(map(_name, group[:_NAMES])) for group in groups[:_NAMES])
    extra = sum(len(group) - 1 for group in groups)
    what = (
        f"{quantity(extra, 'picture', 'is')} nearly the same as "
        f"another ({names}{_more(len(groups))})"
    )
    return [Problem("pictures", what, "keep the best of each, or they weigh double")]


def _have(number: int) -> str:
    return "has" if number == 1 else "have"


def _name(path: Path) -> str:
    """With its folder: there may be an ``a.png`` in each."""
    return f"{path.parent.name}/{path.name}"


def _names(paths: Sequence[Path]) -> str:
    return shortlist([_name(path) for path in paths], _NAMES)


def _more(count: int) -> str:
    return ", …" if count > _NAMES else ""
