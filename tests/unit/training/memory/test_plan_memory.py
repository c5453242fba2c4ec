"""``--plan`` for a GPU that is not there: every adapter, however it drops out and is stored."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from tests.published import PUBLISHED, write_hole
from tests.tiny_models import tiny_checkpoint
from tests.unit.training.machines import Bench, bench

from lorasmith.cli.main import cli
from lorasmith.config.adapter_types import ADAPTERS
from lorasmith.config.load import load_settings
from lorasmith.demo.character import write_training_set
from lorasmith.training.memory.estimates import MemoryEstimate, Speed
from lorasmith.training.plan import make_plan

__all__ = ["bench"]

ALL_DROPOUTS = {"dropout": "0.1", "rank_dropout": "0.1", "module_dropout": "0.1"}
DROPOUTS = {
    "none": {},
    **{name: {name: value} for name, value in ALL_DROPOUTS.items()},
    "all": ALL_DROPOUTS,
}
STORAGE: dict[str, dict[str, str]] = {
    "whole": {},
    "fp8": {"train.base_precision": "fp8"},
    "nf4": {"train.base_precision": "nf4"},
    "offloaded": {"performance.offload_blocks": "64"},
}
"""What takes most first."""

Card = Callable[[float], None]


@pytest.fixture
def card(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Card:
    """Puts a GPU with so many bytes free into PyTorch's answers."""
    bench.nvidia("NVIDIA GeForce RTX 3090", (8, 6))

    def free(amount: float) -> None:
        memory = (int(amount), int(24e9))
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: memory)

    monkeypatch.setattr("lorasmith.training.setup.hardware.quantizes_on", lambda device: True)
    speed = Speed(1e13, 1e13, 1e13)
    monkeypatch.setattr("lorasmith.training.plan.speed_of", lambda *_: speed)
    free(24e9)
    return free


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    write_training_set(folder, images=2, regularisation=0, repeats=1)
    return folder / "img"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "tiny.safetensors")


@pytest.fixture(scope="module")
def full_size(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("full")
    paths = {name: folder / f"{name}.safetensors" for name in ("sd15", "sdxl")}
    for name, path in paths.items():
        write_hole(path, PUBLISHED[name])
    return paths


def overrides(model: Path, data: Path, adapter: str, **more: str) -> dict[str, str]:
    return {
        "model.path": str(model),
        "data.path": str(data),
        "save.output": str(data.parent),
        "adapter.type": adapter,
        "sample.every_epochs": "0",
        "sample.at_start": "false",
        **{f"adapter.{key}": value for key, value in more.items()},
    }


def planned(chosen: dict[str, str]) -> MemoryEstimate:
    plan = make_plan(load_settings(None, chosen))
    step = plan.memory.step
    assert min(step.weights, step.adapter, step.optimizer, step.activations) > 0
    return step


@pytest.mark.broad_beyond(5)
@pytest.mark.slow
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_plan_answers_for_every_adapter(card: Card, data: Path, tiny: Path, adapter: str) -> None:
    """A small model, on a card so small that everything is looked at."""
    card(3e9)
    dropping = planned(overrides(tiny, data, adapter, **ALL_DROPOUTS))
    if adapter in ("lora", "oft"):  # Masks in the middle, and masks of the output.
        check_dropouts(planned(overrides(tiny, data, adapter)), dropping, masked_anyway=False)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("adapter", ["lora", "dylora"])
def test_the_plan_of_a_run_with_dropout_is_printed(
    card: Card, data: Path, tiny: Path, adapter: str
) -> None:
    card(3e9)
    arguments = ["train", "--plan"]
    for key, value in overrides(tiny, data, adapter, **ALL_DROPOUTS).items():
        arguments += ["--set", f"{key}={value}"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    assert "memory of a step" in result.output


def check_dropouts(plain: MemoryEstimate, dropping: MemoryEstimate, masked_anyway: bool) -> None:
    """They add masks, less than the rest of the step; nothing that is trained, nothing that
    stays.

    Args:
        masked_anyway: the step has masks of the same kind without dropout.
    """
    kept = [(one.weights, one.adapter, one.optimizer) for one in (plain, dropping)]
    assert kept[0] == kept[1]
    assert plain.activations <= dropping.activations < 2 * plain.activations
    assert (plain.activations == dropping.activations) == masked_anyway


def check_storage(steps: dict[str, MemoryEstimate]) -> None:
    """What is stored in fewer bits takes less, and what is elsewhere least; it changes nothing that
    is trained."""
    order = [steps[name] for name in ("whole", "fp8", "nf4", "offloaded") if name in steps]
    for more, less in itertools.pairwise(order):
        assert less.weights < more.weights
        assert less.total < more.total
        assert (less.adapter, less.optimizer) == (more.adapter, more.optimizer)
    assert order[-1].activations == pytest.approx(order[0].activations, rel=0.25)


@pytest.mark.broad  # The same as above, with a model of the published sizes.
def test_a_full_size_model_takes_less_in_fewer_bits(
    card: Card, data: Path, full_size: dict[str, Path]
) -> None:
    chosen = overrides(full_size["sd15"], data, "lora", **ALL_DROPOUTS)
    check_storage({name: planned(chosen | how) for name, how in STORAGE.items()})


@pytest.mark.broad  # A part of it is above.
@pytest.mark.parametrize("model", ["sd15", "sdxl"])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_every_full_size_plan_answers(
    card: Card, data: Path, full_size: dict[str, Path], adapter: str, model: str
) -> None:
    """Each dropout, however the weights are stored."""
    steps = {
        (name, kept): planned(overrides(full_size[model], data, adapter, **drop) | how)
        for name, drop in DROPOUTS.items()
        for kept, how in STORAGE.items()
    }
    for name in DROPOUTS:
        check_storage({kept: steps[name, kept] for kept in STORAGE})
    for name, kept in itertools.product(list(DROPOUTS)[1:], STORAGE):
        # DyLoRA draws which ranks take part, and dropout of ranks or modules draws with it.
        masked = adapter == "dylora" and name in ("rank_dropout", "module_dropout")
        check_dropouts(steps["none", kept], steps[name, kept], masked)
