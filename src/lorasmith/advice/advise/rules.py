"""The rules of advice: a table of settings, each with what it hangs on, its reason and source.

The first rule for a setting that has something to say is taken. What guides say is of Stable
Diffusion 1, 2 and XL: a base that says itself what suits it (as the demo model does, which was
measured) is left to its word, and so is every setting that no rule speaks of.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lorasmith.advice.advise.case import Case
from lorasmith.advice.advise.guide_tables import CATEGORIES, DIFFICULTY, START, STARTING
from lorasmith.advice.advise.signs import ASYMMETRIC, LETTERING, words_found
from lorasmith.advice.advise.sources import (
    DEFAULT,
    HDG,
    LYCORIS,
    PICTURES,
    PONY,
    TLORA,
    TUTORIAL,
    Source,
    science,
)
from lorasmith.config.sections.data import FolderSettings
from lorasmith.core.text import quantity, shortlist
from lorasmith.data.captions import split_tags

Answer = tuple[Any, str]
"""A value and the reason of it."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One line of advice.

    Args:
        setting: by its path.
        reason: a sentence without its full stop.
    """

    setting: str
    value: Any
    reason: str
    source: Source


@dataclass(frozen=True, slots=True)
class Rule:
    """
    Args:
        choose: the answer, or ``None`` where the rule says nothing of the case.
        every_base: it holds whatever the base says, since it is about the pictures.
    """

    setting: str
    source: Source
    choose: Callable[[Case], Answer | None]
    every_base: bool = False


# Ranks that people use.
RANKS = (4, 8, 16, 32, 48, 64, 96, 128, 160, 192, 224, 256)
# Half a category more for men, up to D.
HALF_STEPS = "ABCD"
# Characters that a base knows nothing like.
FROM_SCRATCH = "FGHI"
CONCEPT_RANKS = {"A": 8, "B": 8, "C": 16, "D": 32, "E": 32, "F": 64, "G": 96, "H": 128, "I": 128}
# The lowest of a guide for SDXL.
SDXL_RANK = 8
# Least pictures that plain LoRAs do with.
FEW_IMAGES = 6
POOR_IMAGES = STARTING["Character (bad inputs)"].images[1] or 0
HUGE_STYLE = 10_000
SMALL_STYLE = 30
# Of the pictures with captions, so that what they don't say is not there.
TOLD = 0.8
# Of the captions: from so many on the subject has it.
SIDED = 0.05
LARGE_ENOUGH = 0.75
# How many times as often as another one a concept may be shown; more, and it takes over.
UNEVEN = 1.5

# By what names guides and checkpoints call models that read the layer before the last.
ANIME = (
    *("anime", "animefull", "animefinal", "novelai", "nai", "anything", "anylora", "abyssorange"),
    *("orangemix", "aom2", "aom3", "counterfeit", "meina", "pastel", "waifu", "hassaku", "hentai"),
)
# Shorter ones are parts of other words.
LONG_NAME = 5
REALISTIC = ("v1-5-", "v1-4-", "stable-diffusion-v1", "sd15", "realistic", "photo", "fluffyrock")


# The adapter


def adapter_type(case: Case) -> Literal["lora", "tlora", "locon", "lokr"]:
    """Which one the rules take."""
    if case.is_subject and case.pictures.images < FEW_IMAGES:
        return "tlora"
    if case.use == "small" and "lokr" in CATEGORIES[case.difficulty].types and case.is_subject:
        return "lokr"
    if not case.is_subject and case.use == "faithful" and case.base.family in ("sd1", "sd2"):
        return "locon"
    return "lora"


def _tlora(case: Case) -> Answer | None:
    if adapter_type(case) != "tlora":
        return None
    reason = f"{quantity(case.pictures.images, 'picture')}: fewer ranks learn at high noise, where"
    return "tlora", f"{reason} single pictures are learned by heart"


def _lokr(case: Case) -> Answer | None:
    if adapter_type(case) != "lokr":
        return None
    return "lokr", f"the smallest files; holds characters up to C, and this is {case.difficulty}"


def _locon(case: Case) -> Answer | None:
    if adapter_type(case) != "locon":
        return None
    return "locon", f"a faithful {case.kind} may gain by its convolutions, for texture"


def _lora(case: Case) -> Answer | None:
    reason = "every program reads it; with convolutions or without was hard to tell apart"
    return "lora", reason if not case.is_subject else "every program reads it, and it holds all"


def category_rank(case: Case) -> tuple[int, str]:
    """The rank of a character or an object by the guides' table, on SD1."""
    row = CATEGORIES[case.difficulty]
    of = f"{row.ranks} for {row.letter} ({row.description})"
    half_step = case.male and row.letter in HALF_STEPS
    if row.low == row.high:
        return row.low, of
    if case.use == "faithful" or half_step:
        why = "a faithful one" if case.use == "faithful" else "a man, which bases know less"
        return row.high, f"the upper end of {of}: {why}"
    if case.use in ("flexible", "combined", "small"):
        return row.low, f"the lower end of {of}: {case.use} use"
    middle = math.sqrt(row.low * row.high)
    return next(rank for rank in RANKS if rank >= middle), f"the middle of {of}"


def _rank_of_subject(case: Case) -> Answer | None:
    if not case.is_subject:
        return None
    rank, reason = category_rank(case)
    return _for_family(case, rank, reason)


def _rank_of_style(case: Case) -> Answer | None:
    if case.kind != "style":
        return None
    images = case.pictures.images
    count = quantity(images, "picture")
    if images >= HUGE_STYLE:
        return _for_family(case, 128, f"a style of {count}: 128 from 10000 on")
    if images < SMALL_STYLE or case.use in ("flexible", "combined", "small"):
        return _for_family(case, 32, f"a style of {count}: err on the side of lower ranks")
    return _for_family(case, 64, f"a style of {count}: 64 does the job, not 96 to 192")


def _rank_of_concept(case: Case) -> Answer | None:
    if case.kind != "concept":
        return None
    rank = CONCEPT_RANKS[case.difficulty]
    rank = max(8, rank // 2) if case.use in ("flexible", "combined", "small") else rank
    return _for_family(
        case, rank, f"concepts: from 8 for plain ones to 128, here at {case.difficulty}"
    )


def _for_family(case: Case, rank: int, reason: str) -> Answer:
    """SDXL's UNet has far more layers with attention: a guide for it takes 8, 16 and 32."""
    if case.base.family != "sdxl":
        return rank, reason
    return max(SDXL_RANK, rank // 2), f"{reason}; half of it on SDXL, 8 or more"


def chosen_rank(case: Case) -> int:
    """The rank that the rules give."""
    choices = (_rank_of_subject, _rank_of_style, _rank_of_concept)
    return next(int(answer[0]) for rule in choices if (answer := rule(case)) is not None)


def _alpha(case: Case) -> Answer | None:
    if adapter_type(case) not in ("lora", "locon"):
        return None
    alpha = chosen_rank(case) / 2
    return alpha, "half of the rank: the best of those tried at every rank"


def _weight_norms(case: Case) -> Answer | None:
    if adapter_type(case) not in ("lora", "locon") or case.use not in ("flexible", "combined"):
        return None
    what = "other clothes and poses" if case.use == "flexible" else "several LoRAs at once"
    return 1.0, f"scales down large weights, which helps with {what}"


# How it is learned


def _text_encoder_lr(case: Case) -> Answer | None:
    if case.base.family == "sdxl":
        return None  # The family's, of a guide for it.
    good, poor = STARTING["Character (good inputs)"], STARTING["Character (bad inputs)"]
    rows = {"style": STARTING["Style"], "concept": STARTING["Concept"]}
    row = rows.get(case.kind, good if case.pictures.fewest > POOR_IMAGES else poor)
    what = case.kind if case.kind in rows else f"{case.kind} of {case.pictures.fewest} pictures"
    return row.text_encoder_lr, f"for a {what}, beside 0.0001 for the UNet; their ratio stays"


def _showings_of_style(case: Case) -> Answer | None:
    if case.kind != "style":
        return None
    return 110, f"about {STARTING['Style'].steps} steps for 150 pictures, as styles need"


def _showings_of_small(case: Case) -> Answer | None:
    if adapter_type(case) != "lokr":
        return None
    return 100, "LoKr learns slowly: twice the usual 50"


def _showings_from_scratch(case: Case) -> Answer | None:
    if case.kind != "character" or case.difficulty not in FROM_SCRATCH:
        return None
    return 75, f"{case.difficulty} has no human shape: 1500 steps where others take 1000"


def _showings_of_use(case: Case) -> Answer | None:
    if not case.is_subject:
        return None
    if case.use == "faithful":
        return 70, "faithful: 1400 steps where 1000 are usual"
    if case.use == "flexible":
        return 40, "flexible: 800 steps where 1000 are usual"
    return None


# The pictures


def _resolution(case: Case) -> Answer | None:
    native = case.base.architecture.native_resolution
    if case.base.family == "sd1" and native == 512 and (case.kind == "style" or _is_faithful(case)):
        share = case.pictures.large_enough(576)
        if share >= LARGE_ENOUGH:
            what = "a style" if case.kind == "style" else "faithful details"
            return 576, f"a little more than 512 helps {what}; {share:.0%} of the pictures have it"
    share = case.pictures.large_enough(native)
    small = f"; {1 - share:.0%} of the pictures are smaller and get enlarged" if share < 1 else ""
    return native, f"what the base was made for{small}"


def _is_faithful(case: Case) -> bool:
    return case.is_subject and case.use == "faithful"


def _max_tokens(case: Case) -> Answer | None:
    longest = case.pictures.longest
    usual = case.settings.model.max_tokens
    if longest <= usual:
        return None
    if longest > 225:
        return 225, f"the longest there is; captions of up to {longest} tokens are cut"
    return 150 if longest <= 150 else 225, f"the longest caption has {longest} tokens"


def _shuffle(case: Case) -> Answer | None:
    form = case.pictures.form
    if form == "none":
        return None
    if form == "sentences":
        return False, "captions are sentences, whose words belong together"
    return True, "captions are tags: no tag's meaning shall hang on its place"


def _keep_tokens(case: Case) -> Answer | None:
    triggers = case.pictures.triggers
    if case.pictures.form != "tags" or not triggers:
        return None
    count = max(len(split_tags(trigger)) for trigger in triggers)
    return count, f"the trigger stays in front: {' or '.join(triggers[:3])}"


def _flip_where_sided(case: Case) -> Answer | None:
    texts = case.pictures.captions
    found = {
        word: count
        for word, count in words_found(texts, (*ASYMMETRIC, *LETTERING)).items()
        if count > SIDED * len(texts)
    }
    if not found:
        return None
    what = ", ".join(list(found)[:3])
    return False, f"no: {what} in captions; mirrored it would be learned on both sides"


def _flip(case: Case) -> Answer | None:
    if case.pictures.captioned < TOLD:
        return False, "no: without captions nothing tells whether it is alike on both sides"
    if case.kind in ("style", "concept"):
        return True, f"a {case.kind} is as good mirrored; captions name no side and no lettering"
    return True, "more variety; no caption names a scar, an eyepatch or another one-sided part"


def _clip_skip(case: Case) -> Answer | None:
    base = case.base
    if base.family == "sdxl":
        return 1, "SDXL always reads the layer before the last"
    if base.family == "sd2":
        return 1, "SD2's models read the layer that they were made with"
    for names, value, kind in ((ANIME, 2, "an anime model"), (REALISTIC, 1, "a realistic model")):
        if name := _named(base.names, names):
            return value, f"{kind}, by its name ({name})"
    return 1, "nothing in the file tells; set 2 for a model that pictures are drawn with at 2"


def _named(text: str, names: Sequence[str]) -> str:
    """The first of the names that stands in a text, short ones as a word of their own; or ""."""
    words = re.split(r"[^a-z0-9]+", text)
    return next((n for n in names if (n in words if len(n) < LONG_NAME else n in text)), "")


def _held_out(case: Case) -> Answer | None:
    fewest = case.pictures.fewest
    if fewest < 30 or case.settings.validation.folder is not None:
        return None
    return 0.1, f"worth it from 30 pictures on, and there are {fewest} and more in each folder"


_SIZE = science("Net dim")
_TYPES = science("LyCORIS")
_STEPS = science("Number of steps")
_CONCEPTS = science("Multiple concept support")
_INTENDED = science("Intended results")

RULES: tuple[Rule, ...] = (
    Rule("adapter.type", TLORA, _tlora),
    Rule("adapter.type", _TYPES, _lokr),
    Rule("adapter.type", _TYPES, _locon),
    Rule("adapter.type", LYCORIS, _lora),
    Rule("adapter.rank", DIFFICULTY, _rank_of_subject),
    Rule("adapter.rank", _SIZE, _rank_of_style),
    Rule("adapter.rank", _SIZE, _rank_of_concept),
    Rule("adapter.alpha", HDG, _alpha),
    Rule("adapter.scale_weight_norms", science("Scale weight norms"), _weight_norms),
    Rule("optimizer.text_encoder_lr", START, _text_encoder_lr),
    Rule("train.showings", START, _showings_of_style),
    Rule("train.showings", _TYPES, _showings_of_small),
    Rule("train.showings", _STEPS, _showings_from_scratch),
    Rule("train.showings", _INTENDED, _showings_of_use),
    Rule("data.resolution", science("Resolution"), _resolution),
    Rule("model.max_tokens", PICTURES, _max_tokens, every_base=True),
    Rule("captions.shuffle", TUTORIAL, _shuffle),
    Rule("captions.keep_tokens", TUTORIAL, _keep_tokens),
    Rule("augment.flip", PICTURES, _flip_where_sided),
    Rule("augment.flip", science("Augmentations"), _flip),
    Rule("model.clip_skip", PONY, _clip_skip),
    Rule("validation.split", DEFAULT, _held_out),
)


def balanced_folders(case: Case) -> Choice | None:
    """Folders with repeats of their own, where those that are there leave concepts uneven."""
    concepts = case.pictures.concepts
    uses = [concept.uses for concept in concepts]
    if case.kind == "style" or len(case.pictures.triggers) < len(concepts):
        return None  # Folders of one subject, or of one style, need no balance.
    if len(concepts) < 2 or max(uses) < UNEVEN * min(uses):
        return None
    most = max(concept.images for concept in concepts)
    repeats = [max(1, round(most / concept.images)) for concept in concepts]
    common = math.gcd(*repeats)
    by_path = {c.path: n // common for c, n in zip(concepts, repeats, strict=True)}
    folders = [
        FolderSettings(path=spec.path, repeats=by_path[spec.path])
        if spec.path in by_path
        else FolderSettings(path=spec.path, repeats=spec.repeats, reg=True)
        for spec in case.run_plan.scan.folders
        if spec.path in by_path or spec.reg
    ]
    shown = [f"{c.name} {c.uses}" for c in concepts]
    reason = f"shown alike; as they are, one would take over ({shortlist(shown)} an epoch)"
    return Choice("data.folders", folders, reason, _CONCEPTS)


def choices_of(case: Case) -> dict[str, Choice]:
    """What the rules say of the case, by setting."""
    choices: dict[str, Choice] = {}
    for rule in RULES:
        left = case.base.speaks or rule.setting in case.base.says
        if rule.setting in choices or (left and not rule.every_base):
            continue
        if (answer := rule.choose(case)) is not None:
            choices[rule.setting] = Choice(rule.setting, *answer, rule.source)
    if (folders := balanced_folders(case)) is not None:
        choices[folders.setting] = folders
    return choices
