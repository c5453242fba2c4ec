"""What one studio is: its workspace, the folders it may open, and whether it is about to end.

Handlers take it as a parameter, ``studio: StudioDep``.
"""

from __future__ import annotations

import os
import re
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request
from pydantic import BaseModel

from lorasmith.advice.doctor.nvidia import CardWatch
from lorasmith.jobs.curating.open_dataset import OpenDatasets
from lorasmith.jobs.drawings.queue import Drawings
from lorasmith.jobs.engine.drawing import DrawingEngine
from lorasmith.jobs.engine.giving_way import GivingWay, jobs_of
from lorasmith.jobs.runs.records import ProblemRecord
from lorasmith.studio.paths import Roots

_NAME = re.compile(r"\w[\w.-]*(?:/\w[\w.-]*){0,3}")


@dataclass(slots=True)
class Studio:
    """
    Args:
        roots: what requests may name; the workspace is the first.
        closing: set as the server ends, so that streams end.
        cards: what is known of the graphics cards.
        datasets: those that pages have open.
        guard: has the process that draws and tags, while no job needs the device.
        drawings: what it is to draw.
    """

    roots: Roots
    closing: threading.Event = field(default_factory=threading.Event)
    cards: CardWatch = field(default_factory=CardWatch)
    datasets: OpenDatasets = field(init=False)
    guard: GivingWay = field(init=False)
    drawings: Drawings = field(init=False)

    def __post_init__(self) -> None:
        workspace = self.roots.workspace
        self.guard = GivingWay(DrawingEngine(workspace), jobs_of(workspace))
        self.drawings = Drawings(workspace, self.guard)
        self.datasets = OpenDatasets(self.roots.leads_inside)

    @property
    def workspace(self) -> Path:
        return self.roots.workspace

    def model(self, name: str) -> str:
        """A model's name, or its place on a hub; what is a file or folder must be one inside.

        Raises:
            OutsideError: it leads out.
        """
        if _NAME.fullmatch(name) and not os.path.lexists(self.workspace / name):
            return name
        return str(self.roots.resolve(name))

    def place(self, kind: str, text: str) -> str:
        """Where something is that a form names.

        Args:
            kind: "model", "new" of a file or folder that is to be made, else of what is there.

        Raises:
            OutsideError: it leads out.
        """
        if kind == "model":
            return self.model(text)
        found = self.roots.resolve(text)
        if kind == "new":
            found = self.roots.resolve_new(str(found.parent), found.name)
        return str(found)


class Problems(BaseModel):
    """The body of an answer that refuses: ``detail`` is all of it as one text."""

    detail: str
    problems: list[ProblemRecord]


def _studio_of(request: Request) -> Studio:
    studio: Studio = request.app.state.studio
    return studio


StudioDep = Annotated[Studio, Depends(_studio_of)]
