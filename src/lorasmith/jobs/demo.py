"""The demo as a request, so that it can be a job of the queue like any other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lorasmith.core.events import Controls, Observer

FOLDER = "demo"
"""Where it goes, if nothing else is said."""
PICTURE = "what-it-learned.png"
"""In its folder: the image that it ends with."""


@dataclass(frozen=True, slots=True)
class DemoRequest:
    """
    Args:
        out: folder for everything that it makes.
    """

    out: Path

    def run(self, observer: Observer, controls: Controls) -> Path:
        """
        Returns:
            The image of what was learned.

        Raises:
            RunError: the folder holds files that are not the demo's.
            Stopped: the controls asked for it.
        """
        from lorasmith.demo.showcase import run_demo

        return run_demo(self.out, observer, controls)
