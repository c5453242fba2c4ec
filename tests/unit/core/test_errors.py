from __future__ import annotations

import pytest

from lorasmith.core.errors import quantity


@pytest.mark.parametrize(
    ("arguments", "text"),
    [((1, "sample"), "1 sample"), ((0, "sample"), "0 samples"), ((2, "batch"), "2 batches"),
     ((2, "epoch"), "2 epochs"), ((3, "copy"), "3 copies"), ((2, "day"), "2 days"),
     ((1, "image", "is"), "1 image is"), ((4, "image", "is"), "4 images are"),
     ((2, "training caption", "has"), "2 training captions have")],
)  # fmt: skip
def test_counts_in_words(arguments: tuple[int, str], text: str) -> None:
    assert quantity(*arguments) == text
