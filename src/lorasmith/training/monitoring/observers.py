"""Those who watch a run: event log, metrics, TensorBoard, Weights & Biases, the terminal."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from rich.console import Console

from lorasmith.core.events import (
    BestKept,
    Event,
    Notice,
    Observer,
    Progress,
    RateFound,
    RequestDone,
    RequestRefused,
    RolledBack,
    RunFinished,
    RunStarted,
    SampleSaved,
    SnapshotJudged,
    SnapshotSaved,
    StepDone,
    TroubleFound,
    ValidationDone,
)
from lorasmith.core.terminal_view import Terminal
from lorasmith.core.text import quantity
from lorasmith.curation.check.check import DatasetChecked
from lorasmith.curation.check.report import render
from lorasmith.training.runs.folder import RunFolder, drop_lines_after, sample_pattern


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
        if isinstance(event, ValidationDone | StepDone):
            for tag, value in _scalars(event).items():
                self._writer.add_scalar(tag, value, event.step)

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """The same numbers, and the sample images, as a run of Weights & Biases.

    What goes wrong with that service is said once, and stops no training.

    Args:
        name: the run's, as its pages show it.
        run_id: of the run there that this one goes on with; "" begins one.
        observe: is told what went wrong.
    """

    def __init__(
        self, folder: RunFolder, project: str, name: str, run_id: str, observe: Observer
    ) -> None:
        self._observe = observe
        self._run: Any = None
        self._sample = (-1, 0)
        self._failures: tuple[type[Exception], ...] = (
            ImportError, OSError, RuntimeError, TypeError, ValueError
        )  # fmt: skip
        self._try(lambda: self._begin(folder, project, name, run_id))

    def _begin(self, folder: RunFolder, project: str, name: str, run_id: str) -> None:
        import wandb  # only here: few have it, and it takes a second

        self._failures += (wandb.Error,)
        self._image = wandb.Image
        run = wandb.init(
            project=project,
            name=name,
            id=run_id or None,
            resume="allow",
            dir=str(folder.path),
        )
        # Steps that are done again, after a kill or on the way back from trouble, come again.
        run.define_metric("*", step_metric="step")
        self._run = run

    @property
    def run_id(self) -> str:
        return "" if self._run is None else str(self._run.id)

    def __call__(self, event: Event) -> None:
        if self._run is not None and isinstance(event, StepDone | ValidationDone | SampleSaved):
            self._try(lambda: self._send(event))

    def _send(self, event: StepDone | ValidationDone | SampleSaved) -> None:
        if isinstance(event, SampleSaved):
            # By number: its client makes a file's name of what stands here, and prompts are long.
            self._sample = (event.step, self._sample[1] + 1 if self._sample[0] == event.step else 1)
            image = self._image(str(event.path), caption=event.prompt)
            values: Mapping[str, Any] = {f"samples/{self._sample[1]}": image}
        else:
            values = _scalars(event)
        if values:
            self._run.log({"step": event.step, **values})

    def _try(self, work: Callable[[], object]) -> None:
        try:
            work()
        except self._failures as error:
            self._run = None
            text = f"Weights & Biases: {str(error) or type(error).__name__}; going on without it"
            self._observe(Notice("warning", text))

    def close(self) -> None:
        if self._run is not None:
            self._try(self._run.finish)


def _scalars(event: StepDone | ValidationDone) -> dict[str, float]:
    """Numbers for curves by name; none of a step that was not read."""
    if isinstance(event, ValidationDone):
        scalars: Mapping[str, float | None] = _validation_scalars(event)
    elif event.loss is None:
        scalars = {}
    else:
        scalars = {
            "loss/step": event.loss,
            "loss/smoothed": event.smoothed_loss,
            "loss/preservation": event.preservation_loss,
            "norm/gradient": event.grad_norm,
            "norm/weights": event.weight_norm,
            "loss_scale": event.loss_scale,
            "speed/samples_per_second": event.samples_per_second,
            "memory/bytes": event.memory_bytes,
            **{f"lr/{group}": rate for group, rate in event.lr.items()},
            **{f"d*lr/{group}": rate for group, rate in event.d_lr.items()},
        }
    return {tag: value for tag, value in scalars.items() if value is not None}


class TrainingTerminal(Terminal):
    """A progress bar with the numbers that a person watches, and a line for what is worth one."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._sample_step = -1
        self._begin = self._last_step = self._steps = 0

    def __call__(self, event: Event) -> None:
        match event:
            case DatasetChecked():
                self._console.print(render(event.report))
            case RateFound():
                for line in event.lines:
                    self._console.print(line, highlight=False, markup=False)
            case RunStarted():
                self._begin = self._last_step = event.start_step
                self._steps = event.steps
                self._progress.show("training", event.start_step, event.steps)
            case Progress():
                super().__call__(event)
                if event.done >= event.total and self._steps and self._last_step == self._begin:
                    # Drawn before the first step.
                    self._progress.show("training", self._begin, self._steps)
            case StepDone():
                self._last_step = event.step
                self._progress.show("training", event.step, event.steps, _numbers(event))
            case SampleSaved() if event.step != self._sample_step:
                self._sample_step = event.step
                self._say("samples ", sample_pattern(event.path))
            case ValidationDone():
                self._console.print(validation_line(event), highlight=False)
            case SnapshotSaved():
                self._say("result  " if event.final else "snapshot", event.path)
            case SnapshotJudged():
                text = f"judged    {event.path.stem}: {event.verdict}: {'; '.join(event.reasons)}"
                self._console.print(text, highlight=False, markup=False)
            case BestKept():
                self._console.print(event.why, highlight=False, markup=False)
                self._say("result  ", event.path)
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
                super().__call__(event)

    def _say(self, what: str, path: Path) -> None:
        self._console.print(f"{what}  {path}", highlight=False, soft_wrap=True)


def _numbers(event: StepDone) -> list[str]:
    if event.smoothed_loss is None:
        return []
    rates = {f"{rate:.2g}" for rate in (event.d_lr or event.lr).values()}
    parts = [f"loss {event.smoothed_loss:.4f}", f"lr {'/'.join(sorted(rates, key=float))}"]
    if event.samples_per_second is not None:
        parts.append(f"{event.samples_per_second:.3g} samples/s")
    return parts


def validation_line(event: ValidationDone) -> str:
    """``held-out  0.1234  -2.1% ± 0.3% since the base model; training -3.0%; gap grown by 0.0011``.

    The percentages are of the base model's loss on the same images.
    """
    base = event.held_out - event.held_out_change
    training_base = event.training - event.training_change
    change = f"{event.held_out_change / base:+.1%}"
    if "held_out_change" in event.errors:
        change += f" ± {event.errors['held_out_change'] / base:.1%}"
    if event.step == 0 and not event.held_out_change:
        return f"held-out  {event.held_out:.4f} on {quantity(event.pictures, 'picture')}"
    return (
        f"held-out  {event.held_out:.4f}, {change} since the base model; "
        f"training pictures {event.training_change / training_base:+.1%}"
    )


def _validation_scalars(event: ValidationDone) -> dict[str, float | None]:
    return {
        "loss/held_out": event.held_out,
        "loss/training_fixed": event.training,
        "loss/gap": event.gap,
        "validation/held_out_change": event.held_out_change,
        "validation/training_change": event.training_change,
        "validation/gap_growth": event.gap_growth,
        **{
            f"validation/held_out_quarter_{number}": value
            for number, value in enumerate(event.quarters, 1)
        },
    }


class Observers:
    """All of them as one.

    Args:
        first: the caller's own. Those that are added are closed in the end whatever happened.
    """

    def __init__(self, first: Observer) -> None:
        self._members = [first]

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
        for member in self._members[1:]:
            close = getattr(member, "close", None)
            if close is not None:
                close()
