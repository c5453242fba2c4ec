"""What every part of a run goes by: one object in place of many arguments."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lorasmith.config.schema import TrainSettings
from lorasmith.core.events import Controls, Notice, Observer
from lorasmith.training.memory.plan import MemoryPlan
from lorasmith.training.runs.folder import RunFolder
from lorasmith.training.setup.preflight import RunPlan
from lorasmith.training.setup.processes import Processes


class Stopwatch:
    """Seconds per named phase; phases do not nest."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - begin

    def rounded(self) -> dict[str, float]:
        return {name: round(seconds, 3) for name, seconds in self.seconds.items()}


@dataclass(frozen=True)
class RunContext:
    """A run before its model is loaded.

    Args:
        run_plan: the settings, adapted to this machine, and what follows from them and the images.
        folder: where it writes.
        processes: those that train together; the main one alone writes and says.
        memory: what is done to fit.
        observer: gets every event.
        controls: what is asked of it while it goes on.
        stopwatch: where its time goes.
    """

    run_plan: RunPlan
    folder: RunFolder
    processes: Processes
    memory: MemoryPlan
    observer: Observer
    controls: Controls
    stopwatch: Stopwatch = field(default_factory=Stopwatch)

    @property
    def settings(self) -> TrainSettings:
        return self.run_plan.settings

    @property
    def steps(self) -> int:
        return self.run_plan.steps

    @property
    def epochs(self) -> int:
        return self.run_plan.epochs

    @property
    def model_name(self) -> str:
        return Path(self.settings.model.path).stem

    def inform(self, text: str) -> None:
        self.observer(Notice("info", text))

    def warn(self, text: str) -> None:
        self.observer(Notice("warning", text))
