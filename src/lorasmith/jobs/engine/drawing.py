"""Drawings and tags of single pictures, of a process that keeps the models loaded."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lorasmith.jobs.engine.process import IDLE_SECONDS, MODULE, Asking, Engine, Told

COMMAND = (sys.executable, "-m", MODULE, "drawing")
TAG_SECONDS = 600.0
"""A tagger may first have to be fetched."""
TURN_SECONDS = 5.0
"""How long a picture that is to be tagged waits for one that is being drawn."""


class DrawingEngine(Engine):
    """Asks for drawings::

    {"id": 3, "ask": "draw", "request": {…}, "previews": FOLDER}
    {"id": 4, "ask": "load", "request": {…}}
    {"id": 5, "ask": "tag", "picture": …, "root": …, "tagger": …, "device": …, "least": 0.1}
    """

    what = "the process that draws"
    hint = (
        "if it was ended for lack of memory, draw smaller or take a smaller model; "
        "`lorasmith doctor` looks for other causes"
    )

    def __init__(
        self, folder: Path, command: Sequence[str] = COMMAND, *, idle: float = IDLE_SECONDS
    ) -> None:
        super().__init__(folder, command, idle=idle)

    def draw(
        self,
        request: Mapping[str, Any],
        previews: Path | None,
        told: Told,
        *,
        asking: Asking | None = None,
        first: Callable[[], object] = lambda: None,
    ) -> list[Path]:
        """The pictures of a :class:`.GenerateRequest`, whose values ``request`` has.

        Args:
            previews: a folder for previews; see :meth:`.engine.draw.Drawer.draw`.
            told: called with events as they come.
            asking, first: as of :meth:`ask`.

        Raises:
            GivenUpError: the process was ended for a job.
            UserError: what is wrong with the request; RunError: the process died.
            Stopped: by :meth:`stop`.
        """
        question = {
            "ask": "draw",
            "request": dict(request),
            "previews": str(previews) if previews is not None else "",
        }
        # What kills the process once does so twice.
        answer = self.ask(question, timeout=None, told=told, tries=1, asking=asking, first=first)
        return [Path(path) for path in answer["images"]]

    def load(
        self, request: Mapping[str, Any], *, first: Callable[[], object] = lambda: None
    ) -> None:
        """Load a request's model, for a drawing that will be asked for; nothing where something
        else is being worked on.

        Raises:
            UserError: as :meth:`draw`; BusyError: something else is.
        """
        question = {"ask": "load", "request": dict(request)}
        self.ask(question, timeout=None, tries=1, wait=0, first=first)

    def tag(
        self,
        picture: Path,
        root: Path,
        tagger: str,
        *,
        device: str = "auto",
        least: float = 0.1,
        first: Callable[[], object] = lambda: None,
    ) -> dict[str, Any]:
        """As :meth:`.engine.tag.KeptTagger.tag`.

        Raises:
            UserError: there is no such tagger, or the picture cannot be read.
            BusyError: a picture is being drawn.
        """
        question = {
            "ask": "tag", "picture": str(picture), "root": str(root), "tagger": tagger,
            "device": device, "least": least,
        }  # fmt: skip
        answer: dict[str, Any] = self.ask(
            question, timeout=TAG_SECONDS, wait=TURN_SECONDS, first=first
        )
        return answer
