"""Checks of runs that learn a difference, between prompts or between the two sides of pairs of
images: what there must not be, and what has no effect."""

from __future__ import annotations

from collections.abc import Iterator

from lorasmith.config.checks.base import Check, is_given
from lorasmith.config.kinds import kind_facts
from lorasmith.config.schema import TrainSettings, sections
from lorasmith.core.errors import Problem

WITHOUT_CAPTIONS = (
    *("captions", "validation", "data.folders", "data.reg"),
    *("loss.prior_weight", "loss.masked", "loss.mask_folder", "loss.outside_mask"),
)
"""Sections and settings about captions, about what is held out, and about which parts of images
are learned, and from which images."""

WITHOUT_IMAGES = (
    *(*WITHOUT_CAPTIONS, "buckets", "augment", "data.background", "loss.noise_offset"),
    *("loss.adaptive_noise_scale", "loss.multires_iterations", "loss.input_perturbation"),
    *("loss.antithetic_noise", "loss.noise_candidates"),
)
"""These, and those about how images are shown, and about the noise that is put on them."""

REFUSED = ("data.folders", "data.reg")

LENGTH = ("train.showings", "train.showings_falloff", "train.min_steps", "train.max_steps")
"""How a length is worked out from images."""


def _no_other_pictures(s: TrainSettings) -> Iterator[Problem]:
    contrast = kind_facts(s).contrast(s)
    for path in REFUSED if contrast is not None else ():
        if is_given(s, *path.split(".")):
            what = "is given, and such a run is trained on the pairs of pictures in data.path"
            if contrast == "prompts":
                what = "is given, and a slider is trained from prompts, or from pairs in data.path"
            yield Problem(path, what, "leave it out")


def _rate_is_a_number(s: TrainSettings) -> Iterator[Problem]:
    if s.optimizer.seeks_lr and kind_facts(s).contrast(s) is not None:
        what = "is find, which is measured on pictures with captions, and such a run has none"
        yield Problem("optimizer.lr", what, "give a number, or leave it out")


def _has_no_effect(s: TrainSettings) -> Iterator[Problem]:
    contrast = kind_facts(s).contrast(s)
    if contrast is None:
        return
    why = "trained from prompts, without pictures"
    if contrast == "pairs":
        why = "trained on pairs of pictures, without captions"
    for place in WITHOUT_IMAGES if contrast == "prompts" else WITHOUT_CAPTIONS:
        section, _, name = place.partition(".")
        for key in [name] if name else sections()[section].model_fields:
            path = f"{section}.{key}"
            names_word = path == "captions.trigger" and "embedding" in kind_facts(s).sections
            if path not in REFUSED and not names_word and is_given(s, section, key):
                what = f"has no effect: {kind_facts(s).title} is {why}"
                yield Problem(path, what, "remove it")
    for path in LENGTH:
        if is_given(s, *path.split(".")):
            what = f"has no effect: such a run takes {kind_facts(s).steps} steps"
            yield Problem(path, what, "set train.steps for another length")


CONTRADICTIONS: tuple[Check, ...] = (_no_other_pictures, _rate_is_a_number)

ODDITIES: tuple[Check, ...] = (_has_no_effect,)
