"""Shell scripts of guides: the command line in them, as arguments."""

from __future__ import annotations

from typing import Any

from lorasmith.config.foreign.argv import SCRIPT, read_argv
from lorasmith.config.foreign.bash_script import read_bash
from lorasmith.config.foreign.powershell_script import read_powershell
from lorasmith.config.foreign.script_values import MARK, UNKNOWN, Variables
from lorasmith.config.foreign.source import Source
from lorasmith.errors import Problem


def read_script(text: str, name: str, *, powershell: bool) -> Source:
    """The arguments of the one ``train_network.py`` command in a script.

    Args:
        name: the script, as messages call it.
    """
    commands, variables = read_powershell(text) if powershell else read_bash(text)
    kind = "a PowerShell script" if powershell else "a bash script"
    if variables.mistakes:
        problems = [
            Problem(f"{name}: line {line}", what, "correct it") for line, what in variables.mistakes
        ]
        return Source(kind, problems=problems, incomplete=True)
    training = [words for words in commands if any(_is_script(word) for word in words)]
    if not training:
        problem = Problem(
            name, "holds no command with train_network.py", "give the script that trains"
        )
        return Source(kind, problems=[problem], incomplete=True)
    if len(training) > 1:
        what = f"trains {len(training)} times"
        problem = Problem(name, what, "leave one of the commands in a copy of the script")
        return Source(kind, problems=[problem], incomplete=True)
    words = training[0]
    place = next(number for number, word in enumerate(words) if _is_script(word))
    problems = [
        _unknown(words[number - 1], word, name, variables)
        for number, word in enumerate(words)
        if number > place and UNKNOWN in word
    ]
    before = [_shown(word) for word in words[:place]]
    source = read_argv([*before, MARK.sub("", words[place]), *words[place + 1 :]])
    source.kind = kind
    _leave_out_unknown(source)
    source.problems += problems
    return source


def _shown(word: str) -> str:
    return MARK.sub(lambda match: f"${match[1] or '(…)'}", word)


def _leave_out_unknown(source: Source) -> None:
    """Arguments whose values are unknown; that has been said once."""
    known = {name: given for name, given in source.given.items() if _is_known(given.raw)}
    problems = [problem for problem in source.problems if UNKNOWN not in problem.where]
    source.incomplete = len(known) + len(problems) < len(source.given) + len(source.problems)
    source.given, source.problems = known, problems


def _is_known(raw: Any) -> bool:
    return not any(UNKNOWN in str(each) for each in (raw if isinstance(raw, list) else [raw]))


def _is_script(word: str) -> bool:
    match = SCRIPT.match(MARK.sub("", word))
    return bool(match and match[2])


def _unknown(before: str, word: str, name: str, variables: Variables) -> Problem:
    """
    Args:
        before: the word before, which may be the argument that ``word`` is the value of.
    """
    mark = MARK.search(word)
    assert mark is not None
    start, variable = word[: mark.start()], mark[1] or ""
    if not start and before.startswith("--") and "=" not in before:
        start = before
    where = f"{name}: {start.partition('=')[0] or variable or _shown(word)}"
    for spelled in (variable, variable.lower()):
        if spelled in variables.uncertain:
            line = variables.uncertain[spelled]
            what = f"depends on a condition or a loop (line {line} sets {variable})"
            return Problem(where, what, "write out what is meant in a copy of the script")
    if variable and not {variable, variable.lower()} & set(variables.values):
        what = f"the script never sets {variable}"
        return Problem(where, what, "write out what is meant in a copy of the script")
    return Problem(where, "only running the script would tell its value", "write it out")
