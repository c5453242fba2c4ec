from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Save = Callable[..., Path]


@pytest.fixture
def save() -> Save:
    """``save(path, width, height, caption=…)``: blurred noise, different for each path."""

    def make(path: Path, width: int = 64, height: int = 64, caption: str | None = None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(zlib.crc32(str(path).encode()))
        small = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
        small.resize((width, height), Image.Resampling.BICUBIC).save(path)
        if caption is not None:
            path.with_suffix(".txt").write_text(caption, encoding="utf-8")
        return path

    return make
