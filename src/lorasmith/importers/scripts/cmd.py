"""Following a script for cmd.exe (.bat, .cmd) to the command line that trains. Nothing is run.

As cmd does, variables between ``%`` are replaced line by line, before a line (or a whole block in
brackets) is taken apart, and those between ``!`` when a command runs. Followed are ``set``, ``if``,
``for``, ``goto``, ``call``, ``^``, quotes and brackets; a program's arguments are taken apart by
the rules of Microsoft's C runtime. What the environment, a file or a program decides is unknown.
"""

from __future__ import annotations

import ntpath
import re
from collections.abc import Callable
from functools import partial

from lorasmith.importers.scripts.arithmetic import evaluate
from lorasmith.importers.scripts.cmd_syntax import (
    SEPARATORS,
    Reader,
    program_arguments,
    unescaped,
)
from lorasmith.importers.scripts.scanner import Node
from lorasmith.importers.scripts.variables import (
    LONGEST_VALUE,
    MARK,
    Leave,
    Reason,
    Script,
    ScriptError,
    Truth,
    follow,
    only_running,
    shown,
)

_PERCENT = re.compile(
    r"%%|%\*|%(?:~[a-z$:]*)?\d|%(?P<name>[^%\n:=]+)(?::(?P<change>[^%\n]*))?%|%", re.IGNORECASE
)
_BANG = re.compile(r"!(?P<name>[^!\n:=]+)(?::(?P<change>[^!\n]*))?!")
_OF_SCRIPT = re.compile(r"%(?:~([a-z$:]*))?(\d)", re.IGNORECASE)
_COMPARISONS: dict[str, Callable[[int | str, int | str], bool]] = {
    "equ": lambda a, b: a == b, "neq": lambda a, b: a != b,
    "lss": lambda a, b: a < b, "leq": lambda a, b: a <= b,  # type: ignore[operator]
    "gtr": lambda a, b: a > b, "geq": lambda a, b: a >= b,  # type: ignore[operator]
}  # fmt: skip
_FROM_OUTSIDE = ("date", "time", "random", "errorlevel", "cmdcmdline", "cmdextversion")
_SILENT = (
    *("echo", "rem", "pause", "title", "cls", "chcp", "color", "mode", "timeout", "ver", "shift"),
    *("prompt", "verify", "popd"),
)


class _Goto(Leave):
    """Go on at a label."""

    def __init__(self, label: str, line: int) -> None:
        super().__init__("exit")
        self.label, self.line = label, line


def read_cmd(text: str, path: str = "script", folder: str = "") -> Script:
    """Follow a script: its commands with arguments that begin with ``--``, and its variables."""
    return follow(path, folder, lambda script: _Cmd(script, text).run(0))


class _Cmd:
    def __init__(self, script: Script, text: str) -> None:
        self._script = script
        self._lines = text.replace("\r\n", "\n").split("\n")
        self._labels: dict[str, int] = {}
        for place, line in enumerate(self._lines):
            if match := re.match(r"[\s,;=]*:\s*([^\s:+&|<>]+)", line):
                self._labels.setdefault(match[1].lower(), place)
        self._given: list[str] | None = None  # A subroutine's arguments.
        self._for: dict[str, str] = {}
        self._delayed = False
        self._saved: list[tuple[dict[str, object], bool, str]] = []
        self._calls = 0
        self._seen: set[tuple[object, ...]] = set()

    def run(self, place: int) -> None:
        """Follow the script from a line on, to its end."""
        while place < len(self._lines):
            reader = Reader(self._lines, place, self._replaced)
            node = reader.command_line()
            place = reader.next_line
            try:
                self._node(node)
            except _Goto as goto:
                place = self._label(goto.label, goto.line)

    def _label(self, label: str, line: int) -> int:
        if MARK.search(label):
            raise ScriptError(line, "goes on at a label that only running the script would tell")
        if label.lower() not in self._labels:
            raise ScriptError(line, f"goes on at {label}, and there is no such label")
        self._script.step(line)
        if not self._for:  # With nothing changed, all that follows has been followed before.
            state = (label.lower(), self._calls, self._delayed, repr(self._script.values))
            if state in self._seen:
                raise Leave("exit")
            self._seen.add(state)
        return self._labels[label.lower()] + 1

    # Variables.

    def _replaced(self, text: str, line: int) -> str:
        """A line with ``%name%`` replaced, as cmd does it before anything else."""

        def part(match: re.Match[str]) -> str:
            whole = match[0]
            if whole == "%%":
                return "%"
            if whole == "%*":
                return " ".join(self._given or [])  # The script itself is given nothing.
            if match["name"] is not None:
                return self._changed(match["name"], match["change"], line)
            numbered = _OF_SCRIPT.fullmatch(whole)
            return (
                self._argument(numbered[1] or "", int(numbered[2]), "~" in whole)
                if numbered
                else ""
            )

        return _PERCENT.sub(self._counted(part), text)

    def _counted(self, value: Callable[[re.Match[str]], str]) -> Callable[[re.Match[str]], str]:
        def count(match: re.Match[str]) -> str:
            text = value(match)
            self._script.spend(text)
            return text

        return count

    def _argument(self, modifiers: str, number: int, bare: bool) -> str:
        if number == 0:
            return _parts(self._script.path, modifiers) if bare else self._script.path
        if self._given is None:
            variable = f"%{number}"
            what = "is what the script is given when it is run"
            return self._script.unknown(Reason(variable, what))
        text = self._given[number - 1] if number <= len(self._given) else ""
        text = text.strip('"') if bare else text
        return _parts(text, modifiers) if modifiers else text

    def _value(self, name: str) -> str:
        key = name.lower()
        if key in self._script.values:
            return str(self._script.values[key])
        if key == "cd":
            return self._script.folder
        if key in _FROM_OUTSIDE:
            return self._script.unknown(only_running(f"%{name}%"))
        if f"{key} " in self._script.values:
            line = self._script.lines[f"{key} "]
            what = (
                f"is another variable than the one that line {line} sets, with a space before the ="
            )
            return self._script.unknown(Reason(name, what))
        return self._script.never_set(name)

    def _changed(self, name: str, change: str | None, line: int) -> str:
        """``%name:~0,3%`` and ``%name:this=that%``."""
        value = self._value(name)
        if change is None or MARK.search(value):
            return value
        if match := re.fullmatch(r"~\s*(-?\d{1,9})?(?:\s*,\s*(-?\d{1,9})?)?\s*", change):
            start = int(match[1] or 0)
            start = max(0, len(value) + start) if start < 0 else start
            length = int(match[2]) if match[2] else len(value)
            return value[start : length if length < 0 else start + length]
        old, equals, new = change.partition("=")
        if not equals or not old:
            return self._script.unknown(
                Reason(name, f"is changed in a way that line {line} alone knows")
            )
        if not value:
            return f"{old}={new}"
        if old.startswith("*") and len(old) > 1:
            place = value.lower().find(old[1:].lower())
            return value if place < 0 else new + value[place + len(old) - 1 :]
        if value.lower().count(old.lower()) * len(new) > LONGEST_VALUE:
            return self._script.unknown(only_running("a long text"))
        return re.sub(re.escape(old), lambda _: new, value, flags=re.IGNORECASE)

    def _now(self, text: str, line: int) -> str:
        """What is replaced when a command runs: variables of ``for``, and those between ``!``."""
        if self._for:
            names = "".join(re.escape(name) for name in self._for)
            text = re.sub(
                rf"%(?:~([a-z$:]*))?([{names}])", self._counted(self._of_for), text,
                flags=re.IGNORECASE,
            )  # fmt: skip
        if self._delayed:
            text = _BANG.sub(
                self._counted(lambda match: self._changed(match["name"], match["change"], line)),
                text,
            )
        return text

    def _of_for(self, match: re.Match[str]) -> str:
        value = self._for.get(match[2])
        if value is None:
            return match[0]
        value = value.strip('"') if match[1] is not None else value
        return _parts(value, match[1]) if match[1] and not MARK.search(value) else value

    # Commands.

    def _node(self, node: Node) -> Truth:
        self._script.step(node.line)
        if node.kind == "block":
            truth: Truth = True
            for each in node.items:
                truth = self._node(each)
            return truth
        if node.kind in ("&&", "||"):
            truth = self._node(node.items[0])
            if isinstance(truth, Reason):
                self._branch(truth, node.items[1], None)
            elif truth is (node.kind == "&&"):
                return self._node(node.items[1])
            return truth
        if node.kind == "|":
            for each in node.items:
                self._script.isolated(partial(self._node, each))
            return only_running("whether a command succeeds")
        if node.kind == "if":
            truth = self._holds(node)
            self._branch(truth, node.items[0], node.items[1] if len(node.items) > 1 else None)
            return truth
        if node.kind == "for":
            self._loop(node)
            return True
        return self._simple(self._now(node.text, node.line), node.line)

    def _branch(self, condition: Truth, body: Node, otherwise: Node | None) -> None:
        """As :meth:`Script.branch`; where both are followed, one that goes to a label is followed
        from there to the end."""
        delayed, saved = self._delayed, list(self._saved)

        def follow(node: Node | None) -> None:
            self._delayed, self._saved = delayed, list(saved)
            try:
                if node:
                    self._node(node)
            except _Goto as goto:
                self.run(self._label(goto.label, goto.line))
                raise Leave("return" if self._given is not None else "exit") from None

        if isinstance(condition, Reason):
            self._script.fork(condition, partial(follow, body), partial(follow, otherwise))
        elif node := body if condition else otherwise:
            self._node(node)

    def _holds(self, node: Node) -> Truth:
        words = [self._now(word, node.line) for word in node.words]
        ignores_case, negated = "/i" in words[:1], False
        words = words[1:] if ignores_case else words
        if words[:1] == ["not"]:
            negated, words = True, words[1:]
        truth = self._condition(words, ignores_case)
        return truth if isinstance(truth, Reason) or not negated else not truth

    def _condition(self, words: list[str], ignores_case: bool) -> Truth:
        kind = words[0]
        if kind == "defined" and len(words) == 2:
            name = words[1].lower()
            if name not in self._script.values:
                return self._script.reason(self._script.never_set(words[1])) or False
            value = str(self._script.values[name])
            return True if MARK.sub("", value) else self._script.reason(value) or False
        if len(words) == 2:
            return only_running(f"if {kind} {shown(words[1])}")
        one, operator, other = words
        if reason := self._script.reason(one) or self._script.reason(other):
            return reason
        if ignores_case:
            one, other = one.lower(), other.lower()
        numbers = re.compile(r"-?(?:0x[0-9a-f]+|\d+)", re.IGNORECASE)
        if operator != "==" and numbers.fullmatch(one) and numbers.fullmatch(other):
            return _COMPARISONS[operator](_number(one), _number(other))
        return _COMPARISONS["equ" if operator == "==" else operator](one, other)

    def _loop(self, node: Node) -> None:
        option, variable, text = node.words
        text = self._now(text, node.line)
        unknown: Reason | None = self._script.reason(text)
        values: list[str] = []
        if option == "/l":
            numbers = [each for each in re.split(r"[\s,;=]+", text) if each]
            if len(numbers) == 3 and all(re.fullmatch(r"-?\d{1,10}", each) for each in numbers):
                first, step, last = (int(each) for each in numbers)
                past = last + (1 if step > 0 else -1)
                rounds = range(first, past, step) if step else ()
                values = [str(each) for each in rounds[:1000]]
            else:
                unknown = unknown or only_running("how often a loop runs")
        elif option:
            unknown = unknown or only_running(f"what for {option} finds")
        else:
            values = re.findall(r'"[^"]*"|[^\s,;=]+', text)
            if any(char in each for each in values for char in "*?"):
                unknown = unknown or only_running("which files there are")

        before, body = dict(self._for), partial(self._node, node.items[0])
        put = partial(self._for.__setitem__, variable)
        self._script.each(f"%%{variable}", values, unknown, put, body, node.line)
        self._for = before

    def _simple(self, text: str, line: int) -> Truth:
        text = text.lstrip(SEPARATORS).rstrip("\n")
        script = self._script
        match = re.match(r"[^\s,;=/\"^]+", text)
        head = match[0].lower() if match else ""
        rest = text[len(head) :]
        if head.startswith("echo") or head in _SILENT:
            return True
        if head == "set":
            return self._set(rest.lstrip(), line)
        if head in ("setlocal", "endlocal"):
            self._scope(head, rest.lower())
            return True
        if head == "exit":
            raise Leave("return" if "/b" in rest.lower() and self._given is not None else "exit")
        if head == "goto":
            label = rest.strip().lstrip(":").split(" ")[0]
            if label.lower() == "eof":
                raise Leave("return" if self._given is not None else "exit")
            raise _Goto(label, line)
        if head in ("cd", "chdir", "pushd"):
            place = re.sub(r"/d\b", "", rest, flags=re.IGNORECASE).strip().strip('"')
            script.folder = _joined(script.folder, place.rstrip("\\") or place)
            return only_running(f"whether there is {shown(place)}")
        words = program_arguments(unescaped(text), line)
        if not words:
            return True
        if head == "call":
            return self._call(words[1:], text[len("call") :].strip(), line)
        self._program(words, line)
        return only_running(f"whether {shown(words[0])} succeeds")

    def _program(self, words: list[str], line: int) -> None:
        if re.search(r"\.(?:bat|cmd)\Z", words[0], re.IGNORECASE):
            raise Leave("exit")  # Without `call` a script does not come back.
        self._script.command(line, words)

    def _call(self, words: list[str], text: str, line: int) -> Truth:
        if not words:
            return True
        name = words[0]
        if name.startswith(":"):
            outer = self._given, self._for, self._saved, self._delayed
            self._calls += 1
            self._given, self._for, self._saved = words[1:], {}, []
            start = self._label(name[1:], line)
            try:
                self._script.call(lambda: self.run(start), line)
            finally:
                while self._saved:
                    self._scope("endlocal", "")
                self._given, self._for, self._saved, self._delayed = outer
            return only_running(f"whether {name} succeeds")
        if re.search(r"\.(?:bat|cmd)\Z", name, re.IGNORECASE) or "activate" in name.lower():
            self._script.read_other_script(shown(name), line)
            return only_running(f"whether {shown(name)} succeeds")
        return self._simple(self._replaced(text, line), line)  # `call` replaces a second time.

    def _scope(self, head: str, rest: str) -> None:
        script = self._script
        if head == "setlocal":
            self._saved.append((dict(script.values), self._delayed, script.folder))
            if "delayedexpansion" in rest:
                self._delayed = "enabledelayedexpansion" in rest
        elif self._saved:
            values, self._delayed, script.folder = self._saved.pop()
            script.values = dict(values)

    def _set(self, text: str, line: int) -> Truth:
        script = self._script
        option = re.match(r"/([ap])\b\s*", text, re.IGNORECASE)
        if option and option[1].lower() == "a":
            return self._calculate(unescaped(text[option.end() :]).replace('"', ""), line)
        text = text[option.end() :] if option else text
        if text.startswith('"'):
            end = text.rfind('"')
            text = text[1:end] if end > 0 else text[1:]
        else:
            text = unescaped(text)
        name, equals, value = text.partition("=")
        if not equals:
            return True
        if option:
            script.set_from_outside(name.lower(), line, name)
        else:
            script.set(name.lower(), value, line, name)
        return True

    def _calculate(self, text: str, line: int) -> Truth:
        def get(name: str) -> int:
            value = self._value(name)
            if reason := self._script.reason(value):
                raise LookupError(reason)
            return _number(value) if re.fullmatch(r"\s*-?(?:0x)?[0-9a-fA-F]+\s*", value) else 0

        def put(name: str, value: int) -> None:
            self._script.set(name.lower(), str(value), line, name)

        try:
            if reason := self._script.reason(text):
                raise LookupError(reason)
            evaluate(text, get, put, bits=32)
        except (LookupError, ValueError) as error:
            name = re.match(r"\s*(\w+)\s*[-+*/%&|^<>]*=", text)
            because = error.args[0] if isinstance(error, LookupError) else None
            reason = because or Reason(name[1] if name else "", f"is not worked out (line {line})")
            if name:
                self._script.set(name[1].lower(), self._script.unknown(reason), line, name[1])
        return True


def _number(text: str) -> int:
    """As cmd reads numbers: 0x of base 16, a leading 0 of base 8; else 0."""
    text = text.strip()
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text)
    try:
        if digits.lower().startswith("0x"):
            return sign * int(digits, 16)
        return sign * int(digits, 8 if digits.startswith("0") and digits != "0" else 10)
    except ValueError:
        return 0


def _joined(folder: str, place: str) -> str:
    if ntpath.splitdrive(place)[0] or place.startswith(("/", "\\")):
        return place
    return folder if place in (".", "") else folder.rstrip("/\\") + "\\" + place


def _parts(path: str, modifiers: str) -> str:
    """``%~dp0`` and the like: parts of a path by letters."""
    letters = modifiers.lower()
    cut = max(path.rfind("\\"), path.rfind("/"))
    folder, name = path[: cut + 1], path[cut + 1 :]
    if not set(letters) & set("dpnxf") or "f" in letters:
        return path
    drive, rest = ntpath.splitdrive(folder)
    stem, dot, ending = name.rpartition(".")
    stem, ending = (stem, dot + ending) if dot else (name, "")
    return (
        (drive if "d" in letters else "")
        + (rest if "p" in letters else "")
        + (stem if "n" in letters else "")
        + (ending if "x" in letters else "")
    )
