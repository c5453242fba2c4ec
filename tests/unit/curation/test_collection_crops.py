from __future__ import annotations

from pathlib import Path

from PIL import Image

from lorasmith.curation.collection import open_collection


def test_recorded_crops_belong_to_their_images(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "b.png"):
        Image.new("RGB", (64, 48)).save(tmp_path / name)
    for name in ("a.crop.json", "a.jpg.crop.json", "c.crop.json"):
        (tmp_path / name).write_text('{"box": [0, 0, 32, 32], "size": [64, 48]}')
    images = open_collection(tmp_path).images
    names = {image.path.name: [path.name for path in image.companions] for image in images}
    assert names == {"a.jpg": ["a.jpg.crop.json"], "a.png": ["a.crop.json"], "b.png": []}
