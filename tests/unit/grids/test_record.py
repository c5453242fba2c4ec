"""Grids as they lie on disk: read, also while they are drawn, and whatever they hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.made_up_grids import EPOCHS_BY_STRENGTHS, write_grid

from lorasmith.core.errors import RunError
from lorasmith.grids.record import read_grid


def test_what_is_there_is_found_while_it_is_drawn(tmp_path: Path) -> None:
    write_grid(tmp_path, EPOCHS_BY_STRENGTHS, missing=[(1, 0), (3, 1)])
    grid = read_grid(tmp_path)
    assert (grid.title, grid.drawn, len(grid.cells)) == ("zorp, standing", 6, 8)
    assert [axis.name for axis in grid.axes] == ["epoch", "strength"]
    assert [cell.place for cell in grid.cells if cell.file is None] == [(1, 0), (3, 1)]
    assert grid.cells[4].labels == ("epoch 1", "1")
    write_grid(tmp_path, EPOCHS_BY_STRENGTHS)
    assert read_grid(tmp_path).drawn == 8


def test_a_record_of_an_older_version_names_its_files(tmp_path: Path) -> None:
    write_grid(tmp_path, {"LoRA strength of hat": ["0.6", "1"]})
    path = tmp_path / "grid.json"
    record = json.loads(path.read_text())
    del record["title"]
    for cell in record["cells"]:
        cell["file"] = f"cells/cell.{cell.pop('digest')}.png"
    path.write_text(json.dumps(record))
    grid = read_grid(tmp_path)
    assert (grid.drawn, grid.title, grid.axes[0].name) == (2, "", "strength")


@pytest.mark.parametrize("file", ["../secret.000000000001.png", "/etc/passwd", "..", ""])
def test_no_image_is_elsewhere(tmp_path: Path, file: str) -> None:
    folder = write_grid(tmp_path / "grid", {"Seed": ["1"]})
    (tmp_path / "secret.000000000001.png").write_bytes(b"secret")
    (folder / "cells" / "link.00000000000f.png").symlink_to(tmp_path / "secret.000000000001.png")
    record = json.loads((folder / "grid.json").read_text())
    record["cells"][0] |= {"file": file, "digest": "00000000000f"}
    (folder / "grid.json").write_text(json.dumps(record))
    assert read_grid(folder).cells[0].file is None


@pytest.mark.parametrize(
    "change",
    [
        {"axes": []},
        {"axes": None},
        {"axes": [{"axis": "Seed", "values": []}]},
        {"axes": [{"axis": "Seed", "values": ["1"]}] * 2},
        {"axes": [{"axis": "Seed", "values": ["1"], "files": ["a", "b"]}]},
        {"cells": [{"place": [-1]}]},
        {"cells": [{"place": [1]}]},
        {"cells": [{"place": [0, 0]}]},
        {"cells": [{"place": ["x"]}]},
        {"cells": [{"place": [float("inf")]}]},
        {"cells": 3},
        {"cells": [3]},
    ],
)
def test_a_damaged_record_is_said(tmp_path: Path, change: dict[str, object]) -> None:
    write_grid(tmp_path, {"Seed": ["1"]}, **change)
    with pytest.raises(RunError, match=r"grid\.json"):
        read_grid(tmp_path)


def test_no_grid_is_said(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is no grid"):
        read_grid(tmp_path)
    (tmp_path / "grid.json").write_text("[[[")
    with pytest.raises(RunError, match="is not as"):
        read_grid(tmp_path)
