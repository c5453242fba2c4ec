"""sd-scripts reads what `dataset export` makes: repeats, captions, sizes, masks of both kinds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lorasmith.jobs.dataset.export import ExportRequest
from lorasmith.jobs.request import run
from tests.peers.sd_scripts import PEERS, ask

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (PEERS / "sd-scripts").is_dir(), reason="no checkout of sd-scripts"),
]


def test_sd_scripts_reads_an_exported_set(tmp_path: Path) -> None:
    source = tmp_path / "set" / "10_zorp"
    source.mkdir(parents=True)
    for name, size in (("a", (96, 64)), ("b", (64, 120))):
        Image.new("RGB", size, "teal").save(source / f"{name}.png")
        mask = Image.linear_gradient("L").resize(size)
        mask.save(source / f"{name}-masklabel.png")
        (source / f"{name}.txt").write_text(f"zorp, {name}")
    (source / "a.crop.json").write_text('{"box": [16, 0, 80, 64], "size": [96, 64]}')
    for folder, masks in (("out", None), ("alpha", "alpha")):
        options = {"folders": [tmp_path / "set"], "into": tmp_path / folder, "masks": masks}
        run(ExportRequest.model_validate(options))
    images, mask_folder = (tmp_path / "out" / part / "10_zorp" for part in ("img", "mask"))
    with_alpha = tmp_path / "alpha" / "img" / "10_zorp" / "a.png"
    question = {
        "folder": str(images.parent), "masked": str(images), "masks": str(mask_folder),
        "alpha": [str(with_alpha)],
    }  # fmt: skip
    (answer,) = ask(tmp_path, {"folder_images": [question]})["folder_images"]
    assert answer["images"] == {
        str(images / "a.png"): [10, "zorp, a", [64, 64]],
        str(images / "b.png"): [10, "zorp, b", [64, 120]],
    }
    assert answer["masks"] == {
        str(images / name): str(mask_folder / name) for name in ("a.png", "b.png")
    }
    with Image.open(mask_folder / "a.png") as mask:
        np.testing.assert_array_equal(np.asarray(mask), answer["alpha"][str(with_alpha)])
