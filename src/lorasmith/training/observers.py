"""Those who watch a run: the event log, the metrics, TensorBoard, the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TextIO

from rich.console import Console

from lorasmith.events import (
    Event,
    Notice,
    Observer,
    Progress,
    RequestDone,
    RequestRefused,
    RolledBack,
    RunFinished,
    RunStarted,
    SampleSaved,
    SnapshotSaved,
    StepDone,
    TroubleFound,
    ValidationDone,
)
from lorasmith.progress_view import ProgressView
from lorasmith.training.run_folder import RunFolder, drop_lines_after, sample_pattern
from lorasmith.training.validation_view import validation_line, validation_scalars


class JsonLines:
    """Appends events to ``events.jsonl``, and to ``metrics.jsonl`` the numbers of logged steps and
    of validation, on lines of their own.

    Progress of preparatory work is for the eye only and stays out.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._events = _appending(folder.events)
        self._metrics = _appending(folder.metrics)

    def __call__(self, event: Event) -> None:
        if not isinstance(event, StepDone | Progress):
            _write_line(self._events, event.record())
        if isinstance(event, ValidationDone) or (
            isinstance(event, StepDone) and event.loss is not None
        ):
            record = event.record()
            record.pop("event")
            record.pop("by_picture", None)  # Too much to draw; it is in the events.
            _write_line(self._metrics, record)
        if isinstance(event, RolledBack):
            # Steps that are done again have one line each; the events tell what was before.
            self._metrics.close()
            drop_lines_after(self._folder.metrics, event.step)
            self._metrics = _appending(self._folder.metrics)

    def close(self) -> None:
        self._events.close()
        self._metrics.close()


def _appending(path: Path) -> TextIO:
    return open(path, "a", encoding="utf-8")


def _write_line(file: TextIO, record: dict[str, object]) -> None:
    file.write(json.dumps(record, ensure_ascii=False) + "\n")
    file.flush()


class TensorBoard:
    """The numbers of each logged step as TensorBoard scalars.

    Args:
        start: first step of this process; scalars of later steps from an earlier one are purged.
    """

    def __init__(self, folder: RunFolder, start: int) -> None:
        self._folder = str(folder.tensorboard)
        self._begin(start)

    def _begin(self, start: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # a second of imports that some skip

        self._writer = SummaryWriter(self._folder, purge_step=start + 1)

    def __call__(self, event: Event) -> None:
        if isinstance(event, RolledBack):
            self._writer.close()
            self._begin(event.step)
        if isinstance(event, ValidationDone):
            self._add(event.step, validation_scalars(event))
        if not isinstance(event, StepDone) or event.loss is None:
            return
        scalars = {
            "loss/step": event.loss,
            "loss/smoothed": event.smoothed_loss,
            "norm/gradient": event.grad_norm,
            "norm/weights": event.weight_norm,
            "loss_scale": event.loss_scale,
            "speed/samples_per_second": event.samples_per_second,
            "memory/bytes": event.memory_bytes,
            **{f"lr/{group}": rate for group, rate in event.lr.items()},
            **{f"d*lr/{group}": rate for group, rate in event.d_lr.items()},
        }
        self._add(event.step, scalars)

    def _add(self, step: int, scalars: Mapping[str, float | None]) -> None:
        for tag, value in scalars.items():
            if value is not None:
                self._writer.add_scalar(tag, value, step)

    def close(self) -> None:
        self._writer.close()


class Terminal:
    """A progress bar with the numbers that a person watches, and a line for what is worth one."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = ProgressView(console)
        self._drawn = -1
        self._steps = 0

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._steps = event.steps
                self._progress.show("training", event.start_step, event.steps)
            case Progress():
                self._progress.show(event.what, event.done, event.total)
                if event.done >= event.total:
                    self._progress.end(event.what)
            case StepDone():
                self._progress.show("training", event.step, event.steps, _numbers(event))
            case SampleSaved() if event.step != self._drawn:
                self._drawn = event.step
                self._say("samples ", sample_pattern(event.path))
            case ValidationDone():
                self._console.print(validation_line(event), highlight=False)
            case SnapshotSaved():
                self._say("result  " if event.final else "snapshot", event.path)
            case Notice():
                if event.level == "warning":
                    self._warn(event.text)
                else:
                    self._console.print(event.text, highlight=False, markup=False)
            case TroubleFound():
                self._warn(event.found)
            case RolledBack():
                self._warn(f"back to step {event.step}; going on with {event.change}")
                self._progress.show("training", event.step, self._steps)
            case RequestDone():
                self._console.print(f"done as asked: {event.request}", highlight=False)
            case RequestRefused():
                self._warn(f"not done: {event.reason}")
            case RunFinished():
                self.close()
                phases = ", ".join(f"{what} {took:.0f} s" for what, took in event.seconds.items())
                self._console.print(f"time: {phases}", highlight=False)
            case _:
                pass

    def _warn(self, text: str) -> None:
        self._console.print(text, style="yellow", highlight=False, markup=False)

    def _say(self, what: str, path: Path) -> None:
        self._console.print(f"{what}  {path}", highlight=False, soft_wrap=True)

    def close(self) -> None:
        self._progress.close()


def _numbers(event: StepDone) -> list[str]:
    if event.smoothed_loss is None:
        return []
    rates = {f"{rate:.2g}" for rate in (event.d_lr or event.lr).values()}
    parts = [f"loss {event.smoothed_loss:.4f}", f"lr {'/'.join(sorted(rates, key=float))}"]
    if event.samples_per_second is not None:
        parts.append(f"{event.samples_per_second:.3g} samples/s")
    return parts


class Observers:
    """All of them as one, closed in the end whatever happened."""

    def __init__(self, members: Sequence[Observer]) -> None:
        self._members = list(members)

    def add(self, member: Observer) -> None:
        self._members.append(member)

    def __call__(self, event: Event) -> None:
        for member in self._members:
            member(event)

    def __enter__(self) -> Observers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for member in self._members:
            close = getattr(member, "close", None)
            if close is not None:
                close()
