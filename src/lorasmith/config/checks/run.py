"""Checks of the run: length, precision, validation, watchdog."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator

from lorasmith.config.checks.base import Check, is_given
from lorasmith.config.kinds import kind_facts
from lorasmith.config.optimizers import optimizer_facts
from lorasmith.config.sample_prompts import like_options
from lorasmith.config.schema import TrainSettings
from lorasmith.core.errors import Problem
from lorasmith.core.installation import package_line

NO_WANDB = "the package wandb is not installed"


def has_wandb() -> bool:
    """Whether Weights & Biases can be logged to; nothing is imported for it."""
    if "wandb" in sys.modules:
        return True
    # Without an origin it is a folder of that name, as wandb leaves one where it ran.
    spec = importlib.util.find_spec("wandb")
    return spec is not None and spec.origin is not None


def _length(s: TrainSettings) -> Iterator[Problem]:
    if s.train.steps is not None and is_given(s, "train", "epochs"):
        yield Problem(
            "train",
            f"steps ({s.train.steps}) and epochs ({s.train.epochs}) are both given: steps decide",
            "remove one of them",
        )


def _keeps_a_snapshot(s: TrainSettings) -> Iterator[Problem]:
    if s.train.stop == "best" and not (s.save.every_epochs or s.save.every_steps):
        yield Problem(
            "train.stop",
            "best keeps one of the snapshots, and none are saved on the way",
            "set save.every_epochs or save.every_steps",
        )


def _snapshots_are_judged(s: TrainSettings) -> Iterator[Problem]:
    if s.train.stop == "best" and (why := kind_facts(s).unjudged(s)):
        what = f"is best, which judges snapshots by how like the pictures they draw, and {why}"
        yield Problem("train.stop", what, "set it to end, and look at the samples")


def _watchdog(s: TrainSettings) -> Iterator[Problem]:
    names = [name for name in type(s.watchdog).model_fields if name != "enabled"]
    given = [name for name in names if is_given(s, "watchdog", name)]
    if not s.watchdog.enabled:
        for name in given:
            yield Problem(
                f"watchdog.{name}", "has no effect while watchdog.enabled is false", "remove it"
            )
        return
    if s.watchdog.action == "stop":
        for name in sorted({"attempts", "lr_factor"} & set(given)):
            yield Problem(
                f"watchdog.{name}", "has no effect while watchdog.action is stop", "remove it"
            )
    if s.watchdog.lr_factor == 1 and s.watchdog.action == "rollback":
        yield Problem(
            "watchdog.lr_factor",
            "is 1: after going back, the same would happen again",
            "take 0.5, or set watchdog.action to stop",
        )


def _held_out_once(s: TrainSettings) -> Iterator[Problem]:
    v = s.validation
    if v.split and v.folder is not None:
        yield Problem(
            "validation", "split and folder are both given: there is one held-out set", "remove one"
        )


def _validation(s: TrainSettings) -> Iterator[Problem]:
    v = s.validation
    if not v.split and v.folder is None:
        for name in type(v).model_fields:
            if is_given(s, "validation", name) and name not in ("split", "folder"):
                yield Problem(
                    f"validation.{name}",
                    "has no effect: nothing is held out",
                    'set validation.split, to "10%" for instance, or validation.folder',
                )
    elif not (v.every_epochs or v.every_steps):
        yield Problem(
            "validation",
            "pictures are held out but never measured: every_epochs and every_steps are off",
            "set one of them, or train on these pictures too",
        )
    elif v.split >= 0.5:
        yield Problem(
            "validation.split",
            f"{v.split:.0%} of the pictures are not trained on",
            "10% to 20% is usual",
        )


def _averages_once(s: TrainSettings) -> Iterator[Problem]:
    if s.train.ema and optimizer_facts(s.optimizer.name).schedule_free:
        yield Problem(
            "train.ema",
            f"{s.optimizer.name} averages the weights itself: this averages twice",
            "set it to 0",
        )


def _compiles_what_is_there(s: TrainSettings) -> Iterator[Problem]:
    names = [
        name
        for name, is_set in (
            ("train.base_precision", s.train.base_precision != "auto"),
            ("performance.offload_blocks", s.performance.offload_blocks > 0),
        )
        if is_set
    ]
    if s.performance.compile and names:
        yield Problem(
            "performance.compile",
            f"does not go with {' and '.join(names)}: weights that come and go cannot be compiled",
            "leave out one of them",
        )


def _compiles_or_repeats(s: TrainSettings) -> Iterator[Problem]:
    if s.performance.compile and s.performance.deterministic:
        yield Problem(
            "performance.deterministic",
            "does not go with performance.compile: which code is compiled for a size of pictures "
            "depends on the sizes before it, and on a GPU on measured times",
            "leave out one of them",
        )


def _prompts_as_words(s: TrainSettings) -> Iterator[Problem]:
    for prompt in s.sample.prompts:
        texts = [prompt] if isinstance(prompt, str) else [prompt.prompt, prompt.negative or ""]
        for option in (each for text in texts for each in like_options(text)):
            yield Problem(
                "sample.prompts",
                f"{option!r} is drawn as words of the prompt",
                f"an option is written --{option[1:]}",
            )
        if not isinstance(prompt, str) and not prompt.prompt.strip():
            yield Problem(
                "sample.prompts",
                "a line holds options and no prompt: a picture of nothing in particular",
                "write the options behind their prompt, on one line",
            )


def _weights_and_biases(s: TrainSettings) -> Iterator[Problem]:
    if s.log.wandb and not has_wandb():
        what = f"{NO_WANDB}, so nothing is sent there"
        yield Problem("log.wandb", what, package_line("wandb"))
    if s.log.wandb_name and not s.log.wandb:
        yield Problem("log.wandb_name", "has no effect without log.wandb", "name a project, too")


CONTRADICTIONS: tuple[Check, ...] = (
    *(_held_out_once, _compiles_what_is_there, _compiles_or_repeats, _keeps_a_snapshot),
    _snapshots_are_judged,
)

ODDITIES: tuple[Check, ...] = (
    *(_length, _watchdog, _validation, _averages_once, _prompts_as_words, _weights_and_biases),
)
