"""What went wrong in a run, by doing its steps again and looking closely.

A step is a function of the seed and its number, so what happened happens again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from lorasmith.adapters.base import Adapter
from lorasmith.data.dataset import SampleRef
from lorasmith.training.interventions import step_input
from lorasmith.training.monitoring.nan_finder import ORDER, NanFinder, NanSite, Phase
from lorasmith.training.runs.state import Position
from lorasmith.training.setup.build import Run
from lorasmith.training.setup.upcast import compute_in_fp32, find_module

# Images that a message names; it says how many more there are.
NAMED = 4
# How far up from the layer that overflowed a module is tried in float32: a transformer block.
LEVELS_UP = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """The first trouble of a run.

    Args:
        step: from 1.
        what: the symptom: "the loss became nan".
        where: the place in words.
        module: adapter key or layer, empty where it is no module's doing.
        items: indices of the dataset items that it came from.
        images: their files, within the data folder.
        in_fp32: modules that would have computed it in float32 without trouble.
    """

    step: int
    what: str
    where: str
    phase: Phase = "unknown"
    module: str = ""
    items: tuple[int, ...] = ()
    images: tuple[str, ...] = ()
    in_fp32: tuple[str, ...] = ()

    def __str__(self) -> str:
        more = f" and {len(self.images) - NAMED} more" if len(self.images) > NAMED else ""
        named = ", ".join(self.images[:NAMED])
        which = f", with {named}{more}" if named else ""
        return f"{self.what} at step {self.step}: {self.where}{which}"


def diagnose(
    run: Run, back: Callable[[], Position], step: int, what: str, *, exploded: bool
) -> Finding:
    """Do the steps from ``back()`` to ``step`` (from 1) again, the last one under inspection.

    The trainer is left wherever that ends.

    Args:
        back: puts good numbers from before ``step`` back.
        exploded: look for the module whose weights grew most, not for a number that is none.
    """
    with _plainly(run):
        position = back()
        before = {key: _norm(adapter) for key, adapter in run.network.adapters.items()}
        for earlier in range(position.step, step - 1):
            run.trainer(earlier, *step_input(run.batches, earlier, run.trainer.interventions))
        spot = _inspected(run, step - 1)
        if exploded:
            growth = {
                key: _norm(adapter) / max(before[key], 1e-6)
                for key, adapter in run.network.adapters.items()
            }
            key = max(growth, key=growth.__getitem__)
            place = f"most in {key}, {growth[key]:.3g} times since step {position.step}"
            return _finding(run, step, what, NanSite("weights", place, key))
        in_fp32: tuple[str, ...] = ()
        if spot.phase == "forward" and run.precision.dtype == torch.float16:
            in_fp32 = _helps_in_fp32(run, back, step - 1, spot)
    return _finding(run, step, what, spot, in_fp32)


def name_of(run: Run, item: int) -> str:
    """A dataset item's image as people know it: its path within the data folder."""
    path = run.run_plan.dataset.items[item].image.path
    folder = Path(run.settings.data.path or run.run_plan.data_folder).absolute()
    path = path.absolute()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


@contextlib.contextmanager
def _plainly(run: Run) -> Iterator[None]:
    """Without compiled code, which does not call hooks."""
    if not run.settings.performance.compile:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def _inspected(run: Run, step: int) -> NanSite:
    """Do ``step`` (from 0) and say where its first number that is none was, of all processes."""
    batches, total = step_input(run.batches, step, run.trainer.interventions)
    inspector = NanFinder(run.network)
    with inspector.watching():
        run.trainer(step, inspector.feed(batches), total)
    if inspector.found is None:
        inspector.check_weights()
    spots = [spot for spot in run.processes.gather(inspector.found) if spot is not None]
    if not spots:
        return NanSite("unknown", "it did not come back when the step was done again")
    return min(spots, key=lambda spot: ORDER.index(spot.phase))


def _helps_in_fp32(
    run: Run, back: Callable[[], Position], step: int, spot: NanSite
) -> tuple[str, ...]:
    """The smallest module around ``spot`` in which float32 keeps ``step`` free of trouble."""
    path = spot.path
    for _ in range(LEVELS_UP + 1):
        if "." not in path:
            break
        module = find_module(run.model, path)
        position = back()
        for earlier in range(position.step, step):
            run.trainer(earlier, *step_input(run.batches, earlier, run.trainer.interventions))
        undo = compute_in_fp32(module, run.precision.dtype)
        again = _inspected(run, step)
        undo()
        if again.phase == "unknown":
            return (path,)
        path = path.rpartition(".")[0]
    return ()


def _finding(
    run: Run, step: int, what: str, spot: NanSite, in_fp32: tuple[str, ...] = ()
) -> Finding:
    samples = [sample for group in run.batches.samples(step - 1) for sample in group]
    guilty: list[SampleRef] = [s for s in samples if not spot.samples or s.id in spot.samples]
    items = tuple(dict.fromkeys(sample.item for sample in guilty))
    return Finding(
        step,
        what,
        spot.what,
        spot.phase,
        spot.module,
        items,
        tuple(name_of(run, item) for item in items),
        in_fp32,
    )


def _norm(adapter: Adapter) -> float:
    squares = [float(p.detach().float().square().sum()) for p in adapter.parameters()]
    return sum(squares) ** 0.5
