"""Checks of textual inversion: names, what they start from, and how many vectors they have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from lorasmith.config.checks.base import Check
from lorasmith.config.kinds import kind_facts
from lorasmith.config.optimizers import optimizer_facts
from lorasmith.config.schema import TrainSettings
from lorasmith.core.errors import Problem
from lorasmith.core.text import quantity

MANY_VECTORS = 16
HIGH_LR = 0.05
"""Ten times what the web UI takes."""
ROW = 75


def _names_differ(s: TrainSettings) -> Iterator[Problem]:
    counts = Counter(name.casefold() for name in s.embedding.names)
    for name, count in counts.items():
        if count > 1:
            what = f"{name!r} is there {count} times: prompts do not tell capitals apart"
            yield Problem("embedding.names", what, "give each another name")


def _one_init_for_each(s: TrainSettings) -> Iterator[Problem]:
    inits, names = len(s.embedding.init), len(s.embedding.names)
    if inits > 1 and inits != names:
        of = quantity(names, "name") if names else "names that are taken from the triggers"
        what = f"has {inits} texts for {of}"
        yield Problem("embedding.init", what, "give one text for all, or one for each name")


def _init_is_something(s: TrainSettings) -> Iterator[Problem]:
    if any(not text.strip() for text in s.embedding.init):
        what = "has an empty text, which nothing starts from"
        yield Problem("embedding.init", what, 'say "random", or what it is like')


def _something_changes(s: TrainSettings) -> Iterator[Problem]:
    if s.optimizer.lr_of("embedding") == 0:
        what = "the learning rate of the vectors is 0: nothing would change"
        yield Problem("optimizer.embedding_lr", what, "give a learning rate, such as 5e-3")


def _avoids_one_thing(s: TrainSettings) -> Iterator[Problem]:
    if not s.embedding.negative:
        return
    if s.train.kind != "embedding":
        what = "is learned from pairs of pictures by words alone, without a LoRA"
        yield Problem("embedding.negative", what, 'set train.kind = "embedding"')
    if len(s.embedding.names) > 1:
        what = f"pairs say one thing that is to be avoided, and there are {len(s.embedding.names)} "
        yield Problem("embedding.names", f"{what}words", "give one")
    if s.preservation.enabled is True:
        what = "is true, and what other words mean does not change in any case"
        yield Problem("preservation.enabled", what, "leave it out")


def _captions_change_their_meaning(s: TrainSettings) -> Iterator[Problem]:
    if s.performance.cache_text is True:
        what = "cannot be on: what captions mean changes with their words' vectors"
        yield Problem("performance.cache_text", what, 'set it to "auto"')


def _high_rate(s: TrainSettings) -> Iterator[Problem]:
    facts, rate = optimizer_facts(s.optimizer.name), s.optimizer.lr_of("embedding")
    finds = facts.adaptive or facts.sets_its_own_lr(s.optimizer.args) or s.optimizer.seeks_lr
    if not finds and rate > HIGH_LR:
        what = f"a vector's numbers are about 0.01, and steps of {rate:g} throw them about"
        yield Problem("optimizer.lr", what, "1e-3 to 1e-2 is usual")


def _rate_is_a_number(s: TrainSettings) -> Iterator[Problem]:
    if s.train.kind == "embedding" and s.optimizer.seeks_lr and not s.embedding.negative:
        what = "is find, which goes by the loss of a few steps: an embedding's hardly changes in "
        what += "them, and what it found were 4 and 20 times the usual rate"
        yield Problem("optimizer.lr", what, "give a number, or leave it out; 5e-3 is usual")


def _room_in_prompts(s: TrainSettings) -> Iterator[Problem]:
    if (count := s.embedding.vectors) > MANY_VECTORS:
        what = f"{count} vectors take {count} of the {ROW} tokens of every prompt with the word"
        yield Problem("embedding.vectors", what, "1 to 8 are usual")


def _captions_keep_the_word(s: TrainSettings) -> Iterator[Problem]:
    if not kind_facts(s).keeps_base or s.embedding.negative:
        return
    for name in ("dropout", "dropout_every_n_epochs"):
        if getattr(s.captions, name):
            what = (
                "leaves captions out, and a picture without the word teaches an embedding nothing"
            )
            yield Problem(f"captions.{name}", what, "remove it")


CONTRADICTIONS: tuple[Check, ...] = (
    *(_names_differ, _one_init_for_each, _init_is_something, _something_changes),
    *(_avoids_one_thing, _captions_change_their_meaning, _rate_is_a_number),
)

ODDITIES: tuple[Check, ...] = (_room_in_prompts, _high_rate, _captions_keep_the_word)
