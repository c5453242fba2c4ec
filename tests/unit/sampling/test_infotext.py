from __future__ import annotations

import pytest
from PIL import Image

from lorasmith.prompts.infotext import Infotext
from lorasmith.sampling.infotext import read_infotext, save_image

SETTINGS = {"Steps": "20", "Sampler": "Euler a", "Lora hashes": "cat: 0123456789ab"}


@pytest.mark.parametrize("prompt", ["a cat", "猫 and 🐈, <lora:猫:1>", "two\nlines"])
def test_a_png_carries_it(tmp_path, prompt) -> None:
    info = Infotext(prompt, "ugly", SETTINGS)
    save_image(tmp_path / "a.png", Image.new("RGB", (8, 8)), info)
    assert read_infotext(tmp_path / "a.png") == info


def test_a_image_without_text(tmp_path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert read_infotext(tmp_path / "a.png") is None
