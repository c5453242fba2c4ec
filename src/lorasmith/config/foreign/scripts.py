"""Shell scripts of guides: the command line in them, as arguments."""

from __future__ import annotations

from lorasmith.config.foreign.argv import SCRIPT, read_argv
from lorasmith.config.foreign.bash_script import read_bash
from lorasmith.config.foreign.powershell_script import read_powershell
from lorasmith.config.foreign.script_values import UNKNOWN, Variables
from lorasmith.config.foreign.source import Source
from lorasmith.errors import Problem


def read_script(text: str, name: str, *, powershell: bool) -> Source:
    """The arguments of the one ``train_network.py`` command in a script.

    Args:
        name: the script, as messages call it.
    """
    commands, variables = read_powershell(text) if powershell else read_bash(text)
    kind = "a PowerShell script" if powershell else "a bash script"
    training = [words for words in commands if any(_is_script(word) for word in words)]
    if not training:
        problem = Problem(
            name, "holds no command with train_network.py", "give the script that trains"
        )
        return Source(kind, problems=[problem])
    if len(training) > 1:
        what = f"trains {len(training)} times"
        problem = Problem(name, what, "leave one of the commands in a copy of the script")
        return Source(kind, problems=[problem])
    words, problems = [], []
    for word in training[0]:
        if UNKNOWN in word:
            problems.append(_unknown(word, name, variables))
        else:
            words.append(word)
    source = read_argv(words)
    source.kind = kind
    source.problems += problems
    return source


def _is_script(word: str) -> bool:
    match = SCRIPT.match(word)
    return bool(match and match[2])


def _unknown(word: str, name: str, variables: Variables) -> Problem:
    before, _, rest = word.partition(UNKNOWN)
    variable = rest.partition(UNKNOWN)[0]
    line = variables.uncertain.get(variable) or variables.uncertain.get(variable.lower())
    where = f"{name}: {before.rstrip('=') or variable}"
    if line is None:
        return Problem(where, "only running the script would tell its value", "write it out")
    what = f"depends on a condition or a loop (line {line} sets {variable})"
    return Problem(where, what, "write out what is meant in a copy of the script")
