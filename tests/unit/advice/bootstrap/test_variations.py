"""What drawings are asked for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from lorasmith.advice.bootstrap.variations import (
    GENERAL,
    choose_variations,
    kinds_named,
    words_by_kind,
)
from lorasmith.config.load import load_settings
from lorasmith.core.errors import UserError
from lorasmith.demo.world import VALUES
from lorasmith.prompts.wildcards import Wildcards
from lorasmith.training.setup.base_defaults import suit
from lorasmith.training.setup.base_model import open_base


def demo_prompts() -> list[str]:
    settings = load_settings()
    return list(suit(settings, open_base(settings)).settings.preservation.prompts)


def test_the_demo_base_says_which_words_are_of_a_kind() -> None:
    words = words_by_kind(demo_prompts())
    for attribute, tag in (("eyes", "one eye"), ("mouth", "smile"), ("background", "grass field")):
        assert {tag, *words[tag]} == set(VALUES[attribute])
    assert set(words["holding sword"]) == {"holding flower", "holding balloon"}


def test_what_captions_name_varies_and_nothing_else() -> None:
    kinds = kinds_named(["zorp, one eye, forest"], "zorp", demo_prompts())
    (eyes,) = kinds
    assert set(eyes) == set(VALUES["eyes"])
    both = kinds_named(["zorp, one eye", "zorp, angry eyes"], "zorp", demo_prompts())
    assert len(both) == 1, "two words of one kind are one kind"
    assert kinds_named(["zorp"], "zorp", demo_prompts()) == ()


def test_every_word_comes_as_often_as_the_others() -> None:
    variations = choose_variations("zorp", ["zorp"])
    assert variations.kinds == GENERAL
    captions = variations.captions(16, seed=1)
    assert len(set(captions)) > 13
    assert all(caption.startswith("zorp, ") for caption in captions)
    counts = Counter(word for caption in captions for word in caption.split(", "))
    assert {counts[view] for view in GENERAL[0]} == {2}
    assert captions == variations.captions(16, seed=1)
    assert captions != variations.captions(16, seed=2)


def test_prompts_of_a_file_and_their_wildcards(tmp_path: Path) -> None:
    file, cards = tmp_path / "prompts.txt", tmp_path / "cards"
    file.write_text("# mine\n\nsitting, __place__\nzorp {asleep|awake}\n", encoding="utf-8")
    cards.mkdir()
    (cards / "place.txt").write_text("beach\n", encoding="utf-8")
    wildcards = Wildcards(cards)
    variations = choose_variations("zorp", [], file=file, wildcards=wildcards)
    captions = variations.captions(4, 0, wildcards)
    assert sorted(captions)[2:] == ["zorp, sitting, beach"] * 2, "the trigger is put in front"
    assert set(captions) - {"zorp, sitting, beach"} <= {"zorp asleep", "zorp awake"}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (None, "cannot be read as text"),
        (b"\xff\xfe\xff", "cannot be read as text"),
        (b"# nothing\n", "holds no prompt"),
        (b"__nowhere__\n", "nowhere"),
    ],
)
def test_files_of_prompts_that_will_not_do(tmp_path: Path, text: bytes | None, what: str) -> None:
    file = tmp_path / "prompts.txt"
    if text is not None:
        file.write_bytes(text)
    (tmp_path / "cards").mkdir()
    with pytest.raises(UserError, match=what):
        choose_variations("zorp", [], file=file, wildcards=Wildcards(tmp_path / "cards"))
