"""In the process of an engine: plans of trainings, grids and bootstraps, advice, and LoRA files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lorasmith.core.errors import UserError
from lorasmith.core.events import Controls
from lorasmith.jobs.advice import advice
from lorasmith.jobs.bootstrap import BootstrapRequest
from lorasmith.jobs.file_tools.details import details
from lorasmith.jobs.file_tools.figures import figures
from lorasmith.jobs.file_tools.forms import tool_request
from lorasmith.jobs.grid import GridRequest
from lorasmith.jobs.grids.forms import grid_plan
from lorasmith.jobs.plan import PlanAnswer, answer, plan_request
from lorasmith.jobs.request import run
from lorasmith.jobs.runs.records import problem_records

Question = Mapping[str, Any]
Tell = Callable[[dict[str, Any]], None]


def answer_plan(question: Question, tell: Tell, controls: Controls) -> Any:
    config = question["config"]
    try:
        request = plan_request(
            question["values"],
            Path(config) if config is not None else None,
            question["preset"],
        )
    except UserError as error:
        wrong = PlanAnswer(ok=False, problems=problem_records(error.problems))
        return wrong.model_dump(mode="json")
    return answer(request, is_taken=question.get("is_taken", False)).model_dump(mode="json")


def answer_advice(question: Question, tell: Tell, controls: Controls) -> Any:
    told = advice(Path(question["folder"]), question["model"], question["answers"])
    return told.model_dump(mode="json")


def answer_file(question: Question, tell: Tell, controls: Controls) -> Any:
    return details(Path(question["path"])).model_dump(mode="json")


def answer_tool(question: Question, tell: Tell, controls: Controls) -> Any:
    request = tool_request(question["verb"], question["values"], dry_run=question["dry_run"])
    return figures(request, run(request, controls=controls)).model_dump(mode="json")


def answer_grid(question: Question, tell: Tell, controls: Controls) -> Any:
    return grid_plan(GridRequest.read(question["values"])).model_dump(mode="json")


def answer_bootstrap(question: Question, tell: Tell, controls: Controls) -> Any:
    request = BootstrapRequest.read({**question["values"], "dry_run": True})
    return run(request, controls=controls).to_json()["plan"]


ANSWERS = {
    "plan": answer_plan,
    "advice": answer_advice,
    "file": answer_file,
    "tool": answer_tool,
    "grid": answer_grid,
    "bootstrap": answer_bootstrap,
}
"""By what is asked; each is JSON-ready."""
