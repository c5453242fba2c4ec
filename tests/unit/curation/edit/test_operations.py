"""What each operation makes of a caption."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorasmith.core.errors import DatasetError
from lorasmith.curation.edit.operations import OPERATIONS, edit_line, read_operations
from lorasmith.curation.edit.tag_edits import CaptionContext

CONTEXT = CaptionContext("zorp girl", {"smile": 3, "hat": 2, "solo": 9})


def edited(text: str, *operations: str) -> str:
    return edit_line(text, read_operations(operations), CONTEXT)


CASES = [
    # add
    ("a, b", ["add=c"], "a, b, c"),
    ("a, b", ["add=c", "at=front"], "c, a, b"),
    ("a, b", ["add=c, d", "at=front"], "c, d, a, b"),
    ("a, b", ["add=b"], "a, b"),
    ("a, b, c", ["add=x", "at=2"], "a, x, b, c"),
    ("a, b, c", ["add=x", "at=-1"], "a, b, c, x"),
    ("a, b, c", ["add=x", "at=-2"], "a, b, x, c"),
    ("a", ["add=x", "at=9"], "a, x"),
    ("a, b", ["add=x", "at=after=a"], "a, x, b"),
    ("a, b", ["add=x", "at=after=z"], "a, b, x"),
    ("a, b", ["trigger=zorp", "add=x", "at=after-trigger"], "zorp, x, a, b"),
    ("a", ["at=front", "add=x", "add=y"], "y, x, a"),
    ("a", ["add=x", "add=y", "at=front"], "y, a, x"),
    ("", ["add=c"], "c"),
    # trigger and folder
    ("a, zorp, b", ["trigger=zorp"], "zorp, a, b"),
    ("zorp, a, zorp", ["trigger=zorp"], "zorp, a"),
    ("armor, a, zorp", ["trigger=zorp, armor"], "zorp, armor, a"),
    ("a", ["folder-name"], "zorp girl, a"),
    # remove
    ("hat, red hat, b", ["remove=hat"], "red hat, b"),
    ("hat, red hat, b", ["remove=*hat"], "b"),
    ("hat, red hat, b", ["remove=hat, b"], "red hat"),
    (r"*, a, ab", [r"remove=\*"], "a, ab"),
    ("?, a, ab", ["remove=?"], "ab"),
    ("a, b, c", ["remove-at=1"], "b, c"),
    ("a, b, c", ["remove-at=-1"], "a, b"),
    ("a, b", ["remove-at=5"], "a, b"),
    # replace
    ("hat, red hat", ["replace=hat=cap"], "cap, red hat"),
    ("hat, cap", ["replace=hat=cap"], "cap"),
    ("hat, b", ["replace=hat=cap, bow"], "cap, bow, b"),
    ("hat, b", ["replace=hat="], "b"),
    ("=_=, b", [r"replace=\=_\==happy"], "happy, b"),
    ("red hat, hat", [r"replace=re:^(\w+) hat$=\1 cap"], "red cap, hat"),
    ("red hat, blue hat", ["replace=re:.* hat=cap"], "cap"),
    ("a hat, hats", ["replace-text=hat=cap"], "a cap, caps"),
    ("a; b", ["replace-text=; =, ", "remove=a"], "b"),
    ("red_hat, (Red hat:1.2), red hats", ["rename-tag=red hat=cap"], "cap, (cap:1.2), red hats"),
    (r"fate \(x\)", ["rename-tag=fate (x)=fate (y)"], r"fate \(y\)"),
    ("red_hat", ["rename-tag=red hat=blue cap"], "blue_cap"),
    # order
    ("a, b, c", ["swap=1 3"], "c, b, a"),
    ("a, b, c", ["swap=1 -2"], "b, a, c"),
    ("a, b", ["swap=1 3"], "a, b"),
    ("a, b, c", ["rotate"], "b, c, a"),
    ("a", ["rotate"], "a"),
    ("b, C, a", ["sort=alphabetic"], "a, b, C"),
    ("hat, new, solo, smile", ["sort=count"], "solo, smile, hat, new"),
    ("a, zorp, b", ["sort=trigger=zorp"], "zorp, a, b"),
    ("a, b", ["sort=trigger=zorp"], "a, b"),
    # repeats
    ("hat, Hat, red_hat, red hat", ["dedupe"], "hat, red_hat"),
    ("boots, red footwear, red boots", ["consolidate"], "red boots"),
    ("shirt, white shirt, skirt", ["consolidate"], "white shirt, skirt"),
    ("long hair, very long hair", ["consolidate"], "very long hair"),
    ("cat, cat ears", ["consolidate"], "cat, cat ears"),
    ("breasts, large breasts, tail, cat tail", ["consolidate"], "large breasts, cat tail"),
    ("dress, dress shirt, shirt", ["consolidate"], "dress, dress shirt"),
    ("holding, holding weapon, holding sword", ["consolidate"], "holding sword"),
    ("mole, mole under eye", ["consolidate"], "mole under eye"),
    ("from behind, hug from behind", ["consolidate"], "from behind, hug from behind"),
    ("panties, no panties", ["consolidate"], "panties, no panties"),
    ("blue dress, blue frilled dress", ["consolidate"], "blue frilled dress"),
    (
        "long hair, short hair, short hair with long locks",
        ["consolidate"],
        "long hair, short hair with long locks",
    ),
    ("sitting, sitting on lap", ["consolidate"], "sitting on lap"),
    ("black jacket, black hoodie", ["consolidate"], "black hoodie"),
    ("red boots, blue footwear", ["consolidate"], "red boots, blue footwear"),
    ("a b, b a", ["consolidate"], "a b, b a"),
    # lists
    ("highres, hat, translation_request, smile", ["prune=meta"], "hat, smile"),
    ("masterpiece, best quality, hat", ["prune=quality"], "hat"),
    ("red hair, hat, blue eyes, long hair, red dress", ["prune=colours"], None),
    ("long hair, blue_eyes, hat, (dark skin:1.1)", ["traits=hair,eyes,body"], "hat"),
    ("long hair, blue eyes, hat", ["traits=eyes"], "long hair, hat"),
    # spelling
    ("red hat, ^_^", ["underscores"], "red_hat, ^_^"),
    ("red_hat, ^_^, >_<, 0_0, o_o", ["spaces"], "red hat, ^_^, >_<, 0_0, o_o"),
    ("fate (x), (hat:1.2)", ["escape"], r"fate \(x\), (hat:1.2)"),
    (r"fate \(x\)", ["escape"], r"fate \(x\)"),
    (r"fate \(x\), [y\]", ["unescape"], "fate (x), [y]"),
    ("Red Hat, :D", ["case=lower"], "red hat, :D"),
    ("red hat", ["case=title"], "Red Hat"),
    (" a,,b ,  c d ,", ["format"], "a, b, c d"),
    ("a  b", ["format"], "a b"),
]


@pytest.mark.parametrize(("text", "operations", "expected"), CASES)
def test_an_operation(text: str, operations: list[str], expected: str | None) -> None:
    if expected is None:
        expected = "hat, long hair, red dress"
    assert edited(text, *operations) == expected


def test_operations_are_done_in_order() -> None:
    assert edited("a", "replace=a=b", "replace=b=c") == "c"
    assert edited("a", "replace=b=c", "replace=a=b") == "b"
    assert edited("c, b, a", "sort=alphabetic", "trigger=c") == "c, a, b"


TAGS = st.sampled_from(
    [
        *("hat", "red hat", "Red_Hat", "boots", "red boots", "zorp", "blue eyes", "highres", "^_^"),
        *("fate (x)", r"fate \(x\)", "(hat:1.2)", "zorp girl", "a_b", "cat", "cat ears"),
    ]
)
CAPTIONS = st.lists(TAGS, max_size=8).map(", ".join) | st.text(
    st.sampled_from("ab, _()\\"), max_size=20
)
REPEATABLE = [
    *("add=hat", "trigger=zorp", "folder-name", "remove=red*", "dedupe", "consolidate"),
    *("prune=meta,quality,colours", "traits=hair,eyes,body", "underscores", "spaces", "escape"),
    *("case=lower", "case=upper", "format", "sort=alphabetic", "sort=count", "sort=trigger=hat"),
    *("replace=hat=cap", "rename-tag=hat=cap"),
]


@pytest.mark.parametrize("operation", REPEATABLE)
@given(text=CAPTIONS)
def test_doing_it_again_changes_nothing(operation: str, text: str) -> None:
    once = edited(text, operation)
    assert edited(once, operation) == once


@given(CAPTIONS)
def test_sorting_moves_tags_alone(text: str) -> None:
    line = edited(text, "sort=alphabetic")
    assert sorted(line) == sorted(text)


@pytest.mark.parametrize(
    ("operations", "where", "text"),
    [
        (["addd=x"], "operations", "add"),
        (["add="], "--add", "needs a value"),
        (["dedupe=x"], "--dedupe", "takes no value"),
        (["swap=1"], "--swap", "two positions"),
        (["remove-at=0"], "--remove-at", "not a position"),
        (["replace=abc"], "--replace", "A=B"),
        (["replace=re:(=x"], "--replace", "regular expression"),
        ([r"replace=re:a=\2"], "--replace", "regular expression"),
        (["rename-tag=a=b, c"], "--rename-tag", "not one tag"),
        (["sort=size"], "--sort", "not known"),
        (["sort=trigger"], "--sort", "trigger is not known"),
        (["sort=list=/nowhere/list.txt"], "list.txt", "cannot be read"),
        (["at=front"], "--at", "no --add"),
        (["add=x", "at=middle"], "--at", "no place"),
        (["add=x", "at=after-trigger"], "--at", "trigger is not known"),
        (["prune=colors"], "colors", "colours"),
        (["case=camel"], "--case", "not known"),
        (["add=a\nb"], "--add", "line break"),
        (["add=\udcff"], "--add", "UTF-8"),
    ],
)
def test_mistakes(operations: list[str], where: str, text: str) -> None:
    with pytest.raises(DatasetError) as info:
        read_operations(operations)
    (problem,) = info.value.problems
    assert where in problem.where
    assert text in f"{problem.what} {problem.hint}"


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(DatasetError) as info:
        read_operations(["swap=1", "sort=size", "case=camel"])
    assert len(info.value.problems) == 3


def test_a_pattern_that_never_ends_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lorasmith.curation.edit.tag_edits._PATTERN_SECONDS", 0.05)
    operations = read_operations(["replace=re:^(a|aa)+$=x"])
    with pytest.raises(DatasetError, match="too long"):
        edit_line("a" * 60 + "b", operations, CONTEXT)


def test_every_operation_has_a_case() -> None:
    shown = {text.partition("=")[0] for _, operations, _ in CASES for text in operations}
    assert shown == set(OPERATIONS) - {"join-lines"}
