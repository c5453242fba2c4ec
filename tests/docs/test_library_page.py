"""The programs of docs/library.md run, one after the other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from lorasmith.demo.character import write_training_set

PAGE = Path(__file__).parents[2] / "docs" / "library.md"


@pytest.mark.slow
def test_its_programs_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_training_set(tmp_path / "images", images=3, regularisation=1, repeats=1)
    names: dict[str, Any] = {}
    for program in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(program, names)
    run = names["run"]
    assert run.result.is_file()
    assert len(run.snapshots) == 3, "each epoch but the last, which is the result"
    assert names["best"].path in [run.result, *run.snapshots]
    assert run.settings.train.epochs == 4
    assert len(list(tmp_path.glob("zorp-*.png"))) == 4
    assert {"small", "both", "baked", "found"} <= {path.stem for path in Path().glob("*.saf*")}
    assert (tmp_path / "grid" / "grid.html").is_file()
