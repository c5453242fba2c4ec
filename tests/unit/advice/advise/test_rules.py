"""The settings that rules give: valid for every kind, difficulty, use and family of bases, each
line with its reason; and what single rules say."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from tests.recipes.runs import small_dataset
from tests.tiny_models import tiny_checkpoint

from lorasmith.advice.advise.case import (
    Case,
    Concept,
    Form,
    Kind,
    Letter,
    Pictures,
    Use,
    examine,
)
from lorasmith.advice.advise.guide_tables import CATEGORIES
from lorasmith.advice.advise.rules import RULES, choices_of
from lorasmith.advice.advise.settings_file import (
    default_line,
    settings_text,
    written_settings,
)
from lorasmith.config.checks import table as checks
from lorasmith.config.schema import TrainSettings, all_settings, replace_settings, value_of
from lorasmith.core.files import parse_toml

FAMILIES = ("demo", "sd1", "sd2", "sdxl")


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    """The demo's character, on a base of each family."""
    folder = tmp_path_factory.mktemp("advise")
    data = small_dataset(folder / "zorp") / "img"
    models = {"demo": "demo"} | {
        family: str(tiny_checkpoint(folder / f"{family}.safetensors", family=family))
        for family in FAMILIES[1:]
    }
    return {family: examine(data, model) for family, model in models.items()}


def pictures(
    images: int = 40,
    captions: str = "1girl, solo, smile, red dress",
    *,
    side: int = 1024,
    form: Form = "tags",
    longest: int = 20,
    trigger: str = "zorp",
) -> Pictures:
    concept = Concept(Path("pictures"), "zorp", images, 1, trigger, form)
    texts = (captions,) * images if form != "none" else ()
    return Pictures((concept,), texts, form, longest, ((side, side),) * images, 0)


def answers() -> Iterator[tuple[Kind, Letter, Use]]:
    yield from itertools.product(get_args(Kind), get_args(Letter), get_args(Use))


def text_of(case: Case) -> str:
    """The file, without what the memory plan adds."""
    choices = choices_of(case)
    values = {path: choice.value for path, choice in choices.items()}
    settings = replace_settings(case.settings, values | {"model.defaults": True})
    paths = written_settings(settings, choices, regularised=False)
    lines = {
        path: choices.get(path) or default_line(path, value_of(settings, path)) for path in paths
    }
    return settings_text(settings, lines, ["a heading"])


def read(text: str) -> TrainSettings:
    values = parse_toml(text)
    values.pop("version")
    return TrainSettings.model_validate(values)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("family", FAMILIES)
def test_settings_are_valid_for_every_answer(cases: dict[str, Case], family: str) -> None:
    case = cases[family]
    sets = (pictures(), pictures(3, form="none"))
    for (kind, letter, use), some in itertools.product(answers(), sets):
        asked = replace(case.answered(kind, letter, use, male=use == "faithful"), pictures=some)
        text = text_of(asked)
        settings = read(text)
        assert checks.contradictions(settings) == [], text
        assert checks.warnings(settings) == [], text
        for path, choice in choices_of(asked).items():
            assert value_of(settings, path) == choice.value


def test_every_line_has_its_reason(cases: dict[str, Case]) -> None:
    for case in cases.values():
        lines = text_of(replace(case, pictures=pictures())).splitlines()
        begin = next(n for n, line in enumerate(lines) if line.startswith("["))
        for number in range(begin, len(lines)):
            # Entries of a long list, and its end, belong to the line that it begins with.
            if not lines[number] or lines[number].startswith(("#", "[", " ", "]")):
                continue
            comment = lines[number].partition("  # ")[2] or lines[number - 1].removeprefix("# ")
            assert comment != lines[number - 1] or lines[number - 1].startswith("# ")
            assert comment.endswith("]"), lines[number]
        # But for entries, which are whole on a line.
        assert max(len(line) for line in lines if line[:1] != " ") <= 100


def test_a_file_has_all_that_has_an_effect(cases: dict[str, Case]) -> None:
    case = replace(cases["sd1"], pictures=pictures())
    settings = read(text_of(case))
    for path, item in all_settings().items():
        section, _, name = path.partition(".")
        if name not in getattr(settings, section).model_fields_set:
            assert value_of(settings, path) == item.default, path


def test_a_base_that_says_what_suits_it_is_left_to_its_word(cases: dict[str, Case]) -> None:
    case = cases["demo"]
    for kind, letter, use in answers():
        assert choices_of(case.answered(kind, letter, use, male=True)) == {}
    longer = replace(case, pictures=pictures(longest=100))
    assert {path: c.value for path, c in choices_of(longer).items()} == {"model.max_tokens": 150}


def test_every_rule_names_a_setting_and_its_source() -> None:
    for rule in RULES:
        assert rule.setting in all_settings()
        assert rule.source.name


def chosen(case: Case, path: str) -> object:
    return choices_of(case)[path].value


@pytest.mark.parametrize("letter", CATEGORIES)
def test_ranks_lie_in_the_guides_range(cases: dict[str, Case], letter: Letter) -> None:
    row = CATEGORIES[letter]
    for use, male in itertools.product(get_args(Use), (False, True)):
        case = replace(cases["sd1"], pictures=pictures()).answered(
            "character", letter, use, male=male
        )
        rank = chosen(case, "adapter.rank")
        assert isinstance(rank, int)
        assert row.low <= rank <= row.high
        types = choices_of(case)["adapter.type"].value
        assert types in row.types
        if types == "lora":
            assert chosen(case, "adapter.alpha") == rank / 2


def test_lokr_is_for_nothing_above_c(cases: dict[str, Case]) -> None:
    case = replace(cases["sd1"], pictures=pictures())
    types = [
        chosen(case.answered("character", letter, "small", male=False), "adapter.type")
        for letter in CATEGORIES
    ]
    assert types == ["lokr"] * 3 + ["lora"] * 6


def test_few_pictures_get_tlora(cases: dict[str, Case]) -> None:
    case = cases["sdxl"]
    few, more = (replace(case, pictures=pictures(images)) for images in (5, 6))
    assert chosen(few, "adapter.type") == "tlora"
    assert chosen(more, "adapter.type") == "lora"


@pytest.mark.parametrize(
    ("captions", "flips"),
    [
        ("1girl, smile, red dress", True),
        ("1girl, eyepatch, smile", False),
        ("1girl, no eyepatch, smile", True),
        ("1girl, side_ponytail, smile", False),
        ("1girl, shirt, english text", False),
        ("1girl, bright smile, dress", True),
    ],
)
def test_flip_is_advised_against_where_captions_name_a_side(
    cases: dict[str, Case], captions: str, flips: bool
) -> None:
    from lorasmith.advice.advise.signs import plain

    some = pictures(captions=plain(captions))
    for kind in get_args(Kind):
        case = replace(cases["sd1"], pictures=some).answered(kind, "B", "balanced", male=False)
        assert chosen(case, "augment.flip") is flips
    untold = replace(cases["sd1"], pictures=pictures(form="none"))
    assert chosen(untold, "augment.flip") is False


def test_clip_skip_goes_by_the_model(cases: dict[str, Case]) -> None:
    names = {
        "animefull-final-pruned.safetensors": 2,
        "nai.ckpt": 2,
        "anything-v4.safetensors": 2,
        "sd15.safetensors": 1,
        "chainmail.safetensors": 1,
    }
    for name, skip in names.items():
        case = replace(cases["sd1"], pictures=pictures())
        case = replace(case, base=replace(case.base, names=name))
        assert chosen(case, "model.clip_skip") == skip
    anime = replace(cases["sdxl"], base=replace(cases["sdxl"].base, names="anime"))
    assert chosen(anime, "model.clip_skip") == 1


def test_captions_decide_on_shuffling_and_length(cases: dict[str, Case]) -> None:
    case = cases["sd1"]
    tags = replace(case, pictures=pictures(trigger="zorp, zorp blue"))
    assert chosen(tags, "captions.shuffle") is True
    assert chosen(tags, "captions.keep_tokens") == 2
    prose = replace(case, pictures=pictures(form="sentences"))
    assert chosen(prose, "captions.shuffle") is False
    assert "captions.keep_tokens" not in choices_of(prose)
    for longest, tokens in ((75, None), (76, 150), (151, 225), (400, 225)):
        choice = choices_of(replace(case, pictures=pictures(longest=longest)))
        assert (c.value if (c := choice.get("model.max_tokens")) else None) == tokens


def test_styles_are_long_and_hold_more(cases: dict[str, Case]) -> None:
    style = replace(cases["sd1"], pictures=pictures(150)).answered(
        "style", "A", "balanced", male=False
    )
    assert chosen(style, "train.showings") == 110
    assert chosen(style, "adapter.rank") == 64
    assert chosen(style, "optimizer.text_encoder_lr") == 4e-5
    faithful = replace(style, use="faithful")
    assert chosen(faithful, "adapter.type") == "locon"
    beast = replace(style, kind="character", difficulty="H")
    assert chosen(beast, "train.showings") == 75


def test_resolution_goes_by_the_base_and_the_pictures(cases: dict[str, Case]) -> None:
    case = cases["sd1"]
    base = replace(case.base, architecture=replace(case.base.architecture, native_resolution=512))
    for side, resolution in ((1024, 576), (512, 512)):
        style = replace(case, base=base, kind="style", pictures=pictures(side=side))
        assert chosen(style, "data.resolution") == resolution
    assert chosen(replace(style, kind="character"), "data.resolution") == 512
