"""What can go wrong, and what the user can do about it.

The tree::

    LorasmithError
    ├── UserError            the user can mend it: one or more Problems, exit status 2
    │   ├── SettingsError    a setting, an option, a TOML file
    │   ├── DatasetError     an image, a caption, a folder
    │   ├── CheckpointError  a base model, a VAE, a text encoder
    │   ├── LoraFileError    an adapter file
    │   ├── RunError         a run folder, a resume, the output folder, the disk
    │   │   └── WriteError   a file cannot be written: no space, no permission
    │   └── PromptError      a prompt, a sampler, an image size
    └── Stopped              the user asked to stop: exit status 130

Anything else that escapes is a bug of ours: exit status 1 and a traceback.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self, TypeVar

DOCTOR = "`lorasmith doctor` looks at this"
"""Behind what to do about a fault that is the computer's."""

S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Args:
        where: the file or setting, as the user would write it (``data/1_cat/a.png``,
            ``optimizer.lr``); may be empty when there is no single place.
        what: what is wrong, with the value that came and the one expected.
        hint: what to do about it, as an imperative sentence.
    """

    where: str
    what: str
    hint: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text} ({self.hint})" if self.hint else text


class LorasmithError(Exception):
    """Base of everything that lorasmith raises on purpose."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows of it: IPython asks for this before it shows a traceback."""
        return [str(self)]


class UserError(LorasmithError):
    """Something that the user can mend; carries every problem that was found, not the first."""

    def __init__(self, problems: Problem | Iterable[Problem]) -> None:
        self.problems = [problems] if isinstance(problems, Problem) else list(problems)
        assert self.problems, "an error without a problem"
        super().__init__("\n".join(str(problem) for problem in self.problems))

    @classmethod
    def of(cls, where: object, what: str, hint: str = "") -> Self:
        """The common case of exactly one problem."""
        return cls(Problem(str(where), what, hint))


class SettingsError(UserError):
    pass


class DatasetError(UserError):
    pass


class CheckpointError(UserError):
    pass


class LoraFileError(UserError):
    pass


class RunError(UserError):
    pass


class WriteError(RunError):
    pass


class PromptError(UserError):
    pass


class Stopped(LorasmithError):
    """The user stopped the work; everything worth keeping has been saved."""


def collect_problems(problems: list[Problem], action: Callable[[], T]) -> T | None:
    """The action's result; or ``None`` with its problems added to ``problems``, so that all are
    told at once."""
    try:
        return action()
    except UserError as error:
        problems += error.problems
        return None


def collect_each(action: Callable[[S], T], items: Iterable[S]) -> list[T]:
    """``action`` of each item.

    Raises:
        UserError: with the problems of all items that it fails for.
    """
    problems: list[Problem] = []
    results = []
    for item in items:
        try:
            results.append(action(item))
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(problems)
    return results


def shortened(
    problems: list[Problem], most: int = 8, more: str = "modules are so"
) -> list[Problem]:
    """The first few of many problems that are alike, and how many more there are."""
    rest = len(problems) - most
    if rest <= 0:
        return problems
    return [*problems[:most], Problem(problems[0].where, f"{rest} more {more}")]
