"""Plans of trainings, advice, and LoRA files, of a process that has torch loaded."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lorasmith.core.errors import UserError
from lorasmith.core.events import Controls
from lorasmith.jobs.advice import AdviceAnswer, advice
from lorasmith.jobs.bootstrap import BootstrapRequest
from lorasmith.jobs.bootstraps.begin import PlannedBootstrap
from lorasmith.jobs.engine.process import ANSWER_SECONDS, IDLE_SECONDS, MODULE, Engine
from lorasmith.jobs.file_tools.details import FileDetails, details
from lorasmith.jobs.file_tools.figures import Figures, figures
from lorasmith.jobs.file_tools.forms import Verb, tool_request
from lorasmith.jobs.grid import GridRequest
from lorasmith.jobs.grids.forms import GridPlan, grid_plan
from lorasmith.jobs.plan import PlanAnswer, answer, plan_request
from lorasmith.jobs.request import run
from lorasmith.jobs.runs.records import problem_records

TOOL_SECONDS = 600.0
"""What a tool for LoRA files may take; longer ones are jobs."""
COMMAND = (sys.executable, "-m", MODULE, "planning")


class PlanningEngine(Engine):
    """Asks for plans::

    {"id": 3, "ask": "plan", "config": …, "preset": …, "values": {…}, "is_taken": false}
    {"id": 4, "ask": "advice", "folder": …, "model": …, "answers": {…}}
    {"id": 5, "ask": "file", "path": …}
    {"id": 6, "ask": "tool", "verb": "resize", "values": {…}, "dry_run": true}
    {"id": 7, "ask": "grid", "values": {…}}
    {"id": 8, "ask": "bootstrap", "values": {…}}
    """

    what = "the process that makes plans"
    hint = "`lorasmith train --plan` shows why"

    def __init__(
        self, folder: Path, command: Sequence[str] = COMMAND, *, idle: float = IDLE_SECONDS
    ) -> None:
        super().__init__(folder, command, idle=idle)

    def plan(
        self,
        values: Mapping[str, Any],
        *,
        config: Path | None = None,
        preset: str | None = None,
        is_taken: bool = False,
        timeout: float = ANSWER_SECONDS,
    ) -> PlanAnswer:
        """What training with these settings would do.

        Args:
            values: settings by path, JSON values.
            config: a settings file, or the folder of images.
            is_taken: a job has the device; nothing is put on it.
            timeout: seconds that an answer may take, once the process has begun.

        Raises:
            RunError: the process died twice, or gave no answer in time.
        """
        question = {
            "ask": "plan",
            "config": str(config) if config is not None else None,
            "preset": preset,
            "values": dict(values),
            "is_taken": is_taken,
        }
        return PlanAnswer.model_validate(self.ask(question, timeout=timeout))

    def advice(
        self,
        folder: Path,
        model: str,
        answers: Mapping[str, str],
        *,
        timeout: float = ANSWER_SECONDS,
    ) -> AdviceAnswer:
        """What suits the pictures of a folder; as :func:`lorasmith.jobs.advice.advice`.

        Raises:
            RunError: as :meth:`plan`.
        """
        question = {
            "ask": "advice", "folder": str(folder), "model": model, "answers": dict(answers),
        }  # fmt: skip
        return AdviceAnswer.model_validate(self.ask(question, timeout=timeout))

    def file(self, path: Path) -> FileDetails:
        """What a LoRA file or checkpoint is; as :func:`.file_tools.details.details`.

        Raises:
            UserError: it is neither, or damaged; RunError: as :meth:`plan`.
        """
        question = {"ask": "file", "path": str(path)}
        return FileDetails.model_validate(self.ask(question, timeout=TOOL_SECONDS))

    def tool(self, verb: Verb, values: Mapping[str, Any], *, dry_run: bool) -> Figures:
        """What a tool for LoRA files would do, or does, and how near the result is.

        Args:
            values: as :func:`.file_tools.forms.tool_request` takes them.

        Raises:
            UserError: with everything that is wrong; nothing is written. RunError: as :meth:`plan`.
        """
        question = {"ask": "tool", "verb": verb, "values": dict(values), "dry_run": dry_run}
        # What is written once is there when it is tried again.
        answer = self.ask(question, timeout=TOOL_SECONDS, tries=2 if dry_run else 1)
        return Figures.model_validate(answer)

    def grid(self, values: Mapping[str, Any], *, timeout: float = ANSWER_SECONDS) -> GridPlan:
        """What drawing a grid would do.

        Args:
            values: of a :class:`.GridRequest`, by field.

        Raises:
            UserError: with everything that is wrong; RunError: as :meth:`plan`.
        """
        question = {"ask": "grid", "values": dict(values)}
        return GridPlan.model_validate(self.ask(question, timeout=timeout))

    def bootstrap(self, values: Mapping[str, Any]) -> PlannedBootstrap:
        """What a new bootstrap would do; nothing is written.

        Args:
            values: of a :class:`.BootstrapRequest`, JSON-ready.

        Raises:
            UserError: with everything that is wrong. RunError: as :meth:`plan`.
        """
        answer = self.ask({"ask": "bootstrap", "values": dict(values)})
        return PlannedBootstrap.model_validate(answer)


def answer_plan(question: Mapping[str, Any]) -> Any:
    """In the process: the answer to one question, JSON-ready."""
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


def answer_advice(question: Mapping[str, Any]) -> Any:
    told = advice(Path(question["folder"]), question["model"], question["answers"])
    return told.model_dump(mode="json")


def answer_file(question: Mapping[str, Any]) -> Any:
    return details(Path(question["path"])).model_dump(mode="json")


def answer_tool(question: Mapping[str, Any], controls: Controls) -> Any:
    request = tool_request(question["verb"], question["values"], dry_run=question["dry_run"])
    return figures(request, run(request, controls=controls)).model_dump(mode="json")


def answer_grid(question: Mapping[str, Any]) -> Any:
    return grid_plan(GridRequest.read(question["values"])).model_dump(mode="json")


def answer_bootstrap(question: Mapping[str, Any], controls: Controls) -> Any:
    request = BootstrapRequest.read({**question["values"], "dry_run": True})
    return run(request, controls=controls).to_json()["plan"]
