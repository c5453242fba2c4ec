"""What is done when a run's training is done."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lorasmith.config.load import load_settings
from lorasmith.core.errors import RunError
from lorasmith.training.kinds.full import FullKind
from lorasmith.training.run import finish, say_what_differs
from lorasmith.training.runs.folder import RunFolder
from lorasmith.training.runs.state import put_back


def test_a_file_of_others_is_not_overwritten_by_what_is_made_of_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where runs share a folder, it may be of anybody."""
    made, told = [], []
    monkeypatch.setattr(FullKind, "finish", lambda *arguments: made.append(arguments[2]))
    folder = RunFolder(tmp_path / ".zorp.lorasmith")
    folder.path.mkdir()
    context: Any = SimpleNamespace(
        settings=load_settings(None, ["train.kind=full", "full.extract_rank=4"]),
        folder=folder, warn=told.append, observer=None, controls=None,
    )  # fmt: skip
    other = tmp_path / "zorp-rank4.safetensors"
    other.write_bytes(b"another LoRA")
    finish(context)
    assert not made
    assert "zorp-rank4.safetensors is there already and not this run's" in told[0]
    assert not folder.further_files

    other.unlink()
    finish(context)
    assert folder.further_files == [other]
    other.write_bytes(b"of a shorter run")
    finish(context)
    assert made == [tmp_path / "zorp.safetensors"] * 2
    assert len(told) == 1


def test_what_is_said_on_resuming_is_true_of_checkpoints_too(tmp_path: Path) -> None:
    told: list[str] = []
    run: Any = SimpleNamespace(
        settings=load_settings(None, ["train.kind=full", "performance.deterministic=true"]),
        model=SimpleNamespace(device=torch.device("cpu")), warn=told.append, inform=told.append,
    )  # fmt: skip
    say_what_differs(run, {"deterministic": False})
    trainer: Any = SimpleNamespace(groups=[SimpleNamespace(name="unet", tensors=[torch.ones(2)])])
    with pytest.raises(RunError, match="unet parameters") as caught:
        put_back({"parameters": {}}, trainer, tmp_path / "state")
    told.append(str(caught.value))
    assert len(told) == 2
    assert not any(word in line for line in told for word in ("LoRA", "adapter"))
