"""Block weights as people write them: the extension's and sd-scripts' own words, and any text."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorasmith.formats.block_weights import (
    BLOCKS,
    CURVES,
    FORMS,
    INPUTS,
    MIDDLE,
    OUTPUTS,
    PRESETS,
    block_of,
    format_weights,
    learning_weights,
    parse,
    parse_given,
    sizes,
)

# What sd-webui-lora-block-weight writes for SD1, by the blocks of its 17 values.
SEVENTEEN = [
    "BASE", "IN01", "IN02", "IN04", "IN05", "IN07", "IN08", "M00", "OUT03", "OUT04", "OUT05",
    "OUT06", "OUT07", "OUT08", "OUT09", "OUT10", "OUT11",
]  # fmt: skip
EXTENSION = {
    "NONE": "0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0",
    "ALL": "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1",
    "INS": "1,1,1,1,0,0,0,0,0,0,0,0,0,0,0,0,0",
    "IND": "1,0,0,0,1,1,1,0,0,0,0,0,0,0,0,0,0",
    "INALL": "1,1,1,1,1,1,1,0,0,0,0,0,0,0,0,0,0",
    "MIDD": "1,0,0,0,1,1,1,1,1,1,1,1,0,0,0,0,0",
    "OUTD": "1,0,0,0,0,0,0,0,1,1,1,1,0,0,0,0,0",
    "OUTS": "1,0,0,0,0,0,0,0,0,0,0,0,1,1,1,1,1",
    "OUTALL": "1,0,0,0,0,0,0,0,1,1,1,1,1,1,1,1,1",
    "ALL0.5": "0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5",
    "NIN05": "1,1,1,1,0,1,1,1,1,1,1,1,1,1,1,1,1",
    "OUT03": "0,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0,0",
    "MID": "0,0,0,0,0,0,0,1,0,0,0,0,0,0,0,0,0",
}

weights = st.floats(-1e5, 1e5, allow_nan=False).map(lambda number: round(number, 6))
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=30,
)
words = st.sampled_from(
    ["IN", "OUT03", "=", ",", "0.5", "X", "down", "up", "sine", "+", "rest", "OUTALL", ":x="]
) | st.sampled_from([" ", "-", "M00", "1", "R", "e9", "\u0663", "{", "["])


def read_or_none(read: Callable[[Any], Any], value: Any) -> Any:
    """What is read, or None where it was refused with a message."""
    try:
        return read(value)
    except ValueError as error:
        return None if str(error) else "an error without a message"


@pytest.mark.parametrize("name", EXTENSION)
def test_presets_are_the_extensions(name: str) -> None:
    ours = parse(name)
    theirs = dict(zip(SEVENTEEN, map(float, EXTENSION[name].split(",")), strict=True))
    assert {block: ours[block] for block in SEVENTEEN} == theirs


@pytest.mark.parametrize("name", [name for name in PRESETS if not name.endswith("X")])
def test_presets_agree_with_the_form_of_17_where_that_says_something(name: str) -> None:
    listed = parse(EXTENSION[name])
    assert all(listed[block] == 0.0 for block in set(BLOCKS) - set(SEVENTEEN))
    assert {b: parse(name)[b] for b in SEVENTEEN} == {b: listed[b] for b in SEVENTEEN}


@pytest.mark.parametrize("count", FORMS)
def test_every_form_names_each_block_once(count: int) -> None:
    blocks = FORMS[count]
    assert len(blocks) == len(set(blocks)) == count
    assert [BLOCKS.index(block) for block in blocks] == sorted(BLOCKS.index(b) for b in blocks)
    found = parse([n + 1 for n in range(count)])
    assert [found[block] for block in blocks] == [float(n + 1) for n in range(count)]
    assert found["BASE"] == 1.0
    assert all(found[block] == 0.0 for block in set(BLOCKS) - set(blocks) - {"BASE"})


def test_guides_presets_leave_one_side_to_x() -> None:
    found = parse("INX:x=0.2")
    assert found["BASE"] == found["IN05"] == found["M00"] == 1.0
    assert {found[block] for block in OUTPUTS} == {0.2}
    assert parse("OUTX:x=0.5")["M00"] == 0.5
    assert parse("1,1,1,1,1,1,1,1,X,X,X,X,X,X,X,X,X:x=0.2")["OUT03"] == 0.2


def test_special_letters_are_given_or_refused_by_name() -> None:
    for letter in "XRU":
        with pytest.raises(ValueError, match=f"holds {letter}"):
            parse(f"rest=1 OUT03={letter}")
    asked = []

    def special(letter: str, block: str) -> float:
        asked.append((letter, block))
        return 0.25

    found = parse("rest=0 IN05=R OUT03=X+0.5", special=special)
    assert (found["IN05"], found["OUT03"]) == (0.25, 0.75)
    assert set(asked) == {("R", "IN05"), ("X", "OUT03")}


def test_names_ranges_and_sides() -> None:
    found = parse({"rest": 0.1, "OUT": 0.5, "OUT03-OUT05": 0.7, "out04": 0.9})
    assert (found["IN00"], found["OUT02"], found["OUT03"], found["OUT04"]) == (0.1, 0.5, 0.7, 0.9)
    assert parse("OUT04=0.9, OUT=0.5") == parse("OUT=0.5 OUT04=0.9")
    assert parse("OUT03=0.5")["IN05"] == 1.0
    assert parse("rest=0 OUT05-IN05=1") == parse("rest=0 IN05-OUT05=1")


def test_curves_are_sd_scripts() -> None:
    """Its formula: sin(pi/2 * i / 11) for sine, the same reversed for cosine."""
    found = parse("down=sine+0.2 mid=0.5 up=reverse_linear")
    for n in range(12):
        assert found[INPUTS[n]] == pytest.approx(math.sin(math.pi * (n / 11) / 2) + 0.2)
        assert found[OUTPUTS[n]] == pytest.approx((11 - n) / 11)
    assert found[MIDDLE] == 0.5
    cosine = parse("down_lr_weight=cosine")
    sine = parse("down_lr_weight=sine")
    assert [cosine[b] for b in INPUTS] == pytest.approx([sine[b] for b in reversed(INPUTS)])
    assert cosine["OUT05"] == cosine["BASE"] == 1.0
    short = parse("up=linear", side=9)
    assert (short["OUT00"], short["OUT04"], short["OUT08"]) == (0.0, 0.5, 1.0)
    assert set(CURVES) == {"sine", "cosine", "linear", "reverse_linear", "zeros"}


def test_sd_scripts_lists() -> None:
    text = "down_lr_weight=0,0,0,0,0,0,1,1,1,1,1,1 mid_lr_weight=1 up_lr_weight=1,1,1,1,1,1,,,,,,"
    found = parse(text)
    assert [found[block] for block in INPUTS] == [0.0] * 6 + [1.0] * 6
    assert [found[block] for block in OUTPUTS] == [1.0] * 6 + [0.0] * 6
    assert parse("down=1,0,0,0,0,0 up=1", side=6)["IN01"] == 0.0
    assert parse("down=1,0,0,0,0,0", side=None)["IN01"] == 0.0
    with pytest.raises(ValueError, match="13 values; expected 12"):
        parse({"down": [1] * 13}, side=None)
    table = {"down": [0] * 6 + [1] * 6, "up": [1] * 6 + [0] * 6}
    assert parse(table) == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("OUTAL", "did you mean OUTALL"),
        ("1,1,1", "3 values given; expected 12 values"),
        ("rest=0 OUT3=1", "OUT3 in .* is no block; did you mean OUT"),
        ("1,0 OUT=3", "mixes numbers with names"),
        ("down=1,2,3", "down has 3 values; expected 12"),
        ("down=parabola", "12 numbers or one of sine"),
        ("IN=", "is not a number"),
        ("INX:y=3", "x=NUMBER"),
        ("INX", "write it as in INX:x=0.3"),
        ("", "neither a preset nor a block"),
        ("IN=1e99", "too large"),
        ("OUT05:x=3", "has no X"),
    ],
)
def test_messages_say_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)


@pytest.mark.parametrize("value", [None, True, math.inf, math.nan, 10**400, [None], {"IN": {}}])
def test_other_values_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"neither|large|number"):
        parse(value)


def test_training_refuses_negative_weights_and_drops_small_ones() -> None:
    with pytest.raises(ValueError, match="OUT03 is -1"):
        learning_weights("OUT03=-1")
    found = learning_weights("down=linear", threshold=0.2)
    assert [found[block] for block in INPUTS[:4]] == pytest.approx([0.0, 0.0, 0.0, 3 / 11])


def test_ranks_and_alphas() -> None:
    assert sizes({"OUT03": 8}, whole=True) == {"OUT03": 8.0}
    assert sizes([4] * 25, whole=True)["IN00"] == 4.0
    assert "BASE" not in sizes([4] * 25, whole=True)
    assert sizes("rest=2 M00=1", whole=True)["BASE"] == 2.0
    for wrong in ("OUT03=1.5", "OUT03=-2"):
        with pytest.raises(ValueError, match="not a rank"):
            sizes(wrong, whole=True)
    assert sizes("OUT03=1.5", whole=False) == {"OUT03": 1.5}


@pytest.mark.parametrize(
    ("path", "block"),
    [
        ("conv_in", "IN00"),
        ("time_embedding.linear_1", "IN00"),
        ("down_blocks.0.attentions.0.proj_in", "IN01"),
        ("down_blocks.0.resnets.1.conv1", "IN02"),
        ("down_blocks.0.downsamplers.0.conv", "IN03"),
        ("down_blocks.1.attentions.0.proj_in", "IN04"),
        ("down_blocks.2.attentions.1.proj_in", "IN08"),
        ("down_blocks.3.resnets.1.conv1", "IN11"),
        ("mid_block.attentions.0.proj_in", "M00"),
        ("up_blocks.0.resnets.0.conv1", "OUT00"),
        ("up_blocks.0.upsamplers.0.conv", "OUT02"),
        ("up_blocks.1.attentions.0.proj_in", "OUT03"),
        ("up_blocks.3.attentions.2.proj_out", "OUT11"),
        ("conv_out", "OUT11"),
    ],
)
def test_blocks_are_numbered_as_in_the_original_code(path: str, block: str) -> None:
    assert block_of(path) == block


def test_smaller_models_have_fewer_blocks() -> None:
    assert block_of("down_blocks.2.resnets.0.conv1", 1, 3) == "IN05"
    assert block_of("up_blocks.2.attentions.1.proj_in", 1, 3) == "OUT05"
    assert block_of("conv_out", 1, 3) == "OUT05"


@given(st.fixed_dictionaries(dict.fromkeys(BLOCKS, weights)))
def test_what_is_printed_is_read_back(chosen: dict[str, float]) -> None:
    assert parse(format_weights(chosen)) == chosen
    assert parse(chosen) == chosen
    assert parse_given(chosen) == chosen


@given(anything)
def test_no_value_crashes_the_parser(value: object) -> None:
    found = read_or_none(parse, value)
    if found is not None:
        assert list(found) == list(BLOCKS)
        assert all(math.isfinite(weight) for weight in found.values())


@given(st.lists(words, max_size=12).map("".join))
def test_no_text_of_its_own_words_crashes_the_parser(text: str) -> None:
    for read in (
        parse,
        lambda t: parse(t, side=None),
        parse_given,
        learning_weights,
        lambda t: sizes(t, whole=True),
    ):
        found = read_or_none(read, text)
        assert found is None or isinstance(found, dict)


@pytest.mark.parametrize("text", ["0x" + "f" * 100_000, "9" * 100_000 + "!"])
def test_a_long_word_is_refused_at_once(text: str) -> None:
    begin = time.process_time()
    with pytest.raises(ValueError, match=text[:20]):
        parse_given(text)
    assert time.process_time() - begin < 0.5
