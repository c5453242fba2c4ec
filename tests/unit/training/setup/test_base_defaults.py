"""Settings that nobody chose: as the base says, else its family."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorasmith.config.load import load_settings
from lorasmith.config.optimizers import OPTIMIZERS
from lorasmith.config.presets import preset_names
from lorasmith.config.schema import TrainSettings, all_settings
from lorasmith.models.families.table import FAMILIES
from lorasmith.models.open import OpenedCheckpoint, open_checkpoint
from lorasmith.training.setup.base_defaults import (
    REFUSED,
    SECTIONS,
    SINGLE,
    origin_lines,
    read_entry,
    suit,
)

DEMO = open_checkpoint("demo")


def base(entry: str | dict[str, Any]) -> OpenedCheckpoint:
    text = entry if isinstance(entry, str) else json.dumps(entry)
    return dataclasses.replace(DEMO, defaults=text)


def value(settings: TrainSettings, path: str) -> Any:
    section, _, name = path.partition(".")
    return getattr(getattr(settings, section), name)


# By setting: what may be suggested, and what someone may choose in its place.
VALUES: dict[str, tuple[Any, Any]] = {
    "optimizer.lr": (4e-3, 2e-3),
    "adapter.rank": (8, 32),
    "schedule.name": ("linear", "constant"),
    "train.batch": (8, 2),
    "loss.noise_offset": (0.05, 0.1),
    "captions.shuffle": (True, False),
    "data.resolution": (64, 128),
    "sample.cfg": (3.0, 5.0),
    "performance.threads": (1, 2),
}
PATHS = st.sets(st.sampled_from(sorted(VALUES)))


@given(PATHS, PATHS, PATHS)
def test_what_is_set_wins_then_the_base_then_the_family(
    chosen: set[str], by_base: set[str], by_family: set[str]
) -> None:
    family = dataclasses.replace(
        DEMO.architecture.family, defaults={path: VALUES[path][1] for path in by_family}
    )
    FAMILIES["sd1"], real = family, FAMILIES["sd1"]
    try:
        # What is chosen is the general default: to choose it is another thing than not to.
        overrides = {path: json.dumps(all_settings()[path].default) for path in chosen}
        overrides = {path: text.replace("null", "none") for path, text in overrides.items()}
        settings = load_settings(None, overrides)
        suited = suit(settings, base({path: VALUES[path][0] for path in by_base}))
    finally:
        FAMILIES["sd1"] = real
    for path, (of_base, of_family) in VALUES.items():
        default = all_settings()[path].default
        if path in chosen:
            expected, origin = default, None
        elif path in by_base:
            expected, origin = of_base, "the base model"
        elif path in by_family:
            expected, origin = of_family, "Stable Diffusion 1"
        else:
            expected, origin = default, None
        assert value(suited.settings, path) == expected, path
        assert suited.origins.get(path) == origin, path
    again = suit(suited.settings, base({path: VALUES[path][1] for path in VALUES}))
    assert again.settings == suited.settings, "a run that is resumed goes on with the same"


def test_what_a_base_says_of_a_kind_goes_before_what_such_runs_want_elsewhere() -> None:
    entry = {
        "optimizer.lr": 2e-3,
        "train.batch": 3,
        "kinds": {"full": {"optimizer.lr": 7e-4}, "embedding": {"embedding.norm": "free"}},
    }
    by_kind = {
        kind: suit(load_settings(None, [f"train.kind={kind}"]), base(entry))
        for kind in ("lora", "full", "embedding")
    }
    rates = {kind: one.settings.optimizer.lr for kind, one in by_kind.items()}
    assert rates == {"lora": 2e-3, "full": 7e-4, "embedding": 5e-3}
    assert {one.settings.train.batch for one in by_kind.values()} == {3}
    assert by_kind["embedding"].settings.embedding.norm == "free"
    assert by_kind["full"].origins["optimizer.lr"] == "the base model"
    assert by_kind["full"].of_kind == {"optimizer.lr"}
    mine = suit(load_settings(None, ["train.kind=full", "optimizer.lr=1e-5"]), base(entry))
    assert mine.settings.optimizer.lr == 1e-5
    assert not mine.of_kind


def test_what_is_wrong_in_what_a_base_says_of_a_kind_is_said_to_such_runs() -> None:
    entry = base({"kinds": {"full": {"full.speed": 1, "optimizer.lr": 7e-4}}})
    suited = suit(load_settings(None, ["train.kind=full"]), entry)
    assert suited.settings.optimizer.lr == 7e-4
    (problem,) = suited.warnings
    assert problem.where == "demo: lorasmith.defaults: kinds: full"
    assert "full.speed: is not a known setting" in problem.what
    assert not suit(load_settings(None, []), entry).warnings


def test_a_preset_wins_over_the_base() -> None:
    settings = load_settings(None, preset="character")
    suited = suit(settings, DEMO)
    named = settings.optimizer.model_fields_set
    assert "unet_lr" in named
    assert suited.settings.optimizer.model_dump(include=named) == settings.optimizer.model_dump(
        include=named
    )
    assert suited.settings.train.batch == 4, "which the preset says nothing of"


def test_it_can_be_switched_off() -> None:
    settings = load_settings(None, ["model.defaults=false"])
    suited = suit(settings, DEMO)
    assert suited.settings == settings
    assert not suited.origins
    assert suited.suggested["optimizer.lr"] == 2e-3


def test_what_a_kind_wants_is_not_switched_off_with_it() -> None:
    """A LoRA's rate breaks a base."""
    entry = base({"optimizer.lr": 2e-3, "kinds": {"full": {"optimizer.lr": 7e-4}}})
    suited = suit(load_settings(None, ["train.kind=full", "model.defaults=false"]), entry)
    assert suited.settings.optimizer.lr == 5e-6
    assert suited.origins == {"optimizer.lr": "train.kind full"}
    assert suit(suited.settings, entry).settings == suited.settings
    chosen = load_settings(None, ["train.kind=full", "model.defaults=false", "optimizer.lr=1e-4"])
    assert suit(chosen, entry).settings == chosen


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("{", "is no JSON object"),
        ("[1]", "is no JSON object"),
        ("[" * 100_000, "is no JSON object"),
        ({"optimizer.speed": 1}, "optimizer.speed: is not a known setting"),
        ({"lr": 1}, "lr: is not a known setting"),
        ({"optimizer": {"lr": 1}}, "optimizer: is not a known setting"),
        ({"optimizer.lr": "fast"}, "optimizer.lr: 'fast' is not a number"),
        ({"optimizer.lr": -1}, "optimizer.lr: -1 is out of range"),
        ({"optimizer.lr": float("nan")}, "not a finite number"),
        ({"adapter.rank": [[[]]]}, "adapter.rank: "),
        ({"optimizer.args": 3}, "optimizer.args: "),
        ({"optimizer.name": "os.path.Adam"}, "is not in the table of optimizers"),
        ({"model.path": "/etc/passwd"}, "is not for a base model to say"),
        ({"save.output": "/tmp"}, "is not for a base model to say"),
        ({"adapter.init_from": "/tmp/a"}, "is not for a base model to say"),
        ({"log.wandb": "theirs"}, "is not for a base model to say"),
        ({"x" * 9999: 1}, "is not a known setting"),
        ({"train.kind": "full"}, "is not for a base model to say"),
        ({"kinds": [1]}, "kinds is no JSON object"),
        ({"kinds": {"dora": {}}}, "kinds: dora: is not a known kind"),
        ({"kinds": {"full": 1}}, "kinds: full: is no JSON object"),
    ],
)
def test_what_is_wrong_in_an_entry_is_left_out(entry: str | dict[str, Any], says: str) -> None:
    good = {"train.batch": 3}
    suited = suit(TrainSettings(), base({**entry, **good} if isinstance(entry, dict) else entry))
    (problem,) = suited.warnings
    assert says in problem.what
    assert len(problem.what) < 200
    assert problem.where == "demo: lorasmith.defaults"
    assert "left out" in problem.what
    expected = 3 if isinstance(entry, dict) else 1
    assert suited.settings.train.batch == expected, "the rest holds"


@given(
    st.dictionaries(
        st.sampled_from(sorted(all_settings())) | st.text(max_size=9),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
            max_leaves=4,
        ),
        max_size=4,
    )
)
def test_no_entry_breaks_anything(entry: dict[str, Any]) -> None:
    values, problems = read_entry(json.dumps(entry), "base")
    assert len(values) + len(problems) == len(entry)
    assert read_entry(json.dumps({"kinds": {"full": entry}}), "base", "full")[0] == values
    assert suit(TrainSettings(), base(entry)).settings.model.path == "demo"


def test_no_base_says_where_to_write_what_to_read_or_run() -> None:
    """Whatever settings there will be: those that hold paths, or name code, are refused."""
    for path, item in all_settings().items():
        if Path in item.types and not path.startswith(("model.", "data.", "save.", "performance.")):
            section = path.partition(".")[0]
            allowed = (section in SECTIONS or path in SINGLE) and path not in REFUSED
            assert not allowed, path
    for section in ("log", "save", "watchdog"):
        assert section not in SECTIONS


def test_rates_of_one_optimizer_are_not_taken_for_another() -> None:
    entry = {"optimizer.lr": 4e-3, "train.batch": 8}
    for name, facts in OPTIMIZERS.items():
        suited = suit(load_settings(None, [f"optimizer.name={name}"]), base(entry))
        alike = facts.lr == 1e-4 and not facts.adaptive and not facts.sets_lr
        assert (suited.settings.optimizer.lr == 4e-3) == alike, name
        assert suited.settings.train.batch == 8


def test_a_rate_of_all_parts_goes_before_a_suggested_one_of_a_part() -> None:
    entry = {"optimizer.unet_lr": 1e-3, "optimizer.text_encoder_lr": 1e-4}
    assert suit(TrainSettings(), base(entry)).settings.optimizer.unet_lr == 1e-3
    suited = suit(load_settings(None, ["optimizer.lr=2e-4"]), base(entry))
    assert {"unet": 2e-4, "text_encoder": 2e-4}.items() <= suited.settings.optimizer.lrs.items()
    assert suit(TrainSettings(), DEMO).settings.optimizer.text_encoder_lr is None, (
        "the family's, where the base says a rate for all"
    )


def test_what_does_not_go_with_a_choice_gives_way() -> None:
    entry = {"captions.shuffle": True, "captions.keep_tokens": 1}
    suited = suit(TrainSettings(), base(entry))
    assert suited.settings.captions.keep_tokens == 1
    suited = suit(load_settings(None, ["captions.shuffle=false"]), base(entry))
    assert suited.settings.captions.keep_tokens == 0, "it would have no effect"
    suited = suit(load_settings(None, ["buckets.min=512"]), base({"data.resolution": 64}))
    assert suited.settings.data.resolution is None, "smaller than what was chosen"


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_families_say_what_may_be_said(family: Any) -> None:
    values, problems = read_entry(json.dumps(dict(family.defaults)), family.name)
    assert not problems
    assert values == family.defaults


def test_where_settings_come_from() -> None:
    loaded = load_settings(None, {"save.name": "x" * 200, "optimizer.lr": "4e-3"})
    origins = {"save.name": "--name", "optimizer.lr": "a.toml", "train.seed": "a.toml"}
    lines = list(origin_lines(loaded, origins))
    assert lines[0].startswith("from a.toml: optimizer.lr = 0.004"), "not what is as by default"
    assert lines[1].startswith('from the command line: save.name = "xxx')
    assert len(lines[1]) < 120


@pytest.mark.parametrize("name", preset_names())
def test_presets_say_nothing_that_the_demo_model_takes_badly(name: str) -> None:
    suited = suit(load_settings(None, preset=name), DEMO)
    assert not suited.warnings
