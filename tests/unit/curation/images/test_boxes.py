from __future__ import annotations

import json
from pathlib import Path

import pytest

from lorasmith.core.errors import DatasetError
from lorasmith.curation.images.boxes import find_box, parse_box
from lorasmith.data.recorded_crops import Box

SIZE = (200, 100)


@pytest.mark.parametrize(
    ("value", "box"),
    [
        ({"box": [10, 20, 60, 80]}, (10, 20, 60, 80)),
        ({"box": [0.25, 0, 0.5, 1]}, (50, 0, 100, 100)),
        ({"bbox": [10, 20, 50, 60]}, (10, 20, 60, 80)),
        ({"box": [-5, 20, 400, 80.5]}, (0, 20, 200, 81)),
        (
            {"shapes": [{"points": [[30, 40], [10, 70]]}, {"points": [[90, 20], [80, 30]]}]},
            (10, 20, 90, 70),
        ),
        ({"shapes": []}, None),
        ({"tags": ["a"]}, None),
        ([], None),
    ],
)
def test_forms(value: object, box: Box | None) -> None:
    assert parse_box(json.dumps(value).encode(), SIZE) == box


@pytest.mark.parametrize(
    "text",
    ['{"box": [1, 2, 3]}', '{"box": [1, 2, "3", 4]}', '{"box": [300, 0, 400, 50]}', "{", "\xff",
     '{"box": [60, 20, 10, 80]}', f'{{"box": [0, 0, 1{"0" * 400}, 5]}}', '{"box": [0, NaN, 9, 9]}',
     '{"shapes": [{"points": [[1]]}]}'],
)  # fmt: skip
def test_what_gives_no_box(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_box(text.encode(), SIZE)


def test_places_and_their_order(tmp_path: Path) -> None:
    image = tmp_path / "a_0100_0050_0020_0040.png"
    assert find_box(image, SIZE) == (90, 30, 110, 70)
    image.with_suffix(".json").write_text('{"box": [1, 2, 30, 40]}')
    assert find_box(image, SIZE) == (1, 2, 30, 40)
    (tmp_path / f"{image.stem}.box.json").write_text('{"box": [5, 6, 70, 80]}')
    assert find_box(image, SIZE) == (5, 6, 70, 80)
    assert find_box(tmp_path / "b.png", SIZE) is None
    (tmp_path / "b.json").write_text("nonsense")
    with pytest.raises(DatasetError, match=r"b\.json"):
        find_box(tmp_path / "b.png", SIZE)
