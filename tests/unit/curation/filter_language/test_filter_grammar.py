"""Any text is a filter, or an error that shows the place."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from lorasmith.core.terminal import clean
from lorasmith.curation.filter_language.grammar import And, FilterError, Not, Or, TextTerm, parse
from lorasmith.curation.filter_language.words import FLAGS, KEYS, Value, written


def problem(text: str) -> tuple[str, str, str, str]:
    """What is wrong, the text as shown, its carets, the hint."""
    with pytest.raises(FilterError) as info:
        parse(text, "--where")
    (only,) = info.value.problems
    assert only.where == "--where"
    what, shown, carets = only.what.split("\n")
    return what, shown.strip(" "), carets.removeprefix(" " * 6), only.hint


@pytest.mark.parametrize(
    ("text", "what", "carets", "hint"),
    [
        ("tag:hat tga:x", 'there is no key "tga:"', "        ^^^^", "did you mean tag:?"),
        ("猫 tga:x", 'there is no key "tga:"', "   ^^^^", "did you mean tag:?"),
        ("http://x", 'there is no key "http:"', "^^^^^", 'write "http://x" in quotes'),
        ("untagged:", 'there is no key "untagged:"', "^^^^^^^^^", 'write "untagged" alone'),
        ("a (b", "this bracket is not closed", "  ^", 'write ")"'),
        ("a b)", "this bracket was not opened", "   ^", ""),
        (")", "this bracket was not opened", "^", ""),
        ("a () b", "nothing between these brackets", "  ^^", "in quotes"),
        ("a or", 'nothing after "or"', "  ^^", 'put it in quotes: "or"'),
        ("or a", 'nothing before "or"', "^^", 'put it in quotes: "or"'),
        ("(and a)", 'nothing before "and"', " ^^^", "in quotes"),
        ("a and or b", 'nothing after "and"', "  ^^^", "in quotes"),
        ("a -", 'nothing after "-"', "  ^", "in quotes"),
        ("NOT", 'nothing after "NOT"', "^^^", "in quotes"),
        ('tag:"hat', "this quote is not closed", "    ^", 'write " behind the text'),
        ('"a"b', "no space behind the quote", "   ^", "write one here"),
        ("tag: hat", 'nothing after "tag:"', "^^^^", "write it as in tag:hat"),
        ("tokens:>many", '">many" is not a number', "       ^^^^^", "tokens:>75"),
        ("tokens:>", '">" is not a number', "       ^", "tokens:>75"),
        ("tokens:5kb", 'no unit "kb"', "       ^^^", "it has no unit"),
        ("size:>5kb", 'no unit "kb"', "     ^^^^", "units are px, kp, mp"),
        ("size:<512x512", "a size is the same or not", "     ^^^^^^^^", "size:<1mp"),
        ("aspect:1:0", '"1:0" is not a number', "       ^^^", "aspect:>1.5"),
        ("width:" + "9" * 400, "is not a number", "      " + "^" * 64, "width:<512"),
        ("dup:exat", '"exat" is not known', "    ^^^^", "did you mean exact?"),
        ('re:"(a"', "this is not a pattern: missing )", "   ^^^^", "Python's re"),
        ("(" * 60 + "a" + ")" * 60, "more than 50 brackets", " " * 31 + "^", ""),
    ],
)
def test_mistakes_are_shown_in_their_place(text: str, what: str, carets: str, hint: str) -> None:
    message, shown, its_carets, its_hint = problem(text)
    assert what in message
    assert its_carets == carets
    assert hint in its_hint
    assert cell_len(shown) <= 72


def test_of_a_long_text_the_part_around_the_mistake_is_shown() -> None:
    _, shown, carets, _ = problem("hat " * 50 + "tga:x" + " dog" * 50)
    assert shown.startswith("…")
    assert shown.endswith("…")
    assert shown[carets.index("^") :].startswith("tga:")


def bare(text: str) -> TextTerm:
    return TextTerm("", Value(text, frozenset(), text))


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("", And(())),
        (" \n\t\u3000", And(())),
        (":d", bare(":d")),
        ("red-hat", bare("red-hat")),
        ("don't", bare("don't")),
        ("a_(b)", bare("a_(b)")),
        ("(a_(b))", bare("a_(b)")),
        ('"or"', bare("or")),
        ("a --b", And((bare("a"), bare("b")))),
        ("a or b c", Or((bare("a"), And((bare("b"), bare("c")))))),
        ("not a or b", Or((Not(bare("a")), bare("b")))),
        ("not (a)(b)", And((Not(bare("a")), bare("b")))),
    ],
)
def test_trees(text: str, tree: object) -> None:
    assert parse(text) == tree


@given(st.text(min_size=1))
def test_what_is_written_as_a_value_is_read_as_itself(text: str) -> None:
    tree = parse(f"tag:{written(text)}")
    assert isinstance(tree, TextTerm)
    assert (tree.value.text, tree.value.wild) == (text, frozenset())


PIECES = st.sampled_from(
    [*(f"{key}:" for key in KEYS), *FLAGS, "(", ")", "-", "not ", " or ", " and ", '"', "'", "\\",
     "*", "?", "<", ">=", "!=", "1.5", "16:9", "512x512", "kb", "mp", " ", "a", "[", "{9}", "+",
     "\n", "\0", "\u202e", "é", "猫"],
)  # fmt: skip


def mistake_in(text: str) -> FilterError | None:
    try:
        parse(text)
    except FilterError as error:
        return error
    return None


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(), st.lists(PIECES, max_size=12).map("".join)))
def test_any_text_is_a_filter_or_a_mistake_with_its_place(text: str) -> None:
    error = mistake_in(text)
    if error is not None:
        assert 0 <= error.start < error.end <= len(text)
        what, shown, carets = error.problems[0].what.split("\n")
        assert what
        assert "^" in carets
        assert cell_len(carets) <= cell_len(clean(shown)) <= 80
