"""What one studio is: its workspace, the folders it may open, and whether it is about to end.

Handlers take it as a parameter, ``studio: StudioDep``.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request
from pydantic import BaseModel

from lorasmith.advice.doctor.nvidia import CardWatch
from lorasmith.core.errors import Problem
from lorasmith.jobs.curating.open_dataset import OpenDatasets
from lorasmith.studio.paths import Roots


@dataclass(slots=True)
class Studio:
    """
    Args:
        roots: what requests may name; the workspace is the first.
        closing: set as the server ends, so that streams end.
        cards: what is known of the graphics cards.
        datasets: those that pages have open.
    """

    roots: Roots
    closing: threading.Event = field(default_factory=threading.Event)
    cards: CardWatch = field(default_factory=CardWatch)
    datasets: OpenDatasets = field(init=False)

    def __post_init__(self) -> None:
        self.datasets = OpenDatasets(lambda path: Path(os.path.realpath(path)) in self.roots)

    @property
    def workspace(self) -> Path:
        return self.roots.workspace


class ProblemOut(BaseModel):
    """One thing that is wrong, as the library says it."""

    where: str
    what: str
    hint: str

    @classmethod
    def of(cls, problem: Problem) -> ProblemOut:
        return cls(where=problem.where, what=problem.what, hint=problem.hint)


class Problems(BaseModel):
    """The body of an answer that refuses: ``detail`` is all of it as one text."""

    detail: str
    problems: list[ProblemOut]


def _studio_of(request: Request) -> Studio:
    studio: Studio = request.app.state.studio
    return studio


StudioDep = Annotated[Studio, Depends(_studio_of)]
