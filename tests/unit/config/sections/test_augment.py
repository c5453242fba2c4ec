from __future__ import annotations

from pathlib import Path

import pytest

from lorasmith.config.load import dump_toml, load_settings
from lorasmith.core.errors import SettingsError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2.0,4.0", (2.0, 4.0)),
        ('"2.0, 4.0"', (2.0, 4.0)),
        ("[1, 3]", (1.0, 3.0)),
        ("2.5", (2.5, 2.5)),
        ("none", None),
    ],
)
def test_ranges_as_people_write_them(
    text: str, expected: tuple[float, float] | None, tmp_path: Path
) -> None:
    settings = load_settings(None, [f"augment.face_crop={text}"])
    assert settings.augment.face_crop == expected
    (tmp_path / "run.toml").write_text(dump_toml(settings), encoding="utf-8")
    assert load_settings(tmp_path / "run.toml") == settings


@pytest.mark.parametrize("text", ["4,2", "0.5,2", "2,3,4", "face", "2,50", "[true, 2]", "[]"])
def test_ranges_that_are_none(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(None, [f"augment.face_crop={text}"])
    assert "augment.face_crop" in str(caught.value)
    assert "with a point" not in str(caught.value)  # These commas are between two numbers.


def test_variants_are_a_number_or_fresh() -> None:
    assert load_settings(None, ["augment.variants=Fresh"]).augment.variants == "fresh"
    assert load_settings(None, ["augment.variants=9"]).augment.variants == 9
    for text in ("1", "some", "2.5"):
        with pytest.raises(SettingsError):
            load_settings(None, [f"augment.variants={text}"])


@pytest.mark.parametrize(
    ("foreign", "ours"),
    [
        ("color_aug", "augment.colour"),
        ("crop_aug", "augment.slices"),
        ("face_crop_aug_range", "augment.face_crop"),
        ("token_warmup_step", "captions.tag_warmup_steps"),
    ],
)
def test_what_other_trainers_call_them(foreign: str, ours: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(None, [f"augment.{foreign}=1"])
    assert ours in str(caught.value)
