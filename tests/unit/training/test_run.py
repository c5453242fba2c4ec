"""What is done when a run's training is done."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lorasmith.config.load import load_settings
from lorasmith.core.errors import RunError
from lorasmith.core.events import ignore
from lorasmith.training.kinds.full import FullKind
from lorasmith.training.run import finish, say_what_differs
from lorasmith.training.runs import snapshots
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


def test_words_of_another_run_in_a_shared_folder_stay(tmp_path: Path) -> None:
    told: list[str] = []
    folder = RunFolder(tmp_path / ".zorp.lorasmith")
    folder.path.mkdir()
    vectors = {"bundle_emb.murk.string_to_param.*": torch.ones(1, 8)}
    save_file(vectors, folder.result, {"modelspec.architecture": "stable-diffusion-v1/lora"})
    settings = ["train.kind=lora+embedding", "embedding.separate=true", 'embedding.names=["murk"]']
    context: Any = SimpleNamespace(
        settings=load_settings(None, settings),
        folder=folder, warn=told.append, observer=ignore, controls=None,
    )  # fmt: skip
    other = tmp_path / "embeddings" / "murk.safetensors"
    other.parent.mkdir()
    other.write_bytes(b"another run's")
    finish(context)
    assert other.read_bytes() == b"another run's"
    assert f"{other} is there already and not this run's" in told[0]

    other.unlink()
    finish(context)
    assert folder.further_files == [other]
    finish(context)  # Its own is made anew.
    assert len(told) == 1
    assert load_file(other).keys() == {"emb_params"}


@pytest.mark.parametrize(("init", "shown"), [("none", "base"), ("a.safetensors", "LoRA")])
def test_the_first_samples_are_of_what_training_begins_with(
    monkeypatch: pytest.MonkeyPatch, init: str, shown: str
) -> None:
    drawn: list[str] = []
    attached: list[str] = []

    @contextlib.contextmanager
    def shows(what: str) -> Iterator[None]:
        attached.append(what)
        yield
        attached.pop()

    trained = SimpleNamespace(
        as_saved=lambda dtype: None, detached=lambda: shows("base"),
        replaced_by=lambda saved: shows("LoRA"),
    )  # fmt: skip
    run: Any = SimpleNamespace(
        processes=SimpleNamespace(main=True), samples=[None], trainer=None, trained=trained,
        settings=load_settings(None, [f"adapter.init_from={init}"]),
        stopwatch=SimpleNamespace(phase=lambda name: contextlib.nullcontext()),
    )  # fmt: skip
    monkeypatch.setattr(snapshots, "eval_weights", lambda trainer: contextlib.nullcontext())
    monkeypatch.setattr(snapshots, "_draw", lambda *arguments: drawn.append(attached[-1]))
    snapshots.draw_samples(run, 0, 0)
    snapshots.draw_samples(run, 1, None)
    assert drawn == [shown, "LoRA"]


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
