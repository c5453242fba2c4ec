"""What captions tell of kind and difficulty."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorasmith.advice.advise.case import Concept, Pictures, form_of
from lorasmith.advice.advise.questions import is_male, propose_difficulty, propose_kind
from lorasmith.advice.advise.signs import plain, share, words_found


def pictures(*captions: str, times: int = 10, images: int = 0) -> Pictures:
    texts = tuple(plain(text) for text in captions) * times
    count = images or len(texts)
    concept = Concept(Path("zorp"), "zorp", count, 1, "zorp", form_of(texts))
    return Pictures((concept,), texts, form_of(texts), 20, ((512, 512),) * count, 0)


@pytest.mark.parametrize(
    ("captions", "letter"),
    [
        ("1girl, brown_hair, smile, school uniform", "A"),
        ("1girl, blue hair, smile", "B"),
        ("1girl, angel wings, smile", "C"),
        ("1girl, ponytail, no wings, smile", "A"),
        ("photo (medium), 1girl, smile", "D"),
        ("furry, fox girl, smile", "D"),
        ("1girl, chibi, smile", "A"),
        ("no humans, chibi, smile", "E"),
        ("no humans, dog, grass", "F"),
        ("1girl, dog, grass", "A"),
        ("a photograph of a dog in the grass", "H"),
        ("no humans, mecha, gundam, city", "G"),
        ("no humans, spider, cave", "H"),
        ("eldritch abomination, many eyes", "I"),
    ],
)
def test_the_hardest_sign_decides(captions: str, letter: str) -> None:
    assert propose_difficulty(pictures(captions), "character")[0] == letter


def test_what_few_captions_say_is_no_sign() -> None:
    some = pictures(*["1girl, smile"] * 7, *["1girl, wings"] * 3, times=1)
    assert propose_difficulty(some, "character")[0] == "A"
    mostly_silent = pictures("1girl, wings", times=1, images=20)
    letter, because = propose_difficulty(mostly_silent, "character")
    assert letter == "C"
    assert "no caption" in because


@pytest.mark.parametrize(
    ("captions", "kind"),
    [
        (["1girl, solo, red hair, smile", "1girl, solo, red hair, frown"], "character"),
        (["no humans, sword, table", "sword, stone"], "object"),
        (["no humans, dragon, sky", "dragon, cave"], "character"),
        (["1girl, red hair", "castle, hill", "dog, grass", "1boy, city"], "style"),
        (["1girl, red hair", "1girl, blue hair", "1boy, black hair"], "style"),
    ],
)
def test_captions_tell_the_kind(captions: list[str], kind: str) -> None:
    assert propose_kind(pictures(*captions, times=20))[0] == kind


def test_without_captions_it_is_a_character() -> None:
    assert propose_kind(pictures(images=5))[0] == "character"
    assert propose_difficulty(pictures(images=5), "character")[0] == "C"


def test_men_are_told_by_most_captions() -> None:
    assert is_male(pictures("1boy, suit", "1boy, hat", "1girl, hat"))
    assert not is_male(pictures("1boy, suit", "1girl, hat"))
    assert not is_male(pictures("1girl, woman"))


def test_signs_are_whole_words_that_are_not_denied() -> None:
    texts = [plain(text) for text in ("Long_Tail, ponytail", "no tail", "a fox without a tail")]
    assert texts == ["long tail, ponytail", "", "a fox"]
    assert share(texts, ("tail",)) == pytest.approx(1 / 3)
    assert words_found(["wings, tail", "tail"], ("tail", "wings")) == {"tail": 2, "wings": 1}
    assert share([], ("tail",)) == 0


@pytest.mark.parametrize(
    ("captions", "form"),
    [
        (["1girl, solo, red dress"], "tags"),
        (["a girl in a red dress walks along the street, smiling at the camera"], "sentences"),
        (["red dress"], "tags"),
        ([], "none"),
    ],
)
def test_forms_of_captions(captions: list[str], form: str) -> None:
    assert form_of(captions) == form
