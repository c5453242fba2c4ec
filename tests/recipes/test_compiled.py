"""Real runs with compiled blocks: the same losses in few graphs, and no silence where it fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.recipes.runs import command, run_here, small_dataset
from tests.tolerances import NETWORK, near

from lorasmith.models.diffusion_model import DiffusionModel

SETTINGS = {
    "train__steps": "6", "log__every_steps": "1", "adapter__text_encoder": "false",
    # Losses are compared: see tests/tolerances.py.
    "optimizer__name": "SGDNesterov", "optimizer__lr": "1",
    # Images are drawn and measured before and between steps, of images of several sizes.
    "sample__at_start": "true", "sample__every_steps": "2", "sample__steps": "2",
    "validation__split": "30%", "validation__every_steps": "2", "watchdog__enabled": "true",
}  # fmt: skip


def trained_losses(folder: Path) -> dict[int, float]:
    """Of the steps alone: there are lines of validation, too."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return {each["step"]: each["loss"] for each in map(json.loads, lines) if "loss" in each}


def with_backend(monkeypatch: pytest.MonkeyPatch, backend: Callable[..., Any]) -> None:
    """In the place of a C++ compiler, which takes minutes."""
    compile_ = DiffusionModel.compile
    monkeypatch.setattr(
        DiffusionModel, "compile", lambda self, **o: compile_(self, **{**o, "backend": backend})
    )
    torch.compiler.reset()


@pytest.mark.slow
def test_a_compiled_run_learns_the_same_in_few_graphs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, graphs = small_dataset(tmp_path / "data"), []
    run_here(command(data, tmp_path / "out", "plain", **SETTINGS))

    def counted(graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        graphs.append(inputs)
        return graph.forward

    with_backend(monkeypatch, counted)
    said = run_here(command(data, tmp_path / "out", "r", **SETTINGS, performance__compile="true"))
    compiled, plain = (trained_losses(tmp_path / "out" / name) for name in ("r", "plain"))
    assert len(plain) == 6
    assert compiled == near(plain, 4 * NETWORK)
    # The demo's UNet has 11 kinds of blocks, and its batches here are of one image or of two.
    assert 0 < len(graphs) <= 2 * 11 + 2
    assert "runs as it is" not in said
    assert "recompile_limit" not in said


@pytest.mark.slow
def test_a_run_that_cannot_be_compiled_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = small_dataset(tmp_path / "data", images=2)

    def broken(graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        raise RuntimeError("Triton is not what it was")

    with_backend(monkeypatch, broken)
    settings = {"train__steps": "2", "performance__compile": "true"}
    said = " ".join(run_here(command(data, tmp_path / "out", "r", **settings)).split())
    assert "ResnetBlock2D could not be compiled, and runs as it is" in said
    events = (tmp_path / "out" / "r" / "events.jsonl").read_text().splitlines()
    warnings = [e for e in map(json.loads, events) if "Triton is not" in str(e)]
    assert {e["level"] for e in warnings} == {"warning"}
    assert (tmp_path / "out" / "r" / "r.safetensors").exists()
