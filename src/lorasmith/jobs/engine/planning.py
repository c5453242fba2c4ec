"""Plans of trainings, advice, and LoRA files, asked of a process that has torch loaded; what it
answers is in :mod:`.plan`.

What answers are of is imported when it is asked for: a server asks for few of them, and late.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorasmith.jobs.engine.process import ANSWER_SECONDS, IDLE_SECONDS, MODULE, Engine

if TYPE_CHECKING:
    from lorasmith.jobs.advice import AdviceAnswer
    from lorasmith.jobs.bootstraps.begin import PlannedBootstrap
    from lorasmith.jobs.file_tools.details import FileDetails
    from lorasmith.jobs.file_tools.figures import Figures
    from lorasmith.jobs.file_tools.forms import Verb
    from lorasmith.jobs.grids.forms import GridPlan
    from lorasmith.jobs.plan import PlanAnswer

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
        from lorasmith.jobs.plan import PlanAnswer

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
        from lorasmith.jobs.advice import AdviceAnswer

        question = {
            "ask": "advice", "folder": str(folder), "model": model, "answers": dict(answers),
        }  # fmt: skip
        return AdviceAnswer.model_validate(self.ask(question, timeout=timeout))

    def file(self, path: Path) -> FileDetails:
        """What a LoRA file or checkpoint is; as :func:`.file_tools.details.details`.

        Raises:
            UserError: it is neither, or damaged; RunError: as :meth:`plan`.
        """
        from lorasmith.jobs.file_tools.details import FileDetails

        question = {"ask": "file", "path": str(path)}
        return FileDetails.model_validate(self.ask(question, timeout=TOOL_SECONDS))

    def tool(self, verb: Verb, values: Mapping[str, Any], *, dry_run: bool) -> Figures:
        """What a tool for LoRA files would do, or does, and how near the result is.

        Args:
            values: as :func:`.file_tools.forms.tool_request` takes them.

        Raises:
            UserError: with everything that is wrong; nothing is written. RunError: as :meth:`plan`.
        """
        from lorasmith.jobs.file_tools.figures import Figures

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
        from lorasmith.jobs.grids.forms import GridPlan

        question = {"ask": "grid", "values": dict(values)}
        return GridPlan.model_validate(self.ask(question, timeout=timeout))

    def bootstrap(self, values: Mapping[str, Any]) -> PlannedBootstrap:
        """What a new bootstrap would do; nothing is written.

        Args:
            values: of a :class:`.BootstrapRequest`, JSON-ready.

        Raises:
            UserError: with everything that is wrong. RunError: as :meth:`plan`.
        """
        from lorasmith.jobs.bootstraps.begin import PlannedBootstrap

        answer = self.ask({"ask": "bootstrap", "values": dict(values)})
        return PlannedBootstrap.model_validate(answer)
