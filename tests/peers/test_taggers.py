"""Taggers beside other programs' own code: what sd-scripts gives a WD14 model, and the web UI's
DeepDanbooru.

``LORASMITH_PEERS`` names the folder that holds the checkouts.
"""

from __future__ import annotations

import importlib
import os
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lorasmith.curation.tagger.deepdanbooru import DeepDanbooru
from lorasmith.curation.tagger.inputs import InputFormat, to_input

PEERS = Path(os.environ.get("LORASMITH_PEERS", ""))
SD_SCRIPTS = PEERS / "sd-scripts" / "finetune" / "tag_images_by_wd14_tagger.py"
WEBUI = next(iter(sorted(PEERS.glob("stable-diffusion-webui*/modules/deepbooru_model.py"))), None)


@pytest.mark.skipif(
    "LORASMITH_PEERS" not in os.environ or not SD_SCRIPTS.is_file(),
    reason="LORASMITH_PEERS names no folder with sd-scripts",
)
@pytest.mark.parametrize(("width", "height"), [(448, 448), (448, 301), (200, 448)])
def test_what_sd_scripts_gives_the_model(width: int, height: int) -> None:
    """Pixel by pixel where nothing is resized: colours, range, padding. (Programs resize in ways of
    their own; ours is SmilingWolf's.)"""
    text = SD_SCRIPTS.read_text(encoding="utf-8")
    space: dict[str, Any] = {"np": np, "Image": Image, "IMAGE_SIZE": 448}

    def no_resize(image: np.ndarray, *sizes: int) -> np.ndarray:
        assert len(set(sizes)) == 1
        return image

    space["resize_image"] = no_resize
    start = text.index("def preprocess_image(")
    exec(text[start : text.index("\nclass ", start)], space)
    rng = np.random.default_rng(width)
    image = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
    assert (to_input(image, InputFormat(448)) == space["preprocess_image"](image)).all()


@pytest.mark.skipif(
    "LORASMITH_PEERS" not in os.environ or WEBUI is None,
    reason="LORASMITH_PEERS names no folder with the web UI",
)
def test_the_web_uis_deepdanbooru(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights of its full size, on a smaller picture."""
    assert WEBUI is not None
    modules = types.ModuleType("modules")
    modules.__path__ = [str(WEBUI.parent)]
    devices = types.ModuleType("modules.devices")
    vars(devices)["unet_needs_upcast"] = False
    vars(modules)["devices"] = devices
    monkeypatch.setitem(sys.modules, "modules", modules)
    monkeypatch.setitem(sys.modules, "modules.devices", devices)
    monkeypatch.delitem(sys.modules, "modules.deepbooru_model", raising=False)
    torch.manual_seed(0)
    theirs = importlib.import_module("modules.deepbooru_model").DeepDanbooruModel().eval()
    monkeypatch.delitem(sys.modules, "modules.deepbooru_model")
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.mul_(1.5)  # so that scores are not all the same
        pixels = torch.rand(1, 128, 128, 3)
        expected = theirs(pixels)
        ours = DeepDanbooru(theirs.state_dict())(pixels)
    assert expected.std() > 0.01
    assert torch.allclose(ours, expected, rtol=0, atol=1e-6)
