"""``lorasmith advise``: asks, and shows what is advised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from lorasmith.cli.dataset_changes import has_terminal
from lorasmith.cli.options import command_for, run_shown
from lorasmith.core.events import Controls, Observer
from lorasmith.core.terminal import clean, echo, echo_json
from lorasmith.jobs.advise import AdviseRequest, Examination

if TYPE_CHECKING:
    from lorasmith.advice.advise.advise import Advised
    from lorasmith.advice.advise.questions import Question


@dataclass(frozen=True)
class _Examining:
    request: AdviseRequest

    def run(self, observer: Observer, controls: Controls) -> Examination:
        return self.request.examine(observer, controls)


@dataclass(frozen=True)
class _Advising:
    request: AdviseRequest
    examination: Examination

    def run(self, observer: Observer, controls: Controls) -> Advised:
        return self.request.advise(self.examination, observer, controls)


@command_for(AdviseRequest)
@click.option("--yes", "-y", is_flag=True, help="Ask nothing: take what is proposed.")
@click.option("--json", "as_json", is_flag=True, help="Print all of it, as JSON.")
def advise(request: AdviseRequest, yes: bool, as_json: bool) -> None:
    examination = run_shown(_Examining(request), to_stderr=True)
    if not yes and not as_json and has_terminal():
        request = _asked(request, examination)
    advised = run_shown(_Advising(request, examination), to_stderr=True)
    if as_json:
        echo_json(advised.to_json())
    elif request.out is None:
        echo(advised.text, end="")
    else:
        for line in advised.summary:
            echo(clean(line, lines=False))
        count = len(advised.lines)
        echo(f"{request.out}: {count} settings; lorasmith train {request.out}")


def _asked(request: AdviseRequest, examination: Examination) -> AdviseRequest:
    """The request with the answers to what was left open."""
    answers = dict(request.values())
    for question in examination.questions:
        if answers[question.name] is not None:
            continue
        if question.name == "difficulty" and answers["kind"] == "style":
            continue  # Styles have none.
        answers[question.name] = _ask(question)
    return request.model_copy(update=answers)


def _ask(question: Question) -> str:
    echo(f"\n{question.text}")
    for choice, meaning in question.choices.items():
        echo(f"  {choice:10} {meaning}")
    proposed = clean(question.because, lines=False)
    echo(f"Proposed: {question.proposed} ({proposed})")
    choices = click.Choice(list(question.choices), case_sensitive=False)
    answer = click.prompt(
        "Your choice", default=question.proposed, type=choices, show_choices=False
    )
    return str(answer)
