"""The one kind of rich console here, and how far long work has come: a bar in a terminal, lines now
and then in a file or a pipe. See :mod:`lorasmith.core.terminal`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import Progress, ProgressColumn, Task, TaskID
from rich.segment import Segment
from rich.text import Text

from lorasmith.core.terminal import clean
from lorasmith.core.text import duration_text

FIRST_LINE, LONGEST_PAUSE = 10.0, 60.0
"""Seconds until the first line without a terminal, and between two lines when it takes long."""

_BARS = (24, 16, 8, 0)  # Widths that are tried in turn.


class TextConsole(Console):
    """Shows every text as it is: no markup, no emoji codes, no colours of its own for numbers, and
    a sign in the place of each control character, wherever in a table or bar it stands. It goes
    where it is told, in a notebook too, where rich would make outputs of the cell of it."""

    def __init__(self, **options: Any) -> None:
        plain = {"markup": False, "emoji": False, "highlight": False, "force_jupyter": False}
        super().__init__(**(plain | options))

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            # Rich's own control segments move the cursor for bars.
            yield segment if segment.control else segment._replace(text=clean(segment.text))

    def on_broken_pipe(self) -> NoReturn:
        """
        Raises:
            BrokenPipeError: always, as ``print`` does; rich would end the program with status 1.
        """
        self.quiet = True
        raise BrokenPipeError


@dataclass(slots=True)
class _Work:
    """Something that goes on: where and when it began, and when the next line is due."""

    begin: int
    since: float
    pause: float
    due: float
    done: int
    total: int
    numbers: Sequence[str]
    is_shown: bool = False


class ProgressView:
    """
    Args:
        console: where it is shown.
        transient: the bar goes away when all is done.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        console: Console,
        *,
        transient: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console, self._clock = console, clock
        self._live = console.is_terminal and not console.is_dumb_terminal
        self._bar = Progress(_FittedLine(console), console=console, transient=transient)
        self._tasks: dict[str, TaskID] = {}
        self._work: dict[str, _Work] = {}
        self._started = False

    def show(self, what: str, done: int, total: int, numbers: Sequence[str] = ()) -> None:
        """``done`` of ``total`` units of ``what``; ``numbers`` are shown as far as there is room,
        the first before the others, and stay until others come. The rate counts from the last
        time that nothing was done yet."""
        if self._live:
            self._show_bar(what, done, total, numbers)
        else:
            self._show_line(what, done, total, numbers)

    def end(self, what: str) -> None:
        """``what`` is done, or given up."""
        work = self._work.pop(what, None)
        if work and work.is_shown and work.done >= work.total:
            took = duration_text(self._clock() - work.since)
            self._console.print(f"{what}  {work.done}/{work.total} in {took}", soft_wrap=True)
        if what in self._tasks:
            self._bar.remove_task(self._tasks.pop(what))

    def close(self) -> None:
        for what in list(self._work):
            self.end(what)
        if self._started:
            self._bar.stop()
            self._started = False

    def _show_bar(self, what: str, done: int, total: int, numbers: Sequence[str]) -> None:
        if not self._started:
            self._bar.start()
            self._started = True
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(what, total=total, completed=done, numbers=())
        self._bar.update(self._tasks[what], completed=done, total=total)
        if numbers:
            self._bar.update(self._tasks[what], numbers=tuple(numbers))

    def _show_line(self, what: str, done: int, total: int, numbers: Sequence[str]) -> None:
        now = self._clock()
        if what not in self._work or done < self._work[what].begin:
            due = now + FIRST_LINE
            self._work[what] = _Work(done, now, FIRST_LINE, due, done, total, numbers)
        work = self._work[what]
        if done == work.done == work.begin:  # Nothing yet: what took the time was something else.
            work.since = now
        work.done, work.total = done, total
        work.numbers = numbers or work.numbers
        if now < work.due or done >= total:
            return
        work.pause = min(2 * work.pause, LONGEST_PAUSE) if work.is_shown else work.pause
        work.due, work.is_shown = now + work.pause, True
        self._console.print(_line(what, work, now), soft_wrap=True)


def _line(what: str, work: _Work, now: float) -> str:
    """``drawing images  75/640 (11%)  3.4/s  2:45 left``"""
    parts = [what, f"{work.done}/{work.total} ({100 * work.done // max(1, work.total)}%)"]
    count, seconds = work.done - work.begin, now - work.since
    if count > 0 and seconds > 0:
        rate = count / seconds
        parts.append(f"{rate:.3g}/s" if rate >= 1 else f"{1 / rate:.3g} s each")
        parts.append(f"{duration_text((work.total - work.done) / rate)} left")
    return "  ".join([*parts, *work.numbers])


class _FittedLine(ProgressColumn):
    """The whole line of a bar: counts and time left are never cut, all else gives way to them."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def render(self, task: Task) -> Text:
        width = self._console.width - 1
        total = int(task.total or 0)
        counts = f"{int(task.completed)}/{total or '?'}"
        remaining = task.time_remaining
        ending = f"{'-:--' if remaining is None else duration_text(remaining)} left"
        numbers = list(task.fields.get("numbers", ()))
        share = task.completed / total if total else 0.0
        name = task.description
        for bar in _BARS:
            if _width(name, bar, counts, numbers, ending) <= width:
                break
        while numbers and _width(name, bar, counts, numbers, ending) > width:
            numbers.pop()
        spare = width - _width("", bar, counts, numbers, ending)
        name = name if len(name) <= spare else f"{name[: max(0, spare - 1)]}…"
        full = round(bar * min(1.0, share))
        line = Text(no_wrap=True, overflow="crop")
        line.append(f"{name} " if name else "")
        if bar:
            line.append("━" * full, "bar.finished" if share >= 1 else "bar.complete")
            line.append("━" * (bar - full), "bar.back")
            line.append(" ")
        line.append(counts, "progress.download")
        line.append("".join(f"  {each}" for each in numbers))
        line.append(f"  {ending}", "progress.remaining")
        return line


def _width(name: str, bar: int, counts: str, numbers: Sequence[str], ending: str) -> int:
    parts = [f"{name} ", "━" * bar + " " * bool(bar), counts, *(f"  {n}" for n in numbers)]
    return len("".join(parts)) + 2 + len(ending)
