"""What is printed can be typed, and promises nothing that was not looked at."""

from __future__ import annotations

import shlex
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.unit.advice.diagnose.made import evidence, facts, grid, measures

from lorasmith.advice.diagnose.diagnose import judged
from lorasmith.advice.diagnose.page import _cells
from lorasmith.advice.diagnose.subject import Subject
from lorasmith.advice.diagnose.view import render, settings_options
from lorasmith.config.load import load_settings


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model.path", "/my models/it's \\ one.safetensors"),
        ("optimizer.lr", 0.0002),
        ("train.epochs", "auto"),
        ("preservation.enabled", True),
        ("adapter.alpha", 16),
    ],
)
def test_options_say_what_they_are_to_set(path: str, value: Any) -> None:
    option, text = shlex.split(settings_options({path: value}))
    assert option == "--set"
    name, _, given = text.partition("=")
    assert name == path
    section, _, setting = path.partition(".")
    read = getattr(getattr(load_settings(None, {path: given}), section), setting)
    assert str(read) == str(value) if isinstance(value, str) else read == value


def subject() -> Subject:
    settings = SimpleNamespace(model=SimpleNamespace(path="demo"))
    return cast(Subject, SimpleNamespace(name="zorp", settings=settings))


def test_what_is_said_where_nothing_is_named_is_by_what_was_seen() -> None:
    well = judged(subject(), facts(), {"snapshot": measures()})
    assert well.verdict is not None
    assert (well.verdict.state, well.causes) == ("well", ())
    assert "looks wrong" in well.no_cause
    over = judged(subject(), facts(), {"snapshot": measures(copying=0.3)})
    assert over.verdict is not None
    assert over.verdict.state == "over"
    assert over.no_cause.startswith("None of the causes")
    assert judged(subject(), facts(), {}).no_cause.endswith("its training looks wrong.")
    blank = facts(source="nothing", lr={}, uses=None, alpha=None, same_base=None, dataset=None)
    nothing = judged(subject(), blank, {})
    assert "be judged" in nothing.no_cause
    assert render(nothing) is not None


def test_a_part_that_is_not_there_is_best_nowhere() -> None:
    one_part = grid()
    one_part = type(one_part)(
        one_part.unet, [1.0], [[[row[1]] for row in plane] for plane in one_part.loss]
    )
    found = judged(subject(), facts(), {"strengths": one_part})
    assert "text encoder" not in list(_cells(0, found))[-1]
    both = judged(subject(), facts(), {"strengths": evidence().grid})
    assert "text encoder" in list(_cells(0, both))[-1]
