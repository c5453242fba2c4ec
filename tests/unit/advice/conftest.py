from __future__ import annotations

from pathlib import Path

import pytest
from tests.audits import MakeDataset, faultless


@pytest.fixture
def dataset(tmp_path: Path) -> MakeDataset:
    """A folder of faultless images of 64 px, all different, with captions (``None``: no file)."""

    def make(captions: dict[str, str | None]) -> Path:
        for number, (name, caption) in enumerate(captions.items()):
            path = tmp_path / "set" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            faultless(number).save(path)
            if caption is not None:
                path.with_suffix(".txt").write_text(caption, "utf-8")
        return tmp_path / "set"

    return make
