"""The request for advised settings."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator

from lorasmith.config.values import UserPath
from lorasmith.core.errors import Problem, SettingsError
from lorasmith.core.events import Controls, Observer
from lorasmith.core.files import write_text
from lorasmith.core.text import parse_number
from lorasmith.jobs.request import JobRequest, option

if TYPE_CHECKING:
    from lorasmith.advice.advise.advise import Advised
    from lorasmith.advice.advise.case import Case
    from lorasmith.advice.advise.questions import Question

_UNITS = {"gb": 1024**3, "gib": 1024**3, "g": 1024**3, "": 1024**3, "mb": 1024**2, "mib": 1024**2}
_SMALLEST, _LARGEST = 1024**3, 1024**4


def card_memory(value: Any) -> Any:
    """``8GB``, ``8`` or ``8192 MB``, as cards are called, to bytes."""
    if value is None or isinstance(value, bool):
        return value
    match = re.fullmatch(r"\s*([\d.,]+)\s*([a-zA-Z]*)\s*", str(value))
    if match is None or match[2].lower() not in _UNITS:
        raise ValueError(f"{value!r} is not the memory of a GPU; write it as 8GB")
    size = round(parse_number(match[1]) * _UNITS[match[2].lower()])
    if not _SMALLEST <= size <= _LARGEST:
        raise ValueError(f"{value!r} is out of range: from 1GB to 1024GB")
    return size


CardMemory = Annotated[int, BeforeValidator(card_memory)]


@dataclass(frozen=True)
class Examination:
    """
    Args:
        questions: that the dataset leaves open, each with what is proposed.
    """

    case: Case
    questions: list[Question]


class AdviseRequest(JobRequest):
    """Propose settings for the pictures in DIR, a base model and a GPU, each with its reason.

    Looks at pictures and captions, asks at most three questions (none with --yes or without a
    terminal, where what is proposed is taken), and writes a settings file for `lorasmith train`.
    Each line says why it is so and by what source. Loads no model and trains nothing.
    """

    verb: ClassVar = "advise"

    folder: UserPath = option(..., "The training pictures", metavar="DIR", positional=True)
    model: str = option("demo", "Base model", metavar="demo|PATH|HUB_ID")
    kind: Literal["character", "style", "concept", "object"] | None = option(
        None, "What is to be learned", default_text="as the captions tell"
    )
    difficulty: Literal["A", "B", "C", "D", "E", "F", "G", "H", "I"] | None = option(
        None,
        "How hard a character or an object is to draw, from ordinary people (A) to eldritch "
        "abominations (I); docs/advise.md has all",
        default_text="as the captions tell",
    )
    use: Literal["balanced", "faithful", "flexible", "combined", "small"] | None = option(
        None,
        "What the LoRA is for: as like as can be (faithful), other clothes and styles (flexible), "
        "beside other LoRAs (combined), a small file",
        default_text="balanced",
    )
    gpu: CardMemory | None = option(
        None,
        "Memory of the GPU that it is to be trained on, such as 8GB",
        kind="memory",
        metavar="8GB",
        default_text="this machine's",
    )
    out: UserPath | None = option(
        None, "File to write", metavar="TRAIN.toml", default_text="print it"
    )
    overwrite: bool = option(False, "Replace the file of --out, if it exists")

    def examine(self, observer: Observer, controls: Controls) -> Examination:
        """What the pictures are, and what to ask.

        Raises:
            UserError: with everything that would stop a run on them.
        """
        from lorasmith.advice.advise.case import examine
        from lorasmith.advice.advise.questions import questions_of

        if self.out is not None and os.path.exists(self.out) and not self.overwrite:
            hint = "choose another name, remove it first, or add --overwrite"
            raise SettingsError(Problem(str(self.out), "exists already", hint))
        case = examine(self.folder, self.model, observer=observer, controls=controls)
        return Examination(case, questions_of(case))

    def advise(self, examination: Examination, observer: Observer, controls: Controls) -> Advised:
        """The advice by the answers that were given; it is written where it is to be."""
        from lorasmith.advice.advise.advise import advise
        from lorasmith.advice.advise.machine import target_of

        case = examination.case
        answers = {q.name: value for q in examination.questions if (value := getattr(self, q.name))}
        target = target_of(self.gpu, case.settings, case.base.architecture)
        advised = advise(
            case, examination.questions, answers, target, observer=observer, controls=controls
        )
        if self.out is not None:
            write_text(self.out, advised.text)
        return advised

    def run(self, observer: Observer, controls: Controls) -> Advised:
        """With what is proposed in place of answers that were not given."""
        return self.advise(self.examine(observer, controls), observer, controls)
