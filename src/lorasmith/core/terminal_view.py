"""A long job as a person watches it in a terminal: an observer of its progress and notices."""

from __future__ import annotations

from rich.console import Console

from lorasmith.core.events import Event, NextSteps, Notice, Progress, SettingsConverted
from lorasmith.core.progress import ProgressView


class Terminal:
    """A bar, or lines now and then, for what goes on, and a line for what is worth one.

    A job with events of its own shows them in a class that derives from this one.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = ProgressView(console)

    def __call__(self, event: Event) -> None:
        match event:
            case Progress():
                self._progress.show(event.what, event.done, event.total)
                if event.done >= event.total:
                    self._progress.end(event.what)
            case Notice(level="warning"):
                self._warn(event.text)
            case Notice():
                self._console.print(event.text, highlight=False, markup=False)
            case NextSteps() | SettingsConverted():
                for line in event.lines:  # Commands and settings, to be copied: never broken.
                    self._console.print(line, highlight=False, markup=False, soft_wrap=True)
            case _:
                pass

    def _warn(self, text: str) -> None:
        self._console.print(text, style="yellow", highlight=False, markup=False)

    def close(self) -> None:
        self._progress.close()
