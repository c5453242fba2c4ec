from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lorasmith.curation.tagger.choose import OFF, TagChooser, TagRules
from lorasmith.curation.tagger.labels import WD14_FILE, Labels
from lorasmith.curation.tagger.scores import ImageScores

ROWS = {
    "general": ("rating", 0.7),
    "sensitive": ("rating", 0.2),
    "1girl": ("general", 0.99),
    "long_hair": ("general", 0.8),
    "^_^": ("general", 0.6),
    "smile": ("general", 0.35),
    "hat": ("general", 0.3499),
    "hatsune_miku": ("character", 0.9),
    "kagamine_rin": ("character", 0.84),
    "vocaloid": ("copyright", 0.95),
    "highres": ("meta", 1.0),
}
LABELS = Labels(tuple(ROWS), tuple(kind for kind, _ in ROWS.values()), Path("x"), WD14_FILE)
SCORES = ImageScores.of(np.array([score for _, score in ROWS.values()], np.float32))


def tags(**rules: object) -> list[str]:
    return TagChooser(LABELS, TagRules(**rules))(SCORES)


def thresholds(**limits: float) -> dict[str, dict[str, float]]:
    return {"thresholds": limits}


def test_the_usual_thresholds() -> None:
    """The threshold itself is enough, though 0.35 is no float32."""
    assert tags() == ["1girl", "long hair", "^_^", "smile", "hatsune miku", "vocaloid"]


def test_a_threshold_above_one_switches_a_category_off() -> None:
    assert tags(**thresholds(general=OFF, copyright=OFF)) == ["hatsune miku"]
    assert "highres" in tags(**thresholds(meta=1.0))


def test_of_ratings_there_is_one() -> None:
    assert tags(**thresholds(rating=0.1))[-1] == "general"
    assert "sensitive" not in tags(**thresholds(rating=0.1))
    assert "general" not in tags(**thresholds(rating=0.71))


def test_all_by_score() -> None:
    assert tags(order="score")[:4] == ["1girl", "vocaloid", "hatsune miku", "long hair"]


def test_underscores_may_stay_and_faces_keep_theirs() -> None:
    assert tags(underscores=True)[:3] == ["1girl", "long_hair", "^_^"]
    assert "^_^" in tags()


@pytest.mark.parametrize("pattern", ["long hair", "long_hair", "LONG HAIR", "long*"])
def test_excluded_in_any_spelling(pattern: str) -> None:
    assert "long hair" not in tags(exclude=(pattern,))
    assert "1girl" in tags(exclude=(pattern,))


def test_replaced_alone_and_each_once() -> None:
    """sd-scripts' `--tag_replacement` changes nothing with these models, all with others."""
    assert tags(replace={"long_hair": "very long hair"}) == [
        *("1girl", "very long hair", "^_^", "smile", "hatsune miku", "vocaloid")
    ]
    assert tags(replace={"smile": "^_^", "vocaloid": "1girl"}) == [
        *("1girl", "long hair", "^_^", "hatsune miku")
    ]


def test_the_first_ones_in_their_order_where_found() -> None:
    """sd-scripts' `--always_first_tags` comes out reversed."""
    assert tags(first=("vocaloid", "hat", "hatsune_miku", "solo"))[:3] == [
        *("vocaloid", "hatsune miku", "1girl")
    ]


def test_nothing_from_nothing() -> None:
    assert TagChooser(LABELS, TagRules())(ImageScores.of(np.zeros(len(ROWS), np.float32))) == []
