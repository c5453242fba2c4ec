"""The demo's image: what stands over a column is what the column shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from lorasmith.core.files import write_json
from lorasmith.data.images import load_image
from lorasmith.demo import showcase
from lorasmith.demo.character import TRIGGER, write_training_set
from lorasmith.sampling.contact_sheet import contact_sheet


def test_no_two_columns_are_alike() -> None:
    prompts = showcase.demo_prompts()
    assert len(set(prompts)) == len(prompts) == 8
    assert sum(TRIGGER in prompt for prompt in prompts) == 6


def test_training_images_stand_under_their_captions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sheets: list[tuple[list[list[Image.Image]], list[str], list[str]]] = []

    def recorded(
        rows: list[list[Image.Image]],
        *,
        row_labels: list[str],
        column_labels: list[str],
        scale: int,
    ) -> Image.Image:
        sheets.append((rows, row_labels, column_labels))
        return contact_sheet(rows, row_labels=row_labels, column_labels=column_labels, scale=scale)

    monkeypatch.setattr(showcase, "contact_sheet", recorded)
    write_training_set(tmp_path / "data", images=9, regularisation=1)
    prompts: Sequence[str] = showcase.demo_prompts()
    write_json(tmp_path / "dataset.json", {"steps": {"steps_per_epoch": 5}})
    (tmp_path / "samples").mkdir()
    for step in (0, 3, 5):
        for number in range(len(prompts)):
            image = Image.new("RGB", (64, 64), (step, number, 0))
            image.save(tmp_path / "samples" / f"{step:08d}-{number:02d}.png")
    sheet = showcase.compose(tmp_path, tmp_path / "data", prompts)
    (training, _, captions), (drawn, labels, above) = sheets
    assert above == prompts
    assert labels[:3] == ["base model, no LoRA", "step 3", "epoch 1"]
    assert [len(row) for row in drawn] == [8, 8, 8]
    assert len(training[0]) == len(captions) == 8
    by_pixels = {
        load_image(path).tobytes(): path.with_suffix(".txt").read_text(encoding="utf-8").strip()
        for path in (tmp_path / "data" / "img").rglob("*.png")
    }
    assert [by_pixels[image.tobytes()] for image in training[0]] == captions
    assert sheet.height > 3 * 128
