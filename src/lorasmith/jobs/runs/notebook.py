"""A run shown inside a notebook, in one place that is drawn anew: Jupyter, Colab, Kaggle, VS Code.

What is shown is HTML with its images inside, made from what the run's folder holds; no widgets, no
server, no JavaScript. So it takes any training: of this process, of another one, of yesterday.
"""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import io
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Protocol

from lorasmith.advice.html_report import as_html, small_picture
from lorasmith.core.errors import RunError, Stopped, UserError
from lorasmith.core.events import (
    Controls,
    Event,
    Notice,
    Progress,
    RunFinished,
    RunStarted,
    SampleSaved,
    StepDone,
    ValidationDone,
)
from lorasmith.core.files import user_path
from lorasmith.core.text import duration_text
from lorasmith.formats.run_paths import find_run_folder
from lorasmith.jobs.runs.chart import HEIGHT, WIDTH, draw_curves
from lorasmith.jobs.runs.reader import RunReader
from lorasmith.jobs.runs.records import RunDetail, SampleImage

GOING_ON = ("preparing", "running")
WORDS = {
    "preparing": "preparing", "running": "training", "done": "done", "stopped": "stopped",
    "trouble": "ended in trouble", "killed": "ended without a word",
}  # fmt: skip
POINTS = 600
MOST_PROMPTS, NEWEST = 4, 4
MOST_WARNINGS = 4
SIDE = 144  # px of a sample's longer side
# Of a training's time, at most so much goes into drawing.
SHARE = 0.03
EVERY = 2.0
LOOKS = 0.2


class HasFolder(Protocol):
    @property
    def folder(self) -> Path: ...


def show(run: str | Path | HasFolder, *, wait: float = 0.0, every: float = EVERY) -> None:
    """Show a run in a notebook: curves, the newest samples, where it stands. While it is trained by
    another process, until it ends; interrupting the cell ends the looking.

    Args:
        run: its folder, its LoRA, or a :class:`lorasmith.Run`.
        wait: seconds to wait for the run to begin, where it is not there yet.
        every: seconds between two drawings.

    Raises:
        UserError: this is no notebook.
        RunError: there is no such run.
    """
    display = _Display()
    place = user_path(run) if isinstance(run, str | Path) else run.folder
    page = _Page(_found(place, wait))
    while True:
        detail = page.read()
        display.show(page.html(detail), page.text(detail))
        if detail.state not in GOING_ON:
            return
        try:
            time.sleep(every)
        except KeyboardInterrupt:
            return


def _found(place: Path, wait: float) -> Path:
    deadline = time.monotonic() + wait
    while True:
        try:
            return find_run_folder(place)
        except RunError:
            if time.monotonic() > deadline:
                raise
        time.sleep(LOOKS)


class LiveView:
    """Curves and newest samples in a notebook while :func:`lorasmith.train` works in the same cell.

    ::

        with ls.LiveView() as view:
            ls.train("images", observer=view, controls=view.controls)
        best = ls.pick(view.folder)

    It is an observer. Around the block, interrupting the cell stops the training after the step in
    progress, with everything saved, and the cells below can go on with what is there; interrupting
    twice stops at once.

    Args:
        every: seconds between two drawings, at least; more where drawing takes long beside the
            training.

    Raises:
        UserError: this is no notebook.
    """

    def __init__(self, every: float = EVERY) -> None:
        self._display = _Display()
        self._every = every
        self._next = 0.0
        self._page: _Page | None = None
        self._doing = "beginning"
        self._state = ""
        self._warnings: list[str] = []
        self._handler: Any = None
        self.controls = Controls()

    @property
    def folder(self) -> Path:
        """The run's.

        Raises:
            RunError: no training has begun.
        """
        if self._page is None:
            what = "no training has begun in this cell"
            raise RunError.of("", what, "mend what stands above, and run the cell again")
        return self._page.folder

    def __call__(self, event: Event) -> None:
        # The event that comes now is not in the folder yet; all before it are.
        due = time.monotonic() >= self._next
        match event:
            case RunStarted():
                self._page, self._doing, self._state = _Page(event.folder.absolute()), "", ""
                due = True
            case Progress():
                self._doing = f"{event.what}, {event.done} of {event.total}"
                self._doing = "" if event.done >= event.total and self._page else self._doing
            case StepDone() | ValidationDone() | SampleSaved():
                self._doing = ""
            case Notice(level="warning") if self._page is None:
                self._warnings.append(event.text)
            case RunFinished():
                self._state, self._doing, due = event.reason, "", True
        if due:
            self._draw()

    def __enter__(self) -> LiveView:
        if threading.current_thread() is threading.main_thread():
            self._handler = signal.signal(signal.SIGINT, self._interrupted)
        self._draw()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
        self._state = ""  # As the folder has it.
        self._doing = "" if self._page else "done"
        if error is not None:
            self._doing = str(error).partition("\n")[0] or "interrupted"
        self._draw()
        return isinstance(error, Stopped)

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        if self.controls.stopping:
            raise KeyboardInterrupt
        self.controls.stop()

    def _draw(self) -> None:
        began = time.monotonic()
        # What cannot be read or drawn now ends no training.
        with contextlib.suppress(OSError, UserError):
            if self._page is None:
                doing = "stopping" if self.controls.stopping else self._doing
                lines = [doing, *(f"warning: {text}" for text in self._warnings)]
                self._display.show(_box(list(map(_small, lines))), doing)
            else:
                detail = self._page.read()
                doing = self._doing
                if self.controls.stopping and not self._state and detail.state in GOING_ON:
                    doing = "stopping after this step"
                if self._state:  # It still holds its folder while it says so.
                    detail = detail.model_copy(update={"state": self._state})
                self._display.show(self._page.html(detail, doing), self._page.text(detail))
        took = time.monotonic() - began
        self._next = time.monotonic() + max(self._every, took / SHARE)


class _Display:
    """One place in a cell's output."""

    def __init__(self) -> None:
        require_notebook()
        self._handle: Any = None

    def show(self, page: str, text: str) -> None:
        from IPython.display import display

        bundle = {"text/html": page, "text/plain": text}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)


def require_notebook() -> None:
    """
    Raises:
        UserError: this is no notebook, or IPython is not installed.
    """
    shell = None
    if importlib.util.find_spec("IPython") is not None:
        from IPython.core.getipython import get_ipython

        shell = get_ipython()
    # IPython in a terminal has none, and can draw nothing anew.
    if getattr(shell, "kernel", None) is None:
        what = "there is no notebook here to draw into"
        hint = "call it in a cell of Jupyter, Colab or Kaggle; elsewhere `lorasmith control RUN` "
        raise UserError.of("", what, f"{hint}tells how a run goes, and `lorasmith studio` shows it")


class _Page:
    """What is shown of one run; keeps what it read and drew."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._reader = RunReader()
        self._thumbnails: dict[str, str] = {}

    def read(self) -> RunDetail:
        return self._reader.run(self.folder)

    def text(self, detail: RunDetail) -> str:
        """In place of the HTML, where only text is shown."""
        return (
            f"{detail.name}: {WORDS.get(detail.state, detail.state)}, {', '.join(_facts(detail))}"
        )

    def html(self, detail: RunDetail, doing: str = "") -> str:
        state = WORDS.get(detail.state, detail.state)
        head = " · ".join(
            [f"<b>{as_html(detail.name)}</b>", *map(as_html, (state, *_facts(detail)))]
        )
        parts = [_line(head), _bar(detail.step / detail.steps if detail.steps else 0.0)]
        if doing:
            parts.append(_small(doing))
        metrics = self._reader.metrics(self.folder, points=POINTS)
        if metrics.rows:
            parts.append(_chart(metrics.columns, detail.steps or metrics.last_step))
        parts += self._samples(self._reader.samples(self.folder))
        warnings = [f"{one.by}: {one.text}" for one in detail.says if one.warning]
        parts += map(_small, warnings[-MOST_WARNINGS:])
        if detail.lora:
            parts.append(
                _small(f"{'LoRA' if detail.state == 'done' else 'newest snapshot'}: {detail.lora}")
            )
        if detail.state not in (*GOING_ON, "done"):
            parts.append(_small(f"ls.resume({str(self.folder)!r}) goes on with it"))
        return _box(parts)

    def _samples(self, samples: Sequence[SampleImage]) -> Iterator[str]:
        """A row for each prompt: what was drawn first, and the newest."""
        rows: dict[int, list[SampleImage]] = {}
        for sample in samples:
            rows.setdefault(sample.index, []).append(sample)
        for row in list(rows.values())[:MOST_PROMPTS]:
            shown = row if len(row) <= NEWEST + 1 else [row[0], *row[-NEWEST:]]
            prompt = next((one.prompt for one in reversed(row) if one.prompt), "")
            cells = "".join(map(self._sample, shown))
            yield f"{_small(prompt)}<div>{cells}</div>"
        if len(rows) > MOST_PROMPTS:
            yield _small(f"and {len(rows) - MOST_PROMPTS} more prompts")

    def _sample(self, sample: SampleImage) -> str:
        key = f"{sample.path} {sample.version}"
        if key not in self._thumbnails:
            self._thumbnails[key] = small_picture(Path(sample.path))
        if not (data := self._thumbnails[key]):
            return ""
        place = "before training" if sample.step == 0 else f"step {sample.step}"
        return (
            '<figure style="display:inline-block;margin:2px 8px 2px 0;vertical-align:top">'
            f'<img src="data:image/jpeg;base64,{data}" style="height:{SIDE}px" alt="">'
            f'<figcaption style="font-size:11px;opacity:.75">{place}</figcaption></figure>'
        )


def _facts(detail: RunDetail) -> Iterator[str]:
    yield f"step {detail.step} of {detail.steps}" if detail.steps else f"step {detail.step}"
    numbers = detail.numbers
    if isinstance(epoch := numbers.get("epoch"), int):
        yield f"epoch {epoch}"
    if detail.loss is not None:
        yield f"loss {detail.loss:.4f}"
    if detail.state == "running":
        if isinstance(speed := numbers.get("samples_per_second"), float):
            yield f"{speed:.3g} samples/s"
        if detail.seconds_left is not None:
            yield f"{duration_text(detail.seconds_left)} left"


def _chart(columns: dict[str, list[float | None]], steps: int) -> str:
    file = io.BytesIO()
    draw_curves(columns, steps).save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return (
        f'<img src="data:image/png;base64,{data}" alt="loss and learning rate over the steps" '
        f'style="width:{WIDTH}px;max-width:100%;aspect-ratio:{WIDTH}/{HEIGHT};display:block">'
    )


def _bar(share: float) -> str:
    return (
        '<div style="height:6px;border-radius:3px;margin:4px 0 8px;background:#8884">'
        f'<div style="height:6px;border-radius:3px;width:{min(share, 1):.1%};background:#1f6feb">'
        "</div></div>"
    )


def _line(content: str) -> str:
    return f"<div>{content}</div>"


def _small(words: str) -> str:
    return f'<div style="font-size:12px;opacity:.8">{as_html(words)}</div>' if words else ""


def _box(parts: Sequence[str]) -> str:
    return (
        f'<div style="max-width:{WIDTH}px;font-family:sans-serif;font-size:14px;line-height:1.5">'
        f"{''.join(parts)}</div>"
    )
