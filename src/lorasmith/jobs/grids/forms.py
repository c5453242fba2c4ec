"""A new grid as a form: what can vary, and the request of what is filled in. No torch."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from lorasmith.core.errors import Problem, SettingsError, UserError
from lorasmith.grids.axis_types import AXIS_TYPES, axis_type_of
from lorasmith.grids.snapshots import is_part, split_run
from lorasmith.grids.values import split_list
from lorasmith.jobs.file_tools.forms import Names, Place, given_values
from lorasmith.jobs.grid import STRENGTHS, GridRequest
from lorasmith.jobs.queue.ledger import Ledger
from lorasmith.jobs.queue.submit import free_folder
from lorasmith.jobs.request import named_fields, run
from lorasmith.jobs.runs.records import ProblemRecord, problem_records

AXES = ("x", "y", "z")
_NAMES: dict[str, Names] = {
    **dict.fromkeys(("lora_dir", "embedding_dir", "wildcard_dir", "init"), "file"),
    **dict.fromkeys(("model", "vae"), "model"),
    "out": "new",
}
# What an axis' values are paths of.
_PATH_AXES = ("lora", "checkpoint", "vae", "triggers")
_POSITIONS = re.compile(r"[-\d\s]*:?[-\d\s]*")


class AxisChoice(BaseModel):
    """A thing that can vary.

    Args:
        name: as a request has it: ``NAME=VALUES``.
        example: values.
        tag: it changes a LoRA's tag; ``NAME@LORA=VALUES`` says which of several.
    """

    name: str
    title: str
    example: str
    tag: bool


class GridForm(BaseModel):
    """
    Args:
        strengths: of a run's epochs by strengths, by itself.
    """

    axes: list[AxisChoice]
    strengths: str


def grid_form() -> GridForm:
    axes = [
        AxisChoice(name=kind.name, title=kind.title, example=kind.example, tag=kind.tag)
        for kind in AXIS_TYPES
    ]
    return GridForm(axes=axes, strengths=STRENGTHS)


def grid_request(
    values: Mapping[str, Any], base: Path, ledger: Ledger, place: Place
) -> GridRequest:
    """The request of a form.

    Args:
        values: by field of a :class:`.GridRequest`; ``None`` and "" leave one as it is by itself.
        base: the project's folder: its LoRAs are known by name, and a grid that is of no run and
            names no folder goes into one of its own in ``grids``.
        ledger: whose jobs may be about to make others there.
        place: may raise a UserError.

    Raises:
        UserError: with everything that is wrong, each under its field's name.
    """
    found = given_values(values)
    model = partial(place, "model")
    work: dict[str, Callable[[str], str]] = {
        **{name: partial(place, kind) for name, kind in _NAMES.items()},
        **dict.fromkeys(AXES, lambda text: placed_axis(text, model)),
        "epochs": lambda text: _placed_run(text, model),
    }
    problems: list[Problem] = []
    kind: type[UserError] = SettingsError
    for name, work_out in work.items():
        if name in found:
            try:
                found[name] = work_out(str(found[name]))
            except UserError as error:
                kind = type(error)
                problems += [
                    Problem(name, str(replace(p, hint="")), p.hint) for p in error.problems
                ]
    if problems:
        raise kind(problems)
    if _names_loras(found):
        found.setdefault("lora_dir", str(base))
    if "epochs" not in found:
        numbered = (base / "grids" / f"grid-{number}" for number in itertools.count(1))
        found.setdefault("out", str(free_folder(ledger, numbered)))
    return GridRequest.read(found)


def _names_loras(values: Mapping[str, Any]) -> bool:
    texts = [str(value) for value in values.values()]
    kinds = [axis_type_of(str(values[name])) for name in AXES if name in values]
    return any("<lora:" in text for text in texts) or any(
        kind is not None and kind.name == "lora" for kind in kinds
    )


def placed_axis(text: str, place: Callable[[str], str]) -> str:
    """An axis with the paths that its values are in their places; what is no axis stays as it is.

    Raises:
        UserError: one is nowhere that may be opened.
    """
    name, equals, listed = text.partition("=")
    kind = axis_type_of(text)
    if kind is None or not equals or kind.name not in (*_PATH_AXES, "epoch"):
        return text
    try:
        items = split_list(listed)
    except ValueError:  # Which is said when it is read.
        return text
    placed: list[str] = []
    for number, item in enumerate(items):
        if kind.name == "epoch":
            of_the_first = number > 0 and is_part(item)
            placed.append(item if of_the_first else _placed_run(item, place))
        elif kind.name == "triggers" and number > 0 and _POSITIONS.fullmatch(item):
            placed.append(item)
        else:
            placed.append(place(item))
    sink = io.StringIO()
    csv.writer(sink, lineterminator="").writerow(placed)
    return f"{name}={sink.getvalue()}"


def _placed_run(text: str, place: Callable[[str], str]) -> str:
    run, part = split_run(text)
    return f"{place(run)}:{part}" if part else place(run)


def at_fields(request: GridRequest | None, error: UserError) -> list[ProblemRecord]:
    """An error's problems, each at its field: "x" for what stands at "x epoch".

    Args:
        request: what was asked; ``None`` where it could not be read.
    """
    of_a_run = request is not None and request.epochs is not None
    sides = {"x": "epochs", "y": "strengths"} if of_a_run else {}

    def field(where: str) -> str:
        first, _, more = where.partition(" ")
        return sides.get(first, first) if more and first in AXES else where

    named = named_fields(GridRequest, error.problems)
    return problem_records(replace(problem, where=field(problem.where)) for problem in named)


class GridPlan(BaseModel):
    """What drawing a grid would do.

    Args:
        to_draw, kept: images that are missing, and that are there.
        models, loras: times that a base model is loaded, and other LoRA files are put in.
    """

    folder: str
    columns: int
    rows: int
    pages: int
    to_draw: int
    kept: int
    models: int
    loras: int


def grid_plan(request: GridRequest) -> GridPlan:
    """Takes torch.

    Raises:
        UserError: with everything that is wrong with the request.
    """
    report = run(request.model_copy(update={"dry_run": True}))
    columns, rows, pages = report.size
    return GridPlan(
        folder=str(report.folder),
        columns=columns,
        rows=rows,
        pages=pages,
        to_draw=report.missing,
        kept=report.images.kept,
        models=report.images.switches.models,
        loras=report.images.switches.loras,
    )
