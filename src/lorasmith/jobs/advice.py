"""What `lorasmith advise` says, setting by setting, as values for programs and forms.

Importing this imports no torch; advice does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from lorasmith.core.errors import UserError
from lorasmith.core.events import Controls, ignore
from lorasmith.jobs.advise import AdviseRequest
from lorasmith.jobs.runs.records import ProblemRecord, problem_records

if TYPE_CHECKING:
    from lorasmith.advice.advise.questions import Question


class AdvicePart(BaseModel):
    model_config = ConfigDict(frozen=True)


class AdviceSource(AdvicePart):
    """Where advice is from: a guide, paper or page, with its address, or ""."""

    name: str
    title: str
    address: str


class AdvisedSetting(AdvicePart):
    """One setting's value, JSON-ready, and why."""

    value: Any
    reason: str
    source: AdviceSource


class AdviceQuestion(AdvicePart):
    """What pictures do not tell.

    Args:
        name: of the answer.
        choices: with what each means.
        proposed: one of them, which ``because`` speaks for.
    """

    name: str
    text: str
    choices: dict[str, str]
    proposed: str
    because: str


class AdviceAnswer(AdvicePart):
    """
    Args:
        settings: by path; those of which there is more to say than that they were given, or
            why their default is as it is.
        questions: that the pictures leave open; the advice goes by what is proposed, or answered.
        summary: lines for people.
        problems: why there is no advice.
    """

    ok: bool
    settings: dict[str, AdvisedSetting] = {}
    questions: list[AdviceQuestion] = []
    summary: list[str] = []
    problems: list[ProblemRecord] = []


def advice(folder: Path, model: str, answers: Mapping[str, str]) -> AdviceAnswer:
    """What suits the pictures of a folder on a base model and this computer. Takes torch.

    Args:
        answers: to questions, by name.
    """
    from lorasmith.advice.advise.sources import DEFAULT, GIVEN

    try:
        request = AdviseRequest.read({**answers, "folder": str(folder), "model": model})
        controls = Controls()
        examination = request.examine(ignore, controls)
        advised = request.advise(examination, ignore, controls)
    except UserError as error:
        return AdviceAnswer(ok=False, problems=problem_records(error.problems))
    lines = advised.to_json()["settings"]
    return AdviceAnswer(
        ok=True,
        settings={
            path: AdvisedSetting(
                value=line["value"],
                reason=line["reason"],
                source=AdviceSource(**line["source"]),
            )
            for path, line in lines.items()
            if line["source"]["name"] not in (DEFAULT.name, GIVEN.name)
        },
        questions=[_question(one) for one in examination.questions],
        summary=list(advised.summary),
    )


def _question(one: Question) -> AdviceQuestion:
    return AdviceQuestion(**{**asdict(one), "choices": dict(one.choices)})
