"""Checks of images, captions, buckets, augmentation and their caches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lorasmith.config.checks.base import Check, is_given, trained_rates
from lorasmith.config.kinds import kind_facts
from lorasmith.config.schema import TrainSettings, for_folder
from lorasmith.core.errors import Problem


def _data_is_named_once(s: TrainSettings) -> Iterator[Problem]:
    if s.data.path is not None and s.data.folders:
        yield Problem(
            "data",
            f"both path ({s.data.path}) and {len(s.data.folders)} [[data.folders]] are given",
            "use one of them; a folder can be added as one more [[data.folders]] table",
        )
    if s.data.folders and all(folder.reg for folder in s.data.folders):
        yield Problem(
            "data.folders",
            "all of them are regularisation folders (reg = true): there is nothing to learn",
            "leave reg out of the folders with training pictures",
        )


def _in_folders(checks: Sequence[Check]) -> Check:
    """The checks of images and captions for each folder, with its own settings."""

    def check(s: TrainSettings) -> Iterator[Problem]:
        run_problems = {problem for one in checks for problem in one(s)}
        for number, folder in enumerate(s.data.folders, 1):
            effective = for_folder(s, folder)
            for problem in (problem for one in checks for problem in one(effective)):
                if effective != s and problem not in run_problems:
                    where = f"data.folders[{number}]: {problem.where}"
                    yield Problem(where, problem.what, problem.hint)

    return check


def _buckets_fit(s: TrainSettings) -> Iterator[Problem]:
    low, high, size = s.buckets.min, s.buckets.max, s.data.resolution
    if low is not None and high is not None and low > high:
        yield Problem(
            "buckets", f"min ({low}) is larger than max ({high})", "exchange them or drop one"
        )
    elif size is not None and s.buckets.enabled:
        sides = (size, size) if isinstance(size, int) else size
        if low is not None and low > min(sides):
            yield Problem(
                "buckets.min", f"{low} is larger than the resolution {_size(size)}", "lower it"
            )
        if high is not None and high < max(sides):
            yield Problem(
                "buckets.max", f"{high} is smaller than the resolution {_size(size)}", "raise it"
            )


def _size(size: int | tuple[int, int]) -> str:
    return str(size) if isinstance(size, int) else f"{size[0]}x{size[1]}"


def _text_can_be_cached(s: TrainSettings) -> Iterator[Problem]:
    if s.performance.cache_text is not True:
        return
    if trained_rates(s).get("text_encoder"):
        yield Problem(
            "performance.cache_text",
            "captions cannot be encoded once while the text encoder is trained",
            f'leave it at "auto", or set {kind_facts(s).sections[0]}.text_encoder to false',
        )
    elif varying := _caption_changes(s):
        yield Problem(
            "performance.cache_text",
            f"captions cannot be encoded once while they vary ({', '.join(varying)})",
            'leave it at "auto"',
        )


def _caption_changes(s: TrainSettings) -> list[str]:
    names = (
        *("shuffle", "dropout", "dropout_every_n_epochs", "tag_dropout", "wildcards"),
        "tag_warmup_steps",
    )
    return [f"captions.{name}" for name in names if getattr(s.captions, name)]


def _captions(s: TrainSettings) -> Iterator[Problem]:
    c = s.captions
    if not (c.shuffle or c.tag_dropout or c.tag_warmup_steps):
        if c.keep_tokens or c.keep_tokens_separator:
            yield Problem(
                "captions.keep_tokens",
                "has no effect: tags are neither shuffled nor dropped",
                "set captions.shuffle to true",
            )
    elif c.keep_tokens and c.keep_tokens_separator:
        yield Problem(
            "captions.keep_tokens",
            f"captions with {c.keep_tokens_separator!r} are cut there, whatever keep_tokens says",
            "use one of them",
        )
    if is_given(s, "captions", "tag_warmup_min") and not c.tag_warmup_steps:
        yield Problem(
            "captions.tag_warmup_min", "has no effect: there is no warm-up of tags",
            "set captions.tag_warmup_steps",
        )  # fmt: skip
    if "\n" in c.separator or "\n" in c.secondary_separator:
        yield Problem(
            "captions.separator",
            "is a line break, which separates nothing: of a caption one line is used",
            "put the tags into one line, with commas",
        )
    if c.secondary_separator and c.secondary_separator == c.separator:
        yield Problem(
            "captions.secondary_separator",
            f"is the separator itself ({c.separator!r}), so it binds nothing",
            "use a mark of its own, such as ;;;",
        )
    if c.dropout == 1 or c.dropout_every_n_epochs == 1:
        yield Problem(
            "captions.dropout",
            "every caption is dropped: no word will call the LoRA up",
            "lower it",
        )
    if s.model.clip_skip > 2:
        yield Problem(
            "model.clip_skip",
            f"{s.model.clip_skip} is unusual",
            "1 for realistic, 2 for anime models",
        )


def _buckets(s: TrainSettings) -> Iterator[Problem]:
    if not s.buckets.enabled and is_given(s, "buckets", "min", "max"):
        yield Problem("buckets", "min and max have no effect: buckets are off", "remove them")
    elif not s.buckets.upscale and is_given(s, "buckets", "min", "max"):
        yield Problem(
            "buckets", "min and max have no effect with upscale = false", "remove one or the other"
        )


def _fresh_views_are_not_cached(s: TrainSettings) -> Iterator[Problem]:
    if s.augment.variants == "fresh" and s.performance.cache_latents and s.augment.draws:
        yield Problem(
            "augment.variants",
            "views that are new in every use cannot be cached",
            "set performance.cache_latents to false, or write a number of variants",
        )


def _augmentation(s: TrainSettings) -> Iterator[Problem]:
    a = s.augment
    if a.zoom > 1 and not a.random_crop:
        yield Problem(
            "augment.zoom", "has no effect without random crops", "set augment.random_crop to true"
        )
    if is_given(s, "augment", "variants") and not s.augment.draws:
        what = "has no effect: nothing is drawn at random but flips, which are kept besides"
        hint = "set augment.colour, random_crop or face_crop, or leave it out"
        yield Problem("augment.variants", what, hint)
    if a.colour > 0.5:
        what = f"{a.colour:g} changes skin and hair for all to see, and the LoRA learns it so"
        yield Problem("augment.colour", what, "0.1 to 0.3 is usual")
    if a.slices == 1:
        yield Problem(
            "augment.slices", "1 cuts nothing: that is the picture itself", "write 4 or more"
        )


_EXCLUSIVE = (_buckets_fit, _text_can_be_cached, _fresh_views_are_not_cached)
_ODD = (_captions, _buckets, _augmentation)

CONTRADICTIONS: tuple[Check, ...] = (
    _data_is_named_once,
    *_EXCLUSIVE,
    _in_folders(_EXCLUSIVE),
)

ODDITIES: tuple[Check, ...] = (*_ODD, _in_folders(_ODD))
