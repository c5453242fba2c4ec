"""The programs of docs/library.md run, one after the other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from lorasmith.demo.character import write_training_set
from lorasmith.measures.records import Extent

PAGE = Path(__file__).parents[2] / "docs" / "library.md"
SHORTER = {
    "epochs=4": "epochs=4, sample__steps=2, sample__cfg=1",  # And so in what is drawn to pick.
    "run.pick()": "run.pick(images=1)",
    "cfg=3,": "cfg=3, steps=2,",
    "seed=7)": "seed=7, steps=2)",
}
"""What takes long is done with less."""


@pytest.mark.slow
def test_its_programs_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_training_set(tmp_path / "images", images=3, regularisation=1, repeats=1)
    monkeypatch.setattr("lorasmith.advice.pick.AT_LEISURE", Extent(timesteps=2))
    names: dict[str, Any] = {}
    for program in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        for long, short in SHORTER.items():
            program = program.replace(long, short)
        exec(program, names)
    edited = names["edited"]
    assert edited.applied.counts == {"write": 3}
    assert ("drawing", 0, 3) in edited.plan.tag_counts()
    assert not any("drawing" in path.read_text("utf-8") for path in Path("images").rglob("*.txt"))
    run = names["run"]
    assert run.result.is_file()
    assert len(run.snapshots) == 3, "each epoch but the last, which is the result"
    assert names["best"].path in [run.result, *run.snapshots]
    assert run.settings.train.epochs == 4
    assert len(list(tmp_path.glob("zorp-*.png"))) == 4
    assert {"small", "both", "baked", "found"} <= {path.stem for path in Path().glob("*.saf*")}
    assert (tmp_path / "grid" / "grid.html").is_file()
