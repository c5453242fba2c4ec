"""The prompt grammar against the web UI's own documented examples."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lorasmith.errors import PromptError
from lorasmith.sampling.prompt import LoraTag, parse_prompt


def weighted(source: str) -> list[list[object]]:
    (section,) = parse_prompt(source).sections
    return [[fragment.text, pytest.approx(fragment.weight)] for fragment in section]


# The examples in the docstring of the web UI's `parse_prompt_attention`.
@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("normal text", [["normal text", 1.0]]),
        ("an (important) word", [["an ", 1.0], ["important", 1.1], [" word", 1.0]]),
        ("(unbalanced", [["unbalanced", 1.1]]),
        (r"\(literal\]", [["(literal]", 1.0]]),
        ("(unnecessary)(parens)", [["unnecessaryparens", 1.1]]),
        (
            "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
            [
                ["a ", 1.0],
                ["house", 1.5730000000000004],
                [" ", 1.1],
                ["on", 1.0],
                [" a ", 1.1],
                ["hill", 0.55],
                [", sun, ", 1.1],
                ["sky", 1.4641000000000006],
                [".", 1.1],
            ],
        ),
    ],
)
def test_examples_of_the_web_ui(source, expected) -> None:
    assert weighted(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("", []),
        ("[word]", [["word", 1 / 1.1]]),
        ("(word:-.5)", [["word", -0.5]]),
        ("( word : 2 )", [[" word ", 2.0]]),
        ("(a:b:1.5)", [["a:b", 1.5]]),
        ("close) it]", [["close) it]", 1.0]]),
        ("no bracket:1.2)", [["no bracket:1.2)", 1.0]]),
        ("(1.2.3:1.2.3)", [["1.2.3:1.2.3", 1.1]]),
        (r"a \\ b", [["a \\ b", 1.0]]),
        (r"smile \:)", [["smile :)", 1.0]]),
        (r"miku \(vocaloid\), (miku \(append\):1.2)",
         [["miku (vocaloid), ", 1.0], ["miku (append)", 1.2]]),
        ("(a [b) c]", [["a ", 1.1], ["b", 1.0], [" c", 1 / 1.1]]),
    ],
)  # fmt: skip
def test_weights_by_hand(source, expected) -> None:
    assert weighted(source) == expected


def test_break_divides_and_keeps_the_weight_around_it() -> None:
    sections = parse_prompt("a cat  BREAK (a BREAK dog:1.2) BREAKfast").sections
    assert [[(f.text, f.weight) for f in section] for section in sections] == [
        [("a cat", 1.0)],
        [("a", 1.2)],
        [("dog", 1.2), (" BREAKfast", 1.0)],
    ]


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("<lora:cat>", LoraTag("cat", 1.0, 1.0)),
        ("<lora:cat:0.8>", LoraTag("cat", 0.8, 0.8)),
        ("<lora:cat:0.8:0.5>", LoraTag("cat", 0.8, 0.5, ambiguous=True)),
        ("<lora:cat:1:1>", LoraTag("cat", 1.0, 1.0)),
        ("<lora:cat:-1>", LoraTag("cat", -1.0, -1.0)),
        ("<lora:cat:te=0>", LoraTag("cat", 1.0, 0.0)),
        ("<lora:cat:0.7:te=0>", LoraTag("cat", 0.7, 0.0)),
        ("<lora:cat:te=0.2:unet=0.9>", LoraTag("cat", 0.9, 0.2)),
        ("<lyco:my cat v1.5:.5>", LoraTag("my cat v1.5", 0.5, 0.5)),
        ("<LORA: cat : 0.5 >", LoraTag("cat", 0.5, 0.5)),
    ],
)
def test_lora_tags(tag, expected) -> None:
    prompt = parse_prompt(f"a ({tag}b:1.2)")
    assert prompt.loras == (expected,)
    assert [f.text for f in prompt.sections[0]] == ["a ", "b"]


def test_two_strengths_in_a_row_are_remarked_upon() -> None:
    assert "UNet 0.8 and text encoder 0.5" in parse_prompt("<lora:cat:0.8:0.5>").notes[0]
    assert parse_prompt("<lora:cat:unet=0.8:te=0.5>").notes == ()


@pytest.mark.parametrize(
    ("tag", "blocks", "x"),
    [
        ("<lora:cat:1:1:lbw=OUTX:x=0.5>", "OUTX", 0.5),
        ("<lora:cat:1:1:lwb=INX>", "INX", None),
        ("<lora:cat:1:lbw=1,0,0,0>", "1,0,0,0", None),
        ("<lora:cat:1:OUTX:0.5>", "OUTX", None),
    ],
)
def test_block_weights_are_kept(tag, blocks, x) -> None:
    (lora,) = parse_prompt(tag).loras
    assert (lora.block_weights, lora.block_x) == (blocks, x)
    assert (lora.unet, lora.text_encoder) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("<lora:>", "no name"),
        ("<lora:cat:abc>", "not a number"),
        ("<lora:cat:1e999>", "not a number"),
        ("<lora:cat:0,8>", "not a number"),
        ("<lora:cat:1:1:1>", "strengths"),
        ("<lora:cat:unett=1>", 'unknown argument "unett="'),
        ("<lora:cat> <lora:cat:0.5>", "twice"),
        ("<loar:cat:1>", 'unknown tag "loar"'),
        ("<hypernet:cat:1>", "unknown tag"),
    ],
)
def test_bad_tags_are_named(source, word) -> None:
    with pytest.raises(PromptError, match=word):
        parse_prompt(source)


def test_all_bad_tags_are_named_at_once() -> None:
    with pytest.raises(PromptError) as caught:
        parse_prompt("<lora:a:x> fine <lora:b:y> <what:c>")
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize("source", ["[cat:dog:0.5]", "[cat|dog]", "a cat AND a dog"])
def test_web_ui_syntax_that_is_not_read_is_remarked_upon(source) -> None:
    assert parse_prompt(source).notes


PIECES = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        [*"()[]:\\<>|,", "BREAK", ":1.2)", "<lora:", "a:0.5>", "lbw=", " ", ":.)", "٣)"]
    ),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=25).map("".join))
@example("((" * 4000 + "a" + ":99999)" * 4000)
@example("\\")
@example("<lora:::::>")
def test_no_string_crashes_it(source) -> None:
    try:
        prompt = parse_prompt(source)
    except PromptError:
        return
    assert prompt.sections
    assert all(f.text for section in prompt.sections for f in section)


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(blacklist_characters="\\()[]<>"), max_size=40))
def test_text_without_brackets_comes_through_whole(source) -> None:
    sections = parse_prompt(source).sections
    if "BREAK" not in source:
        assert "".join(f.text for f in sections[0]) == source
        assert all(f.weight == 1.0 for f in sections[0])


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("ab ()[]\\:1.,"), max_size=30))
def test_escaped_text_comes_through_whole(source) -> None:
    escaped = source.translate({ord(c): f"\\{c}" for c in "\\()[]"})
    assert "".join(f.text for f in parse_prompt(escaped).sections[0]) == source
