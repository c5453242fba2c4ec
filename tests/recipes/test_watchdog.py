"""Runs whose numbers go wrong: named, taken back, finished or stopped with everything saved."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.late_copies import LateCopies
from tests.recipes.matrix import losses, result_of, run_with
from torch import Tensor, nn

from lorasmith.config.load import Override
from lorasmith.core.errors import RunError
from lorasmith.tensors.device import Precision
from lorasmith.training import run as runs
from lorasmith.training.batches import Batches
from lorasmith.training.loop import train as run_loop
from lorasmith.training.memory import plan as memory
from lorasmith.training.monitoring import watchdog
from lorasmith.training.objective import MicroBatch
from lorasmith.training.setup.build import Run

QUICK = {"train.steps": "8", "watchdog.copy_every": "2", "train.batch": "1"}
LAYER = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
KEY = "lora_unet_" + LAYER.replace(".", "_")


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    lines = (run / "events.jsonl").read_text(encoding="utf-8").splitlines()
    return [record for record in map(json.loads, lines) if record["event"] == kind]


def info(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "run.json").read_text(encoding="utf-8")))


def all_finite(run: Path) -> bool:
    files = [load_file(path) for path in run.glob("*.safetensors")]
    states = [torch.load(path, weights_only=True) for path in run.glob("state/*.state")]
    tensors = [t for file in [*files, *(s["parameters"] for s in states)] for t in file.values()]
    return all(bool(tensor.isfinite().all()) for tensor in tensors)


@pytest.fixture
def meddle(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Run], None]], None]:
    """Gets at the parts of a run just before its first step."""

    def install(change: Callable[[Run], None]) -> None:

        def loop(run: Run, *rest: Any) -> None:
            change(run)
            run_loop(run, *rest)

        monkeypatch.setattr(runs, "run_loop", loop)

    return install


def break_layer(step: int, *, always: bool = False, backward: bool = False) -> Any:
    """Let a layer of the UNet give infinity at ``step`` (from 1) while the lr is what was set."""

    def change(run: Run) -> None:
        now = [0]
        call = type(run.trainer).__call__

        class Counting(type(run.trainer)):  # type: ignore[misc]
            def __call__(self, number: int, *rest: Any) -> Any:
                now[0] = number
                return call(self, number, *rest)

        run.trainer.__class__ = Counting

        def spoil(module: nn.Module, given: Any, output: Tensor) -> Tensor | None:
            lowered = run.trainer.interventions.lr_factor(now[0]) < 1
            if now[0] + 1 < step or (now[0] + 1 > step and not always) or (lowered and not always):
                return None
            if backward:
                output.register_hook(lambda grad: grad * math.inf)
                return None
            return output * math.inf

        run.model.denoiser.get_submodule(LAYER).register_forward_hook(spoil)

    return change


def poison(monkeypatch: pytest.MonkeyPatch, item: int) -> None:
    """One image's latents hold infinity."""
    really = Batches.micro_batches

    def poisoned(self: Batches, step: int) -> Iterator[MicroBatch]:
        items = {sample.id: sample.item for group in self.samples(step) for sample in group}
        for batch in really(self, step):
            mean = batch.mean.clone()
            for row, sample in enumerate(batch.samples):
                if items[sample] == item:
                    mean[row, 0, 0, 0] = math.inf
            yield replace(batch, mean=mean)

    monkeypatch.setattr(Batches, "micro_batches", poisoned)


@pytest.mark.slow
def test_watching_changes_nothing(tmp_path: Path) -> None:
    on = run_with(tmp_path, {"train.steps": "5", "watchdog.copy_every": "1"})
    off = run_with(tmp_path, {"train.steps": "5", "watchdog.enabled": "false", "save.name": "off"})
    assert losses(on) == losses(off)
    same = load_file(on / "run.safetensors").items()
    other = load_file(off / "off.safetensors")
    assert all(torch.equal(tensor, other[name]) for name, tensor in same)


@pytest.mark.slow
def test_copies_that_a_gpu_makes_are_read_when_they_are_there(
    tmp_path: Path, meddle: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, average and moments, from memory that held two earlier copies before."""
    meddle(break_layer(8))
    settings = {**QUICK, "train.steps": "10", "train.ema": "0.9", "log.every_steps": "1"}
    plain = run_with(tmp_path, settings)
    device = LateCopies(monkeypatch)
    late = run_with(tmp_path, {**settings, "save.output": str(tmp_path / "late")})
    (back,) = events(late, "RolledBack")
    assert back["step"] == 6
    assert device.waits > 0
    assert losses(plain) == losses(late)
    assert result_of(plain).read_bytes() == result_of(late).read_bytes()


@pytest.mark.slow_but_first
@pytest.mark.parametrize("backward", [False, True])
def test_named_taken_back_and_finished(backward: bool, tmp_path: Path, meddle: Any) -> None:
    meddle(break_layer(6, backward=backward))
    run = run_with(tmp_path, QUICK)
    (trouble,), (back,) = events(run, "TroubleFound"), events(run, "RolledBack")
    assert trouble["step"] == 6
    assert trouble["module"] == KEY
    (image,) = trouble["samples"]
    assert (tmp_path / "data" / image).is_file()
    assert back["step"] == 4
    assert "learning rate x 0.5" in back["change"]
    assert [(c["step"], c["lr"], c["by"]) for c in info(run)["interventions"]] == [
        (4, 0.5, "watchdog")
    ]
    assert info(run)["status"] == "done"
    assert len(losses(run)) == 8  # Steps done twice have one line.
    assert all_finite(run)


@pytest.mark.slow
def test_large_adapters_go_back_to_their_state_files(
    tmp_path: Path, meddle: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "MOST_BYTES", 0)
    meddle(break_layer(6))
    run = run_with(tmp_path, {**QUICK, "save.state_every_steps": "3"})
    assert [back["step"] for back in events(run, "RolledBack")] == [3]
    assert info(run)["status"] == "done"
    assert len(losses(run)) == 8


@pytest.mark.slow
def test_goes_on_as_a_run_with_that_rate_from_there_would(tmp_path: Path, meddle: Any) -> None:
    """Nothing of the steps given up is left in weights, optimizer or averages."""
    from lorasmith.training.interventions import Intervention

    changes = {**QUICK, "train.ema": "0.9"}
    undisturbed = Intervention(4, "request", lr=0.5)
    with pytest.MonkeyPatch.context() as patch:

        def loop(run: Run, *rest: Any) -> None:
            run.trainer.interventions.add(undisturbed)
            run_loop(run, *rest)

        patch.setattr(runs, "run_loop", loop)
        plain = run_with(tmp_path, {**changes, "save.name": "plain"})
    meddle(break_layer(6))
    taken_back = run_with(tmp_path, changes)
    assert losses(taken_back) == losses(plain)
    other = load_file(plain / "plain.safetensors")
    for name, tensor in load_file(taken_back / "run.safetensors").items():
        assert torch.equal(tensor, other[name]), name


@pytest.mark.slow
def test_the_second_time_it_stops_with_everything_saved(tmp_path: Path, meddle: Any) -> None:
    meddle(break_layer(6, always=True))
    with pytest.raises(RunError) as caught:
        run_with(tmp_path, QUICK)
    run = tmp_path / "out" / "run"
    message = str(caught.value)
    assert "step 6" in message
    assert KEY in message
    assert "--resume" in message
    assert info(run)["status"] == "trouble"
    assert (run / "run-step00000004.safetensors").exists()
    assert [path.name for path in run.glob("state/*")] == ["step-00000004.state"]
    assert all_finite(run)
    assert [c["lr"] for c in info(run)["interventions"]] == [0.5]


@pytest.mark.slow
def test_stop_at_once_and_go_on_when_told(
    tmp_path: Path, meddle: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    meddle(break_layer(6))
    with pytest.raises(RunError):
        run_with(tmp_path, {**QUICK, "watchdog.action": "stop"})
    run = tmp_path / "out" / "run"
    assert "interventions" not in info(run) or not info(run)["interventions"]
    options = [Override("watchdog.action", "rollback")]
    runs.resume(run, options)
    assert info(run)["status"] == "done"
    assert [c["lr"] for c in info(run)["interventions"]] == [0.5]


@pytest.mark.slow
def test_a_spoilt_image_is_named_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, item=1)
    run = run_with(tmp_path, {**QUICK, "train.steps": "14", "train.batch": "2"})
    (trouble,), (back,) = events(run, "TroubleFound"), events(run, "RolledBack")
    assert "latents" in trouble["found"]
    assert len(trouble["samples"]) == 1
    assert (tmp_path / "data" / trouble["samples"][0]).is_file()
    assert "left out" in back["change"]
    assert info(run)["interventions"][0]["left_out"] == [1]
    assert len(losses(run)) == 14
    assert all_finite(run)


@pytest.mark.slow
def test_weights_that_explode(tmp_path: Path) -> None:
    """A learning rate beyond reason, in numbers that are numbers still."""
    with pytest.raises(RunError, match=r"norm of the weights grew .* times .*lora_"):
        run_with(tmp_path, {**QUICK, "optimizer.lr": "50", "save.every_steps": "1"})
    run = tmp_path / "out" / "run"
    assert len(events(run, "RolledBack")) == 1
    assert not list(run.glob("*.safetensors"))  # None of its steps was a good one.
    assert all_finite(run)


@pytest.mark.slow
def test_more_attempts_find_a_rate_that_it_bears(tmp_path: Path) -> None:
    changes = {"optimizer.lr": "50", "watchdog.attempts": "3", "watchdog.lr_factor": "0.01"}
    run = run_with(tmp_path, {**QUICK, **changes})
    assert info(run)["status"] == "done"
    assert math.prod(c["lr"] for c in info(run)["interventions"]) <= 1e-4
    assert all_finite(run)


@pytest.mark.slow
def test_off_means_a_plain_stop(tmp_path: Path, meddle: Any) -> None:
    meddle(break_layer(3))
    with pytest.raises(RunError, match="the loss became nan at step 3"):
        run_with(tmp_path, {**QUICK, "watchdog.enabled": "false"})
    assert not events(tmp_path / "out" / "run", "TroubleFound")


@pytest.fixture
def half(monkeypatch: pytest.MonkeyPatch) -> None:
    """float16 on the CPU, which settings replace as pointless there."""
    chosen = Precision(torch.float16, "for the test")
    monkeypatch.setattr(memory, "choose_precision", lambda *given: chosen)


@pytest.mark.slow
@pytest.mark.usefixtures("half")
def test_a_loss_scale_that_collapses(tmp_path: Path, meddle: Any) -> None:
    """Gradients that overflow at any scale: each step is skipped and halves it."""
    meddle(break_layer(3, always=True, backward=True))
    with pytest.raises(RunError, match=f"the loss scale fell to .*{KEY}"):
        run_with(tmp_path, {**QUICK, "watchdog.min_loss_scale": "20000"})
    run = tmp_path / "out" / "run"
    (trouble, again) = events(run, "TroubleFound")
    # 65536 is below 20000 when halved twice, by the third and the fourth step.
    assert trouble["step"] == again["step"] == 4
    assert all_finite(run)


@pytest.mark.slow
@pytest.mark.usefixtures("half")
def test_what_overflows_in_float16_goes_on_in_float32(tmp_path: Path, meddle: Any) -> None:
    def overflow(run: Run) -> None:
        def spoil(module: nn.Module, given: Any, output: Tensor) -> Tensor | None:
            return output * math.inf if output.dtype == torch.float16 else None

        block = run.model.denoiser.get_submodule(LAYER.rpartition(".")[0])
        block.register_forward_hook(spoil)

    meddle(overflow)
    run = run_with(tmp_path, {**QUICK, "train.steps": "3"})
    (change,) = info(run)["interventions"]
    assert change["in_fp32"] == ["unet." + LAYER.rpartition(".")[0]]
    assert change["lr"] == 1
    assert info(run)["status"] == "done"
    assert all_finite(run)
