"""What is said of runs to those who watch them: JSON-ready, and valid whatever the files held."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict

from lorasmith.core.errors import Problem
from lorasmith.jobs.runs.logs import plain_text


class Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class ProblemRecord(Record):
    """As :class:`lorasmith.core.errors.Problem`."""

    where: str
    what: str
    hint: str = ""

    @classmethod
    def of(cls, problem: Problem) -> Self:
        texts = (problem.where, problem.what, problem.hint)
        where, what, hint = map(plain_text, texts)
        return cls(where=where, what=what, hint=hint)


def problem_records(problems: Iterable[Problem]) -> list[ProblemRecord]:
    """Each once."""
    return [ProblemRecord.of(problem) for problem in dict.fromkeys(problems)]


class RunSummary(Record):
    """One run in a list of them.

    Args:
        state: "running", "preparing", "done", "stopped", "trouble" or "killed".
        step, steps: optimizer steps that are logged, and of the whole run.
        loss: the average of the recent ones.
        started: when its settings were written, in Unix seconds.
        kind: what is trained, as ``train.kind`` has it: "lora", "embedding", "full", "slider" …
        has_strength: whether who draws with its files says how much of them to apply.
        model: the base model, as the settings name it.
        lora: the result, else the newest snapshot; "" where there is none.
        cover: the newest sample image of the first prompt; "" where there is none.
        seconds_left: of a running one's steps.
        picked: what ``lorasmith pick`` says to keep, as "epoch 48"; "" where it was not asked.
    """

    path: str
    name: str
    state: str
    step: int = 0
    steps: int | None = None
    loss: float | None = None
    started: float | None = None
    kind: str = ""
    has_strength: bool = True
    model: str = ""
    lora: str = ""
    cover: str = ""
    seconds_left: float | None = None
    picked: str = ""


class Difference(Record):
    """A setting that is not the same in two places.

    Args:
        path: as on the command line, ``optimizer.lr``.
        value, other: here and there, JSON-ready; ``None`` for "none".
    """

    path: str
    value: Any = None
    other: Any = None


class LoraOfRun(Record):
    """A LoRA file of a run; ``step`` and ``epoch`` (from 1) as far as the file says them.

    Args:
        judged: what pick says of it: "under", "well" or "over" for trained; "" for nothing.
        picked: it is what pick says to keep.
    """

    path: str
    name: str
    step: int | None = None
    epoch: int | None = None
    final: bool = False
    bytes: int = 0
    judged: str = ""
    picked: bool = False


Speaker = Literal["training", "watchdog", "best", "pick", "request", "rate"]


class Sentence(Record):
    """Something that was found or done, in words.

    Args:
        by: who says it; "best" is ``train.stop = "best"``.
        step: after which; ``None`` where it is of no step.
    """

    by: Speaker
    text: str
    step: int | None = None
    warning: bool = False


class RunDetail(RunSummary):
    """Everything about one run but its curves and images.

    Args:
        numbers: of the last logged step: epoch, rates by group, speed and so on.
        settings: value by path; empty where the file cannot be read, see ``problems``.
        settings_text: the settings file itself.
        differs_from_default: each setting that is not its default, ``other`` being the default.
        changed: what was changed on the way, a line each.
        waiting: requests that were not done yet.
        pick_chart, pick_sheet: images that ``lorasmith pick`` made, "" where it did not.
        problems: what of the folder cannot be read.
    """

    numbers: dict[str, Any] = {}
    info: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    settings_text: str = ""
    differs_from_default: list[Difference] = []
    loras: list[LoraOfRun] = []
    says: list[Sentence] = []
    changed: list[str] = []
    waiting: int = 0
    resume: str = ""
    pick_chart: str = ""
    pick_sheet: str = ""
    problems: list[ProblemRecord] = []


class RunMetrics(Record):
    """Curves over the steps.

    Args:
        columns: ``step``, and for each curve as many values, ``None`` for a gap.
        rows: logged steps in all, more than are sent where they were brought together.
        last_step: what to ask for more after.
    """

    columns: dict[str, list[float | None]]
    rows: int
    last_step: int


class SampleImage(Record):
    """An image that a run drew while training.

    Args:
        step: after which; 0 is the base model alone.
        epoch: that ended there, from 1; ``None`` in the middle of one.
        index: of its prompt, from 0.
        version: another one whenever the file is; for its address.
    """

    path: str
    step: int | None
    epoch: int | None
    index: int
    prompt: str
    seed: int
    version: str


class RunEvents(Record):
    """Events from a number on; ``next`` is that of the first that is still to come."""

    events: list[dict[str, Any]]
    next: int
