"""Settings that nobody chose: as the base model says that they suit it, else as its family does.

What the user or a preset set stays. A base says it in one entry of its file's metadata,
``lorasmith.defaults``, a JSON object of values by setting: ``{"optimizer.lr": 4e-3}``. These are
meant for LoRAs; what another kind of run wants otherwise stands under "kinds":
``{"kinds": {"full": {"optimizer.lr": 1e-4}}}``. What is wrong in it is said and left out, so that a
base of a newer version can be used.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from lorasmith.config.checks import table as checks
from lorasmith.config.dump import toml_value
from lorasmith.config.fields import NONE
from lorasmith.config.kinds import KINDS, kind_facts
from lorasmith.config.messages import to_problems
from lorasmith.config.optimizers import OPTIMIZERS, optimizer_facts
from lorasmith.config.schema import TrainSettings, all_settings, replace_settings, value_of
from lorasmith.core.errors import Problem
from lorasmith.core.files import parse_json
from lorasmith.models.open import DEFAULTS_KEY, OpenedCheckpoint

# What a base may say: how it is trained on and drawn with. Never paths, what is sent or where,
# nor code: its file comes from anywhere.
SECTIONS = ("adapter", "buckets", "optimizer", "schedule", "loss", "preservation", "train")
SINGLE = (
    *("embedding.vectors", "embedding.norm", "full.text_encoder"),
    *("model.clip_skip", "model.max_tokens", "data.resolution", "captions.shuffle"),
    *("captions.keep_tokens", "captions.dropout", "captions.tag_dropout", "augment.flip"),
    *("sample.negative", "sample.steps", "sample.cfg", "sample.sampler", "sample.size"),
    "performance.threads",
)
REFUSED = ("adapter.init_from", "loss.masked", "loss.mask_folder", "train.seed", "train.kind")
# Below it, by kind, what is not meant for LoRAs.
OF_KINDS = "kinds"

# What was meant together with another setting, and goes where that one is chosen otherwise.
MEANT_WITH = {
    "optimizer.unet_lr": ("optimizer.lr",),
    "optimizer.text_encoder_lr": ("optimizer.lr",),
    "adapter.alpha": ("adapter.rank",),
    "train.epochs": ("train.steps",),
    "train.steps": ("train.epochs",),
}

BASE = "the base model"
SHOWN_VALUE = 60


@dataclass(frozen=True, slots=True)
class SuitedSettings:
    """Settings with a base model's own defaults.

    Args:
        suggested: all that base and family say, by setting, whether it was chosen otherwise or not.
        origins: of those settings that are as they say: who said it.
        of_kind: of those, what the base says of this kind of run: whatever is usual elsewhere.
        warnings: what is wrong with what the base says.
    """

    settings: TrainSettings
    suggested: Mapping[str, Any]
    origins: Mapping[str, str]
    warnings: tuple[Problem, ...] = ()
    of_kind: frozenset[str] = frozenset()


def suit(settings: TrainSettings, checkpoint: OpenedCheckpoint) -> SuitedSettings:
    """The settings with what suits the base in place of every setting that nobody chose.

    With ``model.defaults = false`` neither base nor family counts: only what the kind of run wants.
    """
    family = checkpoint.architecture.family
    where = str(checkpoint.source)
    values, warnings = read_entry(checkpoint.defaults, where)
    of_kind, wrong = read_entry(checkpoint.defaults, where, settings.train.kind)
    facts = kind_facts(settings)
    idle = {section for other in KINDS.values() for section in other.sections} - {*facts.sections}
    layers = tuple(
        (origin, {path: v for path, v in layer.items() if path.partition(".")[0] not in idle})
        for origin, layer in (
            (BASE, of_kind),
            (f"train.kind {settings.train.kind}", facts.defaults),
            (BASE, values),
            (family.title, family.defaults),
        )
    )
    suggested, origins = _suggestions(settings, layers)
    own = suggested
    if not settings.model.defaults:
        own, origins = _suggestions(settings, layers[1:2])
        of_kind, warnings, wrong = {}, [], []
    origins = _fitting(settings, own, origins, of_kind.keys())
    # What comes of it holds, so that a run that is resumed goes on with the same.
    taken = {"model.defaults": False, **{path: own[path] for path in origins}}
    return SuitedSettings(
        replace_settings(settings, taken),
        suggested,
        origins,
        (*warnings, *wrong),
        frozenset(origins.keys() & of_kind.keys()),
    )


def _suggestions(
    settings: TrainSettings, layers: Iterable[tuple[str, Mapping[str, Any]]]
) -> tuple[dict[str, Any], dict[str, str]]:
    """What is said first of each setting, and by whom where nobody chose it otherwise.

    Args:
        layers: who says it, and what, by setting; the first goes before the others.
    """
    suggested: dict[str, Any] = {}
    origins: dict[str, str] = {}
    chosen = {path for path in all_settings() if is_chosen(settings, path)}
    for origin, layer in layers:
        name = suggested["optimizer.name"] if "optimizer.name" in origins else None
        if not _optimizer_is_alike(name or settings.optimizer.name, layer, chosen):
            layer = {p: v for p, v in layer.items() if not p.startswith("optimizer.")}
        if {"optimizer.unet_lr", "optimizer.text_encoder_lr"} <= chosen:
            chosen.add("optimizer.lr")  # It is that of the others.
        for path, value in layer.items():
            suggested.setdefault(path, value)
            if chosen.isdisjoint((path, *MEANT_WITH.get(path, ()))):
                origins[path] = origin
        chosen |= layer.keys()
    return suggested, origins


def is_chosen(settings: TrainSettings, path: str) -> bool:
    """Whether a setting was given a value, be it that of its default."""
    section, _, name = path.partition(".")
    return name in getattr(settings, section).model_fields_set


def read_entry(
    text: str, where: str, kind: str | None = None
) -> tuple[dict[str, Any], list[Problem]]:
    """The values of a base's entry by setting, and what is wrong with the rest of it.

    Args:
        text: the entry, "" where there is none.
        where: the base, for messages.
        kind: what it says of this kind of run alone; ``None`` for all else.
    """
    if not text:
        return {}, []
    place = f"{where}: {DEFAULTS_KEY}"
    try:
        entry = parse_json(text)
    except (ValueError, RecursionError):
        entry = None
    if not isinstance(entry, dict):
        return {}, [] if kind else [Problem(place, "is no JSON object; it is left out")]
    kinds, problems = _by_kind(entry.pop(OF_KINDS, {}), place)
    if kind is not None:
        entry, problems = kinds.get(kind, {}), []
        place += f": {OF_KINDS}: {kind}"
    values = {}
    for path, value in entry.items():
        try:
            values[path] = _checked(path, value)
        except ValueError as error:
            problems.append(Problem(place, f"{path[:SHOWN_VALUE]}: {error}; it is left out"))
    return values, problems


def _by_kind(said: Any, place: str) -> tuple[dict[str, dict[str, Any]], list[Problem]]:
    """What an entry says of each kind of run, and what of it is no such thing."""
    if not isinstance(said, dict):
        return {}, [Problem(place, f"{OF_KINDS} is no JSON object; it is left out")]
    kinds, problems = {}, []
    for name, one in said.items():
        if name in KINDS and isinstance(one, dict):
            kinds[name] = one
        else:
            what = "is no JSON object" if name in KINDS else "is not a known kind"
            problems.append(
                Problem(place, f"{OF_KINDS}: {name[:SHOWN_VALUE]}: {what}; it is left out")
            )
    return kinds, problems


def may_say(path: str) -> bool:
    """Whether a base model may say what this setting is."""
    return path not in REFUSED and (path.partition(".")[0] in SECTIONS or path in SINGLE)


def _checked(path: str, value: Any) -> Any:
    """Raises ValueError where a base may not say this, or not so."""
    section, _, name = path.partition(".")
    if path not in all_settings():
        raise ValueError("is not a known setting")
    if not may_say(path):
        raise ValueError("is not for a base model to say")
    try:
        settings = TrainSettings.model_validate({section: {name: value}})
    except ValidationError as error:
        (problem,) = to_problems(error, {}).values()
        raise ValueError(problem.what) from None
    except RecursionError:
        raise ValueError("is nested too deep") from None
    if path == "optimizer.name" and settings.optimizer.name not in OPTIMIZERS:
        raise ValueError("is not in the table of optimizers")  # Its module would be imported.
    return value_of(settings, path)


def _optimizer_is_alike(name: str, layer: Mapping[str, Any], chosen: set[str]) -> bool:
    """Whether the layer's learning rates are meant for ``name``, the optimizer that is used."""
    if "optimizer.name" not in chosen:
        return True
    usual = layer.get("optimizer.name", all_settings()["optimizer.name"].default)
    meant, used = optimizer_facts(usual), optimizer_facts(name)
    return (meant.lr, meant.adaptive, meant.sets_lr) == (used.lr, used.adaptive, used.sets_lr)


def _fitting(
    settings: TrainSettings,
    suggested: Mapping[str, Any],
    origins: dict[str, str],
    measured: Collection[str],
) -> dict[str, str]:
    """Those that contradict nothing that was chosen, and that have an effect beside it.

    Args:
        measured: what the base says of this kind of run; that others do otherwise is no matter.
    """
    before = {*checks.contradictions(settings), *checks.warnings(settings)}

    def misfits(paths: Mapping[str, str]) -> int:
        changed = replace_settings(settings, {path: suggested[path] for path in paths})
        odd = {
            one
            for one in checks.warnings(changed)
            if one.where in paths and one.where not in measured
        }
        return len({*checks.contradictions(changed), *odd} - before)

    while count := misfits(origins):
        fewer = ({p: o for p, o in origins.items() if p != left} for left in origins)
        origins = next((some for some in fewer if misfits(some) < count), {})
    return origins


def origin_lines(settings: TrainSettings, origins: Mapping[str, str]) -> Iterator[str]:
    """For people: the settings that are not as by default, by where they come from."""
    by_origin: dict[str, list[str]] = {}
    for path, item in all_settings().items():
        value = value_of(settings, path)
        if value == item.default or path not in origins:
            continue
        origin = origins[path]
        text = toml_value(NONE if value is None else value)
        text = text if len(text) <= SHOWN_VALUE else f"{text[: SHOWN_VALUE - 1]}…"
        # An option, or the name of an argument.
        origin = "the command line" if origin.startswith("--") or origin.isupper() else origin
        by_origin.setdefault(origin, []).append(f"{path} = {text}")
    for origin, texts in by_origin.items():
        yield f"from {origin}: {', '.join(texts)}"
