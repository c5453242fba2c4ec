"""Scripts of guides: the command line in them, as arguments."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from lorasmith.core.errors import Problem
from lorasmith.importers.conversion import Remark, Source
from lorasmith.importers.scripts.bash import read_bash
from lorasmith.importers.scripts.cmd import read_cmd
from lorasmith.importers.scripts.powershell import read_powershell
from lorasmith.importers.scripts.variables import (
    MARK,
    UNKNOWN,
    Reason,
    Script,
    is_training_script,
)
from lorasmith.importers.sd_scripts.argv import read_argv
from lorasmith.importers.sd_scripts.table import ARGUMENTS

Language = Literal["bash", "powershell", "cmd"]

SUFFIXES: dict[str, Language] = {
    ".sh": "bash", ".bash": "bash", ".ps1": "powershell", ".bat": "cmd", ".cmd": "cmd",
}  # fmt: skip

CODE_PAGE = "cp1252"
"""Of Western Windows: what a script that is no UTF-8 is read as."""

_READERS: dict[Language, tuple[str, Callable[[str, str, str], Script]]] = {
    "bash": ("a bash script", read_bash),
    "powershell": ("a PowerShell script", read_powershell),
    "cmd": ("a script for cmd.exe", read_cmd),
}


def language_of(path: Path, text: str) -> Language:
    """By the file's ending; without one that is known, by how lines are continued."""
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    if re.search(r"\^\r?\n", text):
        return "cmd"
    return "powershell" if re.search(r"`\r?\n", text) else "bash"


def read_script(text: str, path: Path, language: Language) -> Source:
    """The arguments of the one ``train_network.py`` command in a script.

    Args:
        path: the script's own; it need not exist.
    """
    kind, reader = _READERS[language]
    name, folder = path.name, os.getcwd()
    script = reader(text, os.path.abspath(path), folder)
    if script.mistakes:
        problems = [
            Problem(f"{name}: line {line}", what, "correct it") for line, what in script.mistakes
        ]
        return Source(kind, problems=problems, incomplete=True)
    training = script.trainings
    if len(training) != 1:
        what, hint = "holds no command with train_network.py", "give the script that trains"
        if training:
            lines = ", ".join(str(command.line) for command in training)
            what = f"trains {len(training)} times, in different ways (lines {lines})"
            hint = "leave one of the commands in a copy of the script"
        return Source(kind, problems=[Problem(name, what, hint)], incomplete=True)
    words = [_own_folder(word, script.path, folder) for word in training[0].words]
    place = next(number for number, word in enumerate(words) if is_training_script(word))
    problems = _unknown(words, place, name, script)
    for word in words[place + 1 :]:
        if "\ufffd" in word:
            what = "holds letters that are no UTF-8"
            problems.append(Problem(f"{name}: {word.partition('=')[0]}", what, "save it as UTF-8"))
    before = [_shown(word, script) for word in words[:place]]
    source = read_argv([*before, MARK.sub("", words[place]), *words[place + 1 :]])
    source.kind = kind
    _leave_out_unknown(source)
    source.problems += problems
    if script.folder != folder:
        why = "paths are taken from the folder in which you run lorasmith; run it in that one"
        source.remarks.append(
            Remark("noted", f"{name} goes to {_shown(script.folder, script)}", why)
        )
    return source


def _own_folder(word: str, script: str, folder: str) -> str:
    r"""``%cd%\img`` is a path of this machine, also where those are not written with ``\``."""
    if os.sep != "/":
        return word
    for start in (os.path.dirname(script), folder):
        before, match, rest = word.partition(start)
        if match and len(start) > 1 and rest.startswith(("\\", "/")):
            rest = rest.replace("\\", "/")
            return before + os.path.normpath(start + rest) + "/" * rest.endswith("/")
    return word


def _shown(word: str, script: Script) -> str:
    def variable(match: re.Match[str]) -> str:
        name = script.reasons[int(match[1])].variable
        return f"${name}" if name else "$(…)"

    return MARK.sub(variable, word)


def _leave_out_unknown(source: Source) -> None:
    """Arguments whose values are unknown; that has been said once."""
    known = {name: given for name, given in source.given.items() if _is_known(given.raw)}
    problems = [problem for problem in source.problems if UNKNOWN not in problem.where]
    if len(known) + len(problems) < len(source.given) + len(source.problems):
        source.incomplete = True
    source.given, source.problems = known, problems


def _is_known(raw: Any) -> bool:
    return not any(UNKNOWN in str(each) for each in (raw if isinstance(raw, list) else [raw]))


def _unknown(words: list[str], place: int, name: str, script: Script) -> list[Problem]:
    """What is unknown in the arguments, each with the variable and the reason."""
    problems: list[Problem] = []
    for number in range(place + 1, len(words)):
        word = words[number]
        reason = script.reason(word)
        if reason is None:
            continue
        start = word[: MARK.search(word).start()].partition("=")[0]  # type: ignore[union-attr]
        if not start and _takes_value(words[number - 1]):
            start = words[number - 1]
        where = start if start.startswith("--") else reason.variable or _shown(word, script)
        problem = Problem(f"{name}: {where}", _because(reason, where), _hint(reason))
        if problem not in problems:
            problems.append(problem)
    return problems


def _takes_value(word: str) -> bool:
    row = ARGUMENTS.get(word.removeprefix("--"))
    return word.startswith("--") and "=" not in word and (row is None or row.kind != "flag")


def _because(reason: Reason, where: str) -> str:
    """The reason, with the variable's name where ``where`` is another."""
    if not reason.variable or where == reason.variable or reason.variable in reason.what:
        return reason.what
    return f"{reason.variable} {reason.what}"


def _hint(reason: Reason) -> str:
    return "write out what is meant in a copy of the script" if reason.variable else "write it out"
