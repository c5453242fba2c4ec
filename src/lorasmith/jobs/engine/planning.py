"""Plans of trainings and advice, of a process that has torch loaded."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lorasmith.core.errors import UserError
from lorasmith.jobs.advice import AdviceAnswer, advice
from lorasmith.jobs.engine.process import ANSWER_SECONDS, IDLE_SECONDS, MODULE, Engine
from lorasmith.jobs.plan import PlanAnswer, answer, plan_request, problem_records

COMMAND = (sys.executable, "-m", MODULE, "planning")


class PlanningEngine(Engine):
    """Asks for plans::

    {"id": 3, "ask": "plan", "config": …, "preset": …, "values": {…}}
    {"id": 4, "ask": "advice", "folder": …, "model": …, "answers": {…}}
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
        timeout: float = ANSWER_SECONDS,
    ) -> PlanAnswer:
        """What training with these settings would do.

        Args:
            values: settings by path, JSON values.
            config: a settings file, or the folder of images.
            timeout: seconds that an answer may take, once the process has begun.

        Raises:
            RunError: the process died twice, or gave no answer in time.
        """
        question = {
            "ask": "plan",
            "config": str(config) if config is not None else None,
            "preset": preset,
            "values": dict(values),
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
    return answer(request).model_dump(mode="json")


def answer_advice(question: Mapping[str, Any]) -> Any:
    told = advice(Path(question["folder"]), question["model"], question["answers"])
    return told.model_dump(mode="json")
