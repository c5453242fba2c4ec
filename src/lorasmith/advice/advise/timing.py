"""How long a run will take, by the steps of runs like it that were measured on this machine."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorasmith.config.load import load_settings
from lorasmith.config.schema import TrainSettings, value_of
from lorasmith.core.errors import UserError
from lorasmith.core.files import parse_json
from lorasmith.training.lr_search import search_size
from lorasmith.training.memory.estimates import passes
from lorasmith.training.runs.folder import RunFolder, read_info
from lorasmith.training.setup.preflight import RunPlan

# What makes a step another one.
_ALIKE = (
    *("train.batch", "train.accumulation", "train.base_precision", "adapter.type"),
    *("adapter.text_encoder", "adapter.unet", "model.max_tokens", "performance.offload_blocks"),
    "performance.threads",
)
_FEWEST_ROWS = 3
_LONGEST = 10  # times the median


@dataclass(frozen=True, slots=True)
class Timing:
    """
    Args:
        seconds: of the run's steps, the search for a rate included.
        step: seconds of one.
        run: whose steps were measured.
    """

    seconds: float
    step: float
    run: Path


def measured_time(run_plan: RunPlan, device: str) -> Timing | None:
    """By the newest run like it in the folder of runs; ``None`` where there is none.

    Args:
        device: its name, as runs note it.
    """
    settings = run_plan.settings
    search = None
    if settings.optimizer.seeks_lr:
        search = search_size(run_plan.steps, settings.train.batch * settings.train.accumulation)
    steps = run_plan.steps + (search.steps if search is not None else 0)
    for folder in _runs(settings.save.output):
        step = _seconds_of_a_step(folder, run_plan, device)
        if step is not None:
            return Timing(steps * step, step, folder.handle)
    return None


def _runs(output: Path) -> Iterator[RunFolder]:
    """The newest first."""
    if not output.is_dir():
        return
    metrics = [*output.glob("*/metrics.jsonl"), *output.glob(".*.lorasmith/metrics.jsonl")]
    for path in sorted(set(metrics), key=lambda path: -path.stat().st_mtime):
        yield RunFolder(path.parent)


def _seconds_of_a_step(folder: RunFolder, run_plan: RunPlan, device: str) -> float | None:
    try:
        info, settings = read_info(folder), load_settings(folder.settings)
    except UserError:  # Damaged, or of a newer version: no measure of anything.
        return None
    ours, architecture = run_plan.settings, run_plan.architecture
    native = architecture.native_resolution
    same = (
        info.get("device") == device
        and _place(settings) == _place(ours)
        and (settings.data.resolution or native) == (ours.data.resolution or native)
        and all(value_of(settings, path) == value_of(ours, path) for path in _ALIKE)
    )
    steps = [step for row in _rows(folder.metrics) if (step := _step_of(row)) is not None]
    if not same or len(steps) < _FEWEST_ROWS:
        return None
    keeps = any(row.get("preservation_loss") is not None for row in _rows(folder.metrics))
    theirs = passes(checkpointing=False, preserves=settings.preservation if keeps else None)
    scale = passes(checkpointing=False, preserves=run_plan.preserves) / theirs
    # The mean: steps that keep the base take several times as long as others, and are fewer than
    # half. The first has to get ready; what is far longer than others waited for something else.
    most = _LONGEST * statistics.median(steps)
    return statistics.fmean(min(step, most) for step in steps[1:]) * scale


def _place(settings: TrainSettings) -> str:
    path = settings.model.path
    return path if path == "demo" or not Path(path).exists() else str(Path(path).resolve())


def _step_of(row: dict[str, Any]) -> float | None:
    """Seconds of a step, by a line of the run's metrics."""
    numbers = [row.get(name) for name in ("seconds_left", "steps", "step")]
    if not all(isinstance(number, int | float) for number in numbers):
        return None
    left, steps, step = (float(number) for number in numbers if number is not None)
    return left / (steps - step) if steps > step and left > 0 else None


def _rows(metrics: Path) -> Iterator[dict[str, Any]]:
    try:
        lines = metrics.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            row = parse_json(line)
        except ValueError:  # Cut short by a kill.
            continue
        if isinstance(row, dict):
            yield row
