"""A run's snapshots by their files' names, and the parts of a run that one can ask for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lorasmith.core.errors import RunError
from lorasmith.grids.snapshots import choose, find_run, find_snapshots, split_run


def write(folder: Path, *names: str, **metadata: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        save_file({"a": torch.zeros(1)}, folder / f"{name}.safetensors", metadata)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """As sd-scripts leaves it: epochs 1 to 5, and the result, which is epoch 6."""
    folder = tmp_path / "cat"
    write(folder, *(f"cat-{epoch:06d}" for epoch in range(1, 6)))
    write(folder, "cat", ss_epoch="6", ss_steps="600")
    return folder


def labels(run: Path, part: str) -> list[str]:
    return [snapshot.label for snapshot in choose(find_snapshots(run), part, str(run))]


@pytest.mark.parametrize(
    ("part", "epochs"),
    [
        ("", [1, 2, 3, 4, 5, 6]),
        ("all", [1, 2, 3, 4, 5, 6]),
        ("1-15", [1, 2, 3, 4, 5, 6]),
        ("2-4", [2, 3, 4]),
        ("4-2", [4, 3, 2]),
        ("1-6:2", [1, 3, 5]),
        ("1-6 (+2)", [1, 3, 5]),
        ("1-6 [2]", [1, 6]),
        ("3", [3]),
        ("last", [6]),
    ],
)
def test_parts_of_a_run(run: Path, part: str, epochs: list[int]) -> None:
    assert labels(run, part) == [f"epoch {epoch}" for epoch in epochs]


def test_epoch_0_is_the_base_model(run: Path) -> None:
    first, *_ = choose(find_snapshots(run), "0-2", "")
    assert (first.path, first.label) == (None, "no LoRA")


def test_the_result_follows_the_last_epoch_when_its_file_does_not_say(tmp_path: Path) -> None:
    write(tmp_path / "cat", "cat-000002", "cat-000004", "cat")
    assert labels(tmp_path / "cat", "") == ["epoch 2", "epoch 4", "epoch 5"]


def test_steps(tmp_path: Path) -> None:
    folder = tmp_path / "cat"
    write(folder, *(f"cat-step{step:08d}" for step in (500, 1000, 1500)))
    write(folder, "cat", ss_steps="2000")
    assert labels(folder, "steps") == ["step 500", "step 1000", "step 1500", "step 2000"]
    assert labels(folder, "steps 600-1600") == ["step 1000", "step 1500"]
    assert labels(folder, "step 500") == ["step 500"]


def test_epochs_and_steps_come_in_the_order_of_training(tmp_path: Path) -> None:
    folder = tmp_path / "cat"
    write(folder, "cat-000001", ss_steps="80")
    write(folder, "cat-step00000100", ss_steps="100")
    write(folder, "cat-000002", ss_steps="160")
    assert labels(folder, "") == ["epoch 1", "step 100", "epoch 2"]


def test_what_is_not_there_is_told_with_what_is(run: Path) -> None:
    with pytest.raises(RunError, match="epochs 1-6"):
        labels(run, "9-12")


def test_a_folder_of_several_runs_must_be_told_which(tmp_path: Path, run: Path) -> None:
    loras = tmp_path / "loras"
    write(loras, "dog-000001", "dog", "bird")
    with pytest.raises(RunError, match="2 LoRAs"):
        find_snapshots(loras)
    assert [s.label for s in find_snapshots(loras / "dog")] == ["epoch 1", "epoch 2"]
    assert find_run("cat", [tmp_path]) == run
    assert find_run("dog", [tmp_path, loras]) == loras / "dog"
    with pytest.raises(RunError, match="no such run"):
        find_snapshots(tmp_path / "bat")


@pytest.mark.parametrize(
    ("item", "run", "part"),
    [
        ("runs/cat", "runs/cat", ""),
        ("runs/cat:1-15", "runs/cat", "1-15"),
        ("runs/cat:1-15:2", "runs/cat", "1-15:2"),
        ("runs/cat:1-10 (+3)", "runs/cat", "1-10 (+3)"),
        ("C:\\runs\\cat:3", "C:\\runs\\cat", "3"),
        ("C:\\runs\\cat", "C:\\runs\\cat", ""),
        ("cat:steps 500-2000", "cat", "steps 500-2000"),
        ("cat:last", "cat", "last"),
    ],
)
def test_a_run_and_its_part(item: str, run: str, part: str) -> None:
    assert split_run(item) == (run, part)
