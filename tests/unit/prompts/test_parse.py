"""The prompt grammar against the web UI's own documented examples.

Its wiki: "Features" (attention, prompt editing, alternating words, composable diffusion, BREAK) and
"Seed breaking changes" (1.6.0: shares and counts of steps over two passes).
"""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lorasmith.core.errors import PromptError
from lorasmith.prompts.grammar import MAX_DEPTH, format_nodes, parse_nodes
from lorasmith.prompts.lora_tags import LoraTag
from lorasmith.prompts.parse import parse_prompt
from lorasmith.prompts.schedule import StepMark, StepRange
from lorasmith.prompts.weights import Sections


def sections_of(source: str) -> Sections:
    (part,) = parse_prompt(source).parts
    return part.sections()


def weighted(source: str) -> list[list[object]]:
    (section,) = sections_of(source)
    return [[fragment.text, pytest.approx(fragment.weight)] for fragment in section]


def spans(source: str, steps: int, before: int = 0) -> list[tuple[int, str]]:
    """The texts of a prompt's steps, with how many steps each stays."""
    (part,) = parse_prompt(source).parts
    found: list[tuple[int, str]] = []
    for step in range(steps):
        (section,) = part.sections(step, steps, before)
        text = "".join(fragment.text for fragment in section)
        if found and found[-1][1] == text:
            found[-1] = (found[-1][0] + 1, text)
        else:
            found.append((1, text))
    return found


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
    sections = sections_of("a cat  BREAK (a BREAK dog:1.2) BREAKfast")
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
    assert [f.text for f in prompt.parts[0].sections()[0]] == ["a ", "b"]


def test_two_strengths_in_a_row_are_remarked_upon() -> None:
    assert "UNet 0.8 and text encoder 0.5" in parse_prompt("<lora:cat:0.8:0.5>").notes[0]
    assert parse_prompt("<lora:cat:unet=0.8:te=0.5>").notes == ()


@pytest.mark.parametrize(
    ("tag", "blocks", "x"),
    [
        ("<lora:cat:1:1:lbw=OUTX:x=0.5>", "OUTX", 0.5),
        ("<lora:cat:1:1:lwb=INX>", "INX", None),
        ("<lora:cat:1:lbw=1,0,0,1,1,1,1,0,0,0,0,0>", "1,0,0,1,1,1,1,0,0,0,0,0", None),
        ("<lora:cat:1:1,0,0,1,1,1,1,0,0,0,0,0>", "1,0,0,1,1,1,1,0,0,0,0,0", None),
        ("<lora:cat:lbw=ALL:stop=10>", "ALL", None),
        ("<lora:cat:1:OUTX:0.5>", "OUTX", 0.5),
        ("<lora:cat:1:OUTX>", "OUTX", None),
    ],
)
def test_block_weights_are_kept(tag, blocks, x) -> None:
    (lora,) = parse_prompt(tag).loras
    assert (lora.block_weights, lora.block_x) == (blocks, x)
    assert (lora.unet, lora.text_encoder) == (1.0, 1.0)
    if "X" in blocks:
        assert lora.blocks["BASE" if blocks == "OUTX" else "OUT05"] == (x or 1.0)


@pytest.mark.parametrize(
    ("argument", "on"),
    [
        ("start=10", range(10, 20)),
        ("stop=10", range(10)),
        ("step=5-10", range(5, 10)),
        ("step=5-", range(5, 20)),
        ("start=0.5", range(10, 20)),
        ("stop=0.25:start=2", range(2, 5)),
        ("step=0-0", range(0)),
    ],
)
def test_steps_of_a_lora(argument, on) -> None:
    (lora,) = parse_prompt(f"<lora:cat:1:lbw=ALL:{argument}>").loras
    assert [step for step in range(20) if lora.steps.holds(step, 20)] == list(on)


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("<lora:>", "no name"),
        ("<lora:cat:abc>", "not a number"),
        ("<lora:cat:1e999>", "out of range"),
        ("<lora:cat:1e39>", "out of range"),
        ("<lora:cat:0,8>", "not a number"),
        ("<lora:cat:1:1:1>", "strengths"),
        ("<lora:cat:unett=1>", 'unknown argument "unett="'),
        ("<lora:cat> <lora:cat:0.5>", "twice"),
        ("<loar:cat:1>", 'unknown tag "loar"'),
        ("<hypernet:cat:1>", "hypernetworks are not supported"),
        ("<lora:cat:1:lbw=OUTZ>", "neither a preset nor a block"),
        ("<lora:cat:1:lbw=1,0,0>", "3 values given"),
        ("<lora:cat:1:lbw=ALL:stop=soon>", '"soon" is no step'),
        ("<lora:cat:1:step=5>", "write it as step=5-10"),
        ("cat <lora:cat:1:lbwe=ATTNON>", "at character 5: unknown argument"),
    ],
)
def test_bad_tags_are_named(source, word) -> None:
    with pytest.raises(PromptError, match=word):
        parse_prompt(source)


def test_all_bad_tags_are_named_at_once() -> None:
    with pytest.raises(PromptError) as caught:
        parse_prompt("<lora:a:x> fine <lora:b:y> <what:c>")
    assert len(caught.value.problems) == 3


SCENE = "fantasy landscape with"
COMPLEX = (
    "fantasy landscape with a [mountain:lake:0.25] and [an oak:a christmas tree:0.75]"
    "[ in foreground::0.6][ in background:0.25] [shoddy:masterful:0.5]"
)


@pytest.mark.parametrize(
    ("source", "steps", "expected"),
    [
        # "a [fantasy:cyberpunk:16] landscape" of the wiki.
        (
            "a [fantasy:cyberpunk:16] landscape",
            30,
            [(16, "a fantasy landscape"), (14, "a cyberpunk landscape")],
        ),
        # Its more complex example, of 100 steps.
        (
            COMPLEX,
            100,
            [
                (25, f"{SCENE} a mountain and an oak in foreground shoddy"),
                (25, f"{SCENE} a lake and an oak in foreground in background shoddy"),
                (10, f"{SCENE} a lake and an oak in foreground in background masterful"),
                (15, f"{SCENE} a lake and an oak in background masterful"),
                (25, f"{SCENE} a lake and a christmas tree in background masterful"),
            ],
        ),
        # Its alternating words.
        (
            "[cow|horse] in a field",
            4,
            [(1, "cow in a field"), (1, "horse in a field")] * 2,
        ),
        ("[a|b|c|d]", 5, [(1, "a"), (1, "b"), (1, "c"), (1, "d"), (1, "a")]),
        ("[a||b]", 3, [(1, "a"), (1, ""), (1, "b")]),
        # Nested; weights inside; white space; escapes.
        ("[a:[b:c:0.75]:0.5]", 8, [(4, "a"), (2, "b"), (2, "c")]),
        ("[[a|b]:c:2]", 4, [(1, "a"), (1, "b"), (2, "c")]),
        ("[(a:1.2):b: 2 ]", 4, [(2, "a"), (2, "b")]),
        (r"[a\:b\]:c:2]", 3, [(2, "a:b]"), (1, "c")]),
        ("[(a:b:2]", 3, [(2, "a"), (1, "b")]),
        ("[a:b:0]", 2, [(2, "b")]),
        ("[a:b:99]", 2, [(2, "a")]),
        ("[a:b:0.0]", 2, [(2, "b")]),
        ("[a:b:1.0]", 2, [(2, "a")]),
        ("[a:b:.5]", 2, [(1, "a"), (1, "b")]),
        # Not editing, so brackets that weigh.
        ("[a:b:c]", 2, [(2, "a:b:c")]),
        ("[a:b:-1]", 2, [(2, "a:b:-1")]),
        ("[a:b:c:1]", 2, [(2, "a:b:c:1")]),
        ("[a]:b:0.5]", 2, [(2, "a:b:0.5]")]),
    ],
)  # fmt: skip
def test_editing_and_alternation(source, steps, expected) -> None:
    assert spans(source, steps) == expected


@pytest.mark.parametrize(
    ("source", "first", "second"),
    [
        ("[red:green:0.25]", [(5, "red"), (15, "green")], [(8, "green")]),
        ("[red:green:1.25]", [(20, "red")], [(2, "red"), (6, "green")]),
        ("[red:green:5]", [(5, "red"), (15, "green")], [(8, "green")]),
        ("[red:green:25]", [(20, "red")], [(5, "red"), (3, "green")]),
    ],
)
def test_two_passes(source, first, second) -> None:
    """The table of "Seed breaking changes": 20 steps, and 8 of a second pass."""
    assert spans(source, 20) == first
    assert spans(source, 8, before=20) == second


def test_weights_reach_into_what_changes() -> None:
    (part,) = parse_prompt("(a [b:(c:2):0.5]:1.5)").parts
    now, later = (part.sections(step, 2)[0] for step in (0, 1))
    assert [(f.text, f.weight) for f in now] == [("a b", 1.5)]
    assert [(f.text, f.weight) for f in later] == [("a ", 1.5), ("c", 3.0)]


def test_a_number_in_square_brackets_is_remarked_upon() -> None:
    assert "round brackets" in parse_prompt("a [word:1.2]").notes[0]
    assert parse_prompt("a [word:0.5] [a:b:16]").notes == ()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        # The wiki's examples.
        ("a cat AND a dog", [("a cat ", 1.0), (" a dog", 1.0)]),
        (
            "a cat :1.2 AND a dog AND a penguin :2.2",
            [("a cat ", 1.2), (" a dog ", 1.0), (" a penguin ", 2.2)],
        ),
        ("a AND b :-0.5", [("a ", 1.0), (" b ", -0.5)]),
        ("a BAND (b:1.2) AND c", [("a BAND b ", 1.0), (" c", 1.0)]),
        ("a cat :1.2", [("a cat :1.2", 1.0)]),
    ],
)
def test_and_composes(source, expected) -> None:
    parts = parse_prompt(source).parts
    assert [("".join(f.text for f in p.sections()[0]), p.weight) for p in parts] == expected


def test_in_a_negative_prompt_and_is_a_word() -> None:
    (part,) = parse_prompt("a AND b :2", negative=True).parts
    assert part.sections()[0][0].text == "a AND b :2"


def test_too_deep_is_said() -> None:
    deep = "[a:" * (MAX_DEPTH + 1) + "b" + ":1]" * (MAX_DEPTH + 1)
    with pytest.raises(PromptError, match="deep"):
        parse_prompt(deep)
    parse_prompt("[" * 5000 + "a" + "]" * 5000)


PIECES = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        [*"()[]:\\<>|,", "BREAK", " AND ", ":1.2)", ":0.5]", ":3]", "<lora:", "a:0.5>", "lbw=",
         "step=", " ", ":.)", "٣)", "[a:", "[b|"]
    ),
)  # fmt: skip
PROMPTS = st.lists(PIECES, max_size=25).map("".join)


@settings(max_examples=300, deadline=None)
@given(PROMPTS)
@example("((" * 4000 + "a" + ":99999)" * 4000)
@example("\\")
@example("<lora:::::>")
@example("[:::1]" * 100)
def test_no_string_crashes_it(source) -> None:
    try:
        prompt = parse_prompt(source)
    except PromptError:
        return
    for part in prompt.parts:
        for step in range(3):
            sections = part.sections(step, 3)
            assert sections
            assert all(f.text for section in sections for f in section)


@pytest.mark.slow
def test_100000_strings_in_a_few_seconds() -> None:
    rng = random.Random(0)
    pieces = ["a", "cat", " ", ",", *"()[]:|\\<>", ":1.2)", ":0.5]", "BREAK", "AND", "<lora:a:1>"]
    began, refused = time.process_time(), 0
    for _ in range(100_000):
        try:
            parse_prompt("".join(rng.choices(pieces, k=rng.randrange(12)))).parts[0].sections(1, 2)
        except PromptError:
            refused += 1
    assert refused < 10_000
    assert time.process_time() - began < 15.0  # 3 on an idle machine


@settings(max_examples=300, deadline=None)
@given(PROMPTS)
@example("a:2 :1 AND b")
@example("<lora:x:1:0.5:lbw=OUTX:x=0.3:step=1-0.5> [a::3]AND[:b:2]:.5")
def test_what_is_written_back_reads_the_same(source) -> None:
    try:
        prompt = parse_prompt(source)
    except PromptError:
        return
    for part in prompt.parts:
        assert parse_nodes(format_nodes(part.nodes)) == part.nodes
    if not prompt.loras and len(prompt.parts) == 1 and "[:" not in source:
        written = format_nodes(prompt.parts[0].nodes)
        assert written.replace(" ", "") == source.replace(" ", "")


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(blacklist_characters="\\()[]<>"), max_size=40))
def test_text_without_brackets_comes_through_whole(source) -> None:
    sections = sections_of(source) if "AND" not in source else ()
    if sections and "BREAK" not in source:
        assert "".join(f.text for f in sections[0]) == source
        assert all(f.weight == 1.0 for f in sections[0])


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("ab ()[]\\:1.,"), max_size=30))
def test_escaped_text_comes_through_whole(source) -> None:
    escaped = source.translate({ord(c): f"\\{c}" for c in "\\()[]"})
    assert "".join(f.text for f in sections_of(escaped)[0]) == source


def test_when() -> None:
    assert StepMark.parse("0.5").steps(25) == 12
    assert StepMark.parse("1e3") is None
    assert StepRange(None, StepMark("0")).holds(0, 5) is False
