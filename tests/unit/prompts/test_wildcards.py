from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorasmith.core.errors import PromptError
from lorasmith.prompts.parse import parse_prompt
from lorasmith.prompts.wildcards import Wildcards


@pytest.fixture
def folder(tmp_path) -> Path:
    files = {
        "colours.txt": "red\n\n# not this\ngreen \n",
        "animals/cats.txt": "a __colours__ cat\n{big|small} cat\n",
        "animals/dogs.txt": "dog\n",
        "endless.txt": "on and __endless__\n",
        "empty.txt": "\n# nothing\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def many(wildcards: Wildcards, prompt: str, count: int = 300) -> Counter[str]:
    return Counter(wildcards.expand(prompt, seed) for seed in range(count))


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a __colours__ star", {"a red star", "a green star"}),
        ("__cats__", {"a red cat", "a green cat", "big cat", "small cat"}),
        ("__animals/dogs__", {"dog"}),
        ("__animals/*__", {"a red cat", "a green cat", "big cat", "small cat", "dog"}),
        ("{a|b|}", {"a", "b", ""}),
        ("{a|{b|c}}", {"a", "b", "c"}),
        ("{[x|y]|z}", {"[x|y]", "z"}),
        ("{2$$a|b|c}", {"a, b", "b, a", "a, c", "c, a", "b, c", "c, b"}),
        ("{1-2$$ and $$a|b}", {"a", "b", "a and b", "b and a"}),
        ("{5$$a|b}", {"a, b", "b, a"}),
        ("{0::a|b}", {"b"}),
        # Text.
        ("{masterpiece}", {"{masterpiece}"}),
        ("a {b", {"a {b"}),
        ("[a|b]", {"[a|b]"}),
        (r"\{a|b\}", {r"\{a|b\}"}),
    ],
)
def test_all_that_can_be_drawn_is(folder, prompt, expected) -> None:
    assert set(many(Wildcards(folder), prompt)) == expected


def test_draws_depend_on_seed_and_place_alone(folder) -> None:
    prompt = "__colours__ __colours__ {a|b}"
    first, second = Wildcards(folder), Wildcards(folder)
    assert [first.expand(prompt, 7) for _ in range(3)] == [second.expand(prompt, 7)] * 3
    # Two places are drawn independently of each other.
    pairs = Counter(tuple(first.expand("__colours__ __colours__", s).split()) for s in range(400))
    assert len(pairs) == 4
    assert min(pairs.values()) > 60
    assert any(
        first.expand("{a|b}", seed) != first.expand("{a|b}", seed, "negative") for seed in range(9)
    )


def test_shares(folder) -> None:
    counts = many(Wildcards(), "{3::a|b}", 2000)
    assert 0.70 < counts["a"] / 2000 < 0.80


def test_random_block_weights() -> None:
    lists = "1,R,R,U,0,0,0,0,0,0,0,0"
    prompt = f"a Red <lora:R:1:lbw={lists}:x=1> R"
    drawn = Wildcards().expand(prompt, 3)
    (tag,) = parse_prompt(drawn).loras
    assert drawn.endswith(":x=1> R")
    assert tag.name == "R"
    assert 0 < tag.blocks["IN04"] < 1
    assert tag.blocks["IN04"] != tag.blocks["IN05"]
    assert parse_prompt(Wildcards().expand("<lora:a:1:lbw=OUTX:x=2>", 0)).loras[0].block_x == 2.0


@pytest.mark.parametrize(
    ("prompt", "word"),
    [
        ("__colour__", "did you mean __colours__"),
        ("__endless__", "without an end"),
        ("__empty__", "holds no line"),
        ("__nothing*__", "no such wildcard"),
    ],
)
def test_what_cannot_be_drawn_is_named(folder, prompt, word) -> None:
    with pytest.raises(PromptError, match=word):
        Wildcards(folder).expand(prompt, 0)


def test_without_a_folder_names_are_text() -> None:
    assert Wildcards().expand("a __name__", 0) == "a __name__"


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("ab{}|$:2[]_ -\\"), max_size=30), st.integers(-5, 5))
def test_no_text_crashes_it(text, seed) -> None:
    with contextlib.suppress(PromptError):
        Wildcards().expand(text, seed)
