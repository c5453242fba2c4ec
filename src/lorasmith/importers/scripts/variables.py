"""What readers of scripts share: variables, conditions that only running would decide, loops.

A reader follows a script as its shell would, and runs nothing. Where a condition cannot be
decided every branch is followed; a variable that differs between them afterwards is unknown, with
the reason why. What is unknown stands in texts as a mark, so that it can be joined to other text
and is refused only where it reaches an argument of the training.
"""

from __future__ import annotations

import contextlib
import copy
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from lorasmith.importers.sd_scripts.argv import SCRIPT

UNKNOWN = "\x00"
MARK = re.compile(f"{UNKNOWN}(\\d+){UNKNOWN}")
"""What stands for something unknown: the number of its reason."""

CARRIES_NO_SETTINGS = re.compile(r"activate|conda|bashrc|profile|vcvars|setvars", re.IGNORECASE)
"""Scripts that others call to set up an environment, not to set variables of theirs."""

_LONGEST_LOOP = 500
_MOST_STEPS = 10_000
_MOST_SIGNS = 1_500_000
_MOST_WAYS = 5_000_000
_DEEPEST = 40
LONGEST_VALUE = 100_000
"""Signs of a text, or members of a list."""

LONGEST_MATCH = 1000
"""Signs of a text that a pattern is tried on; what is longer counts as unknown."""
_UNSET = object()

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a value, or whether a condition holds, is unknown.

    Args:
        variable: the variable as the script spells it; "" where it is something else.
        what: a phrase that goes on after a name: "depends on …".
    """

    variable: str
    what: str


def only_running(what: str) -> Reason:
    return Reason("", f"only running the script would tell {what}")


def shown(text: str) -> str:
    """A text for messages, with … for what is unknown in it."""
    return MARK.sub("…", text)


Truth = bool | Reason
"""Whether a condition holds, or why that is unknown."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command with all its words worked out; unknown parts are marks."""

    line: int
    words: list[str]

    @property
    def trains(self) -> bool:
        return any(is_training_script(word) for word in self.words)


class ScriptError(Exception):
    """The script cannot be followed: ``line`` and what is wrong there."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(line, what)
        self.line, self.what = line, what


class Leave(Exception):
    """The script leaves a loop, a function or itself."""

    def __init__(self, kind: Literal["break", "continue", "return", "exit"]) -> None:
        super().__init__(kind)
        self.kind = kind


def follow(path: str, folder: str, run: Callable[[Script], object]) -> Script:
    """A script after ``run`` has followed it; what stops it on the way is one of its mistakes.

    Args:
        path: the script's own.
        folder: in which it is run.
    """
    script = Script(path=path, folder=folder)
    try:
        run(script)
    except Leave:
        pass
    except RecursionError:
        script.mistakes.append((1, "is nested too deep to be followed"))
    except ScriptError as error:
        script.mistakes.append((error.line, error.what))
    return script


class _UndecidedLoopError(Exception):
    """How often a loop runs is unknown."""


@dataclass(slots=True)
class _Snapshot:
    values: dict[str, Any]
    lines: dict[str, int]
    folder: str


@dataclass(slots=True)
class Script:
    """A script while it is followed.

    Args:
        path: the script's own, absolute.
        folder: the present folder.
        values: of variables, by name in the form in which the language compares names.
        lines: where each was last set.
        spelled: the names as the script spells them.
        mistakes: lines that are not as they were meant, each with what is wrong.
        functions: the bodies of those that it defines, by name.
        called: names of those that it calls.
    """

    path: str
    folder: str
    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    spelled: dict[str, str] = field(default_factory=dict)
    commands: list[Command] = field(default_factory=list)
    reasons: list[Reason] = field(default_factory=list)
    mistakes: list[tuple[int, str]] = field(default_factory=list)
    functions: dict[str, Any] = field(default_factory=dict)
    called: set[str] = field(default_factory=set)
    _returns: list[_Snapshot] = field(default_factory=list)
    _loops: list[bool] = field(default_factory=list)  # True: followed round by round.
    _depth: int = 0
    _steps: int = 0
    _signs: int = 0
    _line: int = 0

    @property
    def trainings(self) -> list[Command]:
        """The commands that train, each once however often and wherever it stands."""
        commands: list[Command] = []
        for command in self.commands:
            if command.trains and command.words not in [each.words for each in commands]:
                commands.append(command)
        return commands

    def unknown(self, reason: Reason) -> str:
        """The mark for a value that is unknown for this reason."""
        if reason not in self.reasons:
            self.reasons.append(reason)
        return f"{UNKNOWN}{self.reasons.index(reason)}{UNKNOWN}"

    def reason(self, text: str) -> Reason | None:
        """Why ``text`` is not known as a whole; None where it is."""
        mark = MARK.search(text)
        return self.reasons[int(mark[1])] if mark else None

    def never_set(self, variable: str) -> str:
        return self.unknown(Reason(variable, f"the script never sets {variable}"))

    def follow_uncalled(self, call: Callable[[Any], object]) -> None:
        """Where nothing trains, follow the functions that are never called, too."""
        if not any(command.trains for command in self.commands):
            for name, body in list(self.functions.items()):
                if name not in self.called:
                    call(body)

    def set(self, name: str, value: Any, line: int, spelled: str | None = None) -> None:
        """
        Raises:
            ScriptError: the value is longer than that of any script for people.
        """
        if isinstance(value, str | list) and len(value) > LONGEST_VALUE:
            raise ScriptError(line, f"makes {spelled or name} too long to be followed")
        self.values[name] = value
        self.lines[name] = line
        self.spelled[name] = spelled or name

    def set_from_outside(self, name: str, line: int, spelled: str | None = None) -> None:
        """A variable that the script reads from the keyboard, a file or a program."""
        spelled = spelled or name
        what = f"comes from outside of the script (line {line} sets {spelled})"
        self.set(name, self.unknown(Reason(spelled, what)), line, spelled)

    def read_other_script(self, other: str, line: int) -> None:
        """Another script, which is not read, may set each variable anew."""
        if CARRIES_NO_SETTINGS.search(other):
            return
        for name in list(self.values):
            spelled = self.spelled.get(name, name)
            what = f"may be set by {other}, which line {line} runs and which is not read"
            self.values[name] = self.unknown(Reason(spelled, what))

    def step(self, line: int) -> None:
        """Count a command, so that no script is followed forever.

        Raises:
            ScriptError: there were too many.
        """
        self._line = line
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise ScriptError(line, "goes round too often to be followed")

    def spend(self, value: Any) -> None:
        """Count what stands for a variable or an expression, so that no texts multiply forever.

        Raises:
            ScriptError: it was too much in all.
        """
        waiting = [value]
        while waiting and self._signs <= _MOST_SIGNS:
            each = waiting.pop()
            self._signs += 20 + (len(each) if isinstance(each, str) else 0)
            if isinstance(each, list):
                waiting += each
        if waiting:
            raise ScriptError(self._line, "makes texts too long to be followed")

    def can_match(self, regex: str, text: str) -> bool:
        """Whether trying a pattern without nested repetitions ends soon; else it counts as unknown.

        The ways to share a text among repetitions are what a search may have to go through, from
        each of its places.
        """
        choices = len(re.findall(r"[*+?{|]\??", re.sub(r"\\.", "", regex, flags=re.DOTALL)))
        if len(text) > LONGEST_MATCH or choices > LONGEST_MATCH:
            return False
        ways = math.comb(len(text) + choices + 1, choices + 1)
        self._signs += min(ways, _MOST_WAYS) // 50
        return ways <= _MOST_WAYS

    def command(self, line: int, words: list[str]) -> None:
        command = Command(line, words)
        if any(word.startswith("--") for word in words) or command.trains:
            self.commands.append(command)

    def branch(
        self, condition: Truth, body: Callable[[], T], otherwise: Callable[[], T]
    ) -> list[T]:
        """Follow the first body if the condition holds, else the second; both if it is unknown.

        Returns:
            What those give that do not leave.
        """
        if isinstance(condition, Reason):
            return self.fork(condition, body, otherwise)
        return [body() if condition else otherwise()]

    def fork(self, why: Reason, *bodies: Callable[[], T]) -> list[T]:
        """Follow each body from here on, and join what they lead to; returns as :meth:`branch`."""
        before, first = self._snapshot(), len(self.commands)
        outcomes: list[_Snapshot] = []
        results: list[T] = []
        leaves: list[Leave] = []
        for body in bodies:
            self._restore(before)
            try:
                results.append(body())
            except Leave as leave:
                if leave.kind in ("break", "continue") and self._loops and self._loops[-1]:
                    raise _UndecidedLoopError from None
                if leave.kind == "return":
                    self._returns.append(self._snapshot())
                elif leave.kind != "exit":
                    outcomes.append(self._snapshot())
                leaves.append(leave)
                continue
            outcomes.append(self._snapshot())
        self._once(first)
        if not outcomes:
            self._restore(before)
            raise leaves[-1]
        self._join(before, outcomes, why)
        return results

    def call(self, body: Callable[[], T], line: int) -> T | None:
        """Follow a function's body; gives what it gives, ``None`` where it returns before its end.

        Raises:
            ScriptError: it calls itself too often.
        """
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ScriptError(line, "calls itself too often to be followed")
        outer, self._returns = self._returns, []
        loops, self._loops = self._loops, []
        before, over, result = self._snapshot(), False, None
        try:
            result = body()
        except Leave as leave:
            if leave.kind == "exit":
                over = True
                if not self._returns:
                    raise
        finally:
            returns, self._returns = self._returns, outer
            self._loops = loops
            self._depth -= 1
        if returns:
            ends = returns if over else [self._snapshot(), *returns]
            self._join(before, ends, Reason("", ""))
        return result

    def isolated(self, body: Callable[[], T]) -> T | None:
        """As :meth:`call`, in a process of its own: what it sets is gone afterwards."""
        before, result = self._snapshot(), None
        with contextlib.suppress(Leave):
            result = body()
        self._restore(before)
        return result

    def each(
        self,
        name: str,
        values: Sequence[Any],
        unknown: Reason | None,
        put: Callable[[Any], None],
        body: Callable[[], object],
        line: int,
        stands: Reason | None = None,
    ) -> None:
        """Follow a loop over values.

        Args:
            name: the loop's variable, as messages call it.
            unknown: why the values are not known.
            put: sets the variable.
            stands: why its value is unknown where any round is meant; by itself that it differs.
        """
        what = f"has a value of its own in each round (line {line} sets {name})"

        def next_round(place: int | None) -> Truth:
            if place is None or unknown:
                put(self.unknown(stands or Reason(name, what)))
                return unknown or True
            if place < len(values):
                put(values[place])
            return place < len(values)

        self.loop(next_round, body)

    def loop(self, next_round: Callable[[int | None], Truth], body: Callable[[], object]) -> None:
        """Follow a loop.

        Args:
            next_round: sets what the round of this number sets, and says whether there is one;
                for ``None`` it sets what any round may set.
        """
        before, first, rounds = self._snapshot(), len(self.commands), 0
        self._loops.append(True)
        try:
            while self._goes_on(next_round(rounds)) and rounds < _LONGEST_LOOP:
                rounds += 1
                try:
                    body()
                except Leave as leave:
                    if leave.kind == "break":
                        break
                    if leave.kind != "continue":
                        raise
            decided = rounds < _LONGEST_LOOP
        except _UndecidedLoopError:
            decided = False
        finally:
            self._loops.pop()
        trainings = any(command.trains for command in self.commands[first:])
        if decided and (rounds <= 1 or not trainings):
            return
        self._restore(before)
        del self.commands[first:]

        def any_round() -> None:
            next_round(None)
            body()

        self._any_round(any_round)

    @staticmethod
    def _goes_on(truth: Truth) -> bool:
        if isinstance(truth, Reason):
            raise _UndecidedLoopError
        return truth

    def _any_round(self, body: Callable[[], Any]) -> None:
        """Follow a loop that goes round any number of times: what it sets has no one value."""
        before, first = self._snapshot(), len(self.commands)
        for last in (False, True):
            self._loops.append(False)
            try:
                body()
            except (Leave, _UndecidedLoopError):
                pass
            finally:
                self._loops.pop()
            after = self._snapshot()
            self._restore(before)
            for name, value in after.values.items():
                if value != before.values.get(name, _UNSET):
                    self._uncertain(name, after.lines.get(name, 0), "")
            if not last:
                del self.commands[first:]
                before = self._snapshot()

    def _once(self, first: int) -> None:
        """What every branch does alike is one command."""
        kept = self.commands[:first]
        for command in self.commands[first:]:
            if command.words not in [each.words for each in kept[first:]]:
                kept.append(command)
        self.commands = kept

    def _uncertain(self, name: str, line: int, why: str) -> None:
        spelled = self.spelled.get(name, name)
        what = f"depends on a condition or a loop (line {line} sets {spelled}){why}"
        self.values[name] = self.unknown(Reason(spelled, what))
        self.lines[name] = line

    def _snapshot(self) -> _Snapshot:
        return _Snapshot(copy.deepcopy(self.values), dict(self.lines), self.folder)

    def _restore(self, state: _Snapshot) -> None:
        self.values, self.lines = copy.deepcopy(state.values), dict(state.lines)
        self.folder = state.folder

    def _join(self, before: _Snapshot, outcomes: list[_Snapshot], why: Reason) -> None:
        self._restore(outcomes[0])
        because = f", and {why.what}" if why.what else ""
        for name in {name for outcome in outcomes for name in outcome.values}:
            values = [outcome.values.get(name, _UNSET) for outcome in outcomes]
            if all(same(value, values[0]) for value in values[1:]):
                continue
            lines = [outcome.lines.get(name, 0) for outcome in outcomes]
            changed = [line for line in lines if line != before.lines.get(name, 0)]
            self._uncertain(name, max(changed or lines), because)
        if any(outcome.folder != outcomes[0].folder for outcome in outcomes[1:]):
            self.folder = self.unknown(Reason("", f"depends on a condition{because}"))


def same(one: Any, other: Any) -> bool:
    """Equal, and of one type: 1 and True are not."""
    return type(one) is type(other) and bool(one == other)


def is_training_script(word: str) -> bool:
    match = SCRIPT.match(MARK.sub("", word))
    return bool(match and match[2])


def glob_pattern(pattern: str, *, greedy: bool = True) -> str:
    """A shell's pattern of ``*``, ``?`` and ``[…]`` as a regular expression."""
    result, place = "", 0
    while place < len(pattern):
        char = pattern[place]
        end = pattern.find("]", place + 2)
        if char == "*":
            result += ".*" if greedy else ".*?"
        elif char == "?":
            result += "."
        elif char == "[" and end > 0:
            inside = pattern[place + 1 : end].replace("\\", "\\\\")
            result += "[" + ("^" + inside[1:] if inside[:1] in "!^" else inside) + "]"
            place = end
        elif char == "\\" and place + 1 < len(pattern):
            place += 1
            result += re.escape(pattern[place])
        else:
            result += re.escape(char)
        place += 1
    return result
