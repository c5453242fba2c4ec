"""Real runs: a recorded crop trains as the cropped file does, and so does what export makes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image
from tests.recipes.runs import command, losses, run_here, small_dataset

from lorasmith.jobs.dataset.export import ExportRequest
from lorasmith.jobs.dataset.images import CropRequest
from lorasmith.jobs.request import run

AUGMENTED = {
    "train__steps": "4", "augment__flip": "true", "augment__random_crop": "true",
    "augment__zoom": "1.2", "augment__variants": "3", "loss__masked": "beside",
    "data__resolution": "64",
}  # fmt: skip


@pytest.mark.slow
def test_recorded_cropped_and_exported_sets_give_the_same_losses(tmp_path: Path) -> None:
    recorded = small_dataset(tmp_path / "recorded", images=3)
    shutil.rmtree(recorded / "reg")
    for path in recorded.rglob("*.png"):
        with Image.open(path) as image:
            large = image.resize((160, 128), Image.Resampling.BICUBIC)
        large.save(path)
        mask = Image.linear_gradient("L").resize((160, 128))
        mask.save(path.with_name(f"{path.stem}-masklabel.png"))
    whole = tmp_path / "whole"
    shutil.copytree(recorded, whole)
    cropped = tmp_path / "cropped"
    shutil.copytree(recorded, cropped)
    for folder, record in ((recorded, True), (cropped, False)):
        options = {"folders": [folder], "focus": "0.3,0.4", "record": record}
        run(CropRequest.model_validate(options))
    exported = tmp_path / "exported"
    run(
        ExportRequest.model_validate(
            {"folders": [recorded], "into": exported, "layout": "onetrainer"}
        )
    )
    results = {}
    for folder in (whole, recorded, cropped, exported):
        run_here(command(folder, tmp_path / "out", folder.name, **AUGMENTED))
        results[folder.name] = losses(tmp_path / "out" / folder.name)
    assert len(results["recorded"]) == 4
    assert results["recorded"] == results["cropped"] == results["exported"]
    assert results["recorded"] != results["whole"]
