"""Words of a bash script: what stands for variables, quotes and arithmetic in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from lorasmith.importers.scripts.arithmetic import evaluate
from lorasmith.importers.scripts.bash_words import Part, Word, parts_of
from lorasmith.importers.scripts.variables import (
    LONGEST_MATCH,
    MARK,
    Reason,
    Script,
    ScriptError,
    glob_pattern,
    only_running,
)

_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(\[[^\]]*\])?(\+?=)")
_MOST_WORDS = 1000  # of one word with braces
_BRACED = re.compile(
    r"(?P<indirect>!)?(?P<count>\#(?=[\w@*]))?(?P<name>\w+|[@*#?$!-])(?:\[(?P<index>[^\]]*)\])?"
    r"(?P<rest>.*)\Z",
    re.DOTALL,
)


class BashExpansion:
    """
    Args:
        script: holds the variables; assignments go there.
    """

    def __init__(self, script: Script) -> None:
        self._script = script
        self._given: list[str] | None = None  # A function's arguments.

    def _substituted(self, text: str, line: int) -> str:
        """A command's output."""
        raise NotImplementedError

    def _number(self, text: str, line: int) -> int | Reason:
        """
        Raises:
            ValueError: bash would refuse the expression.
        """
        joined = self._text(Word(line, parts_of(text, quoted=True)), line)
        return self._value_of(joined, line)

    def _value_of(self, text: str, line: int, depth: int = 0) -> int | Reason:
        if reason := self._script.reason(text):
            return reason

        def get(name: str) -> int:
            if name not in self._script.values:
                raise LookupError(self._script.reason(self._script.never_set(name)))
            inner = self._joined(self._script.values[name])
            if depth > 8:
                raise ValueError(text)
            value = self._value_of(inner, line, depth + 1)
            if isinstance(value, Reason):
                raise LookupError(value)
            return value

        def put(name: str, value: int) -> None:
            self._script.set(name, str(value), line)

        try:
            return evaluate(text, get, put, bits=64)
        except LookupError as error:
            reason = error.args[0]
            assert isinstance(reason, Reason)
            return reason

    def _computed(self, text: str, line: int) -> int | Reason:
        try:
            return self._number(text, line)
        except ValueError:
            return only_running(f"(({text}))")

    def _assign(self, word: Word, line: int) -> None:
        match = _ASSIGNMENT.match(word.parts[0].text)
        assert match is not None
        name, index, adds = match[1], match[2], match[3] == "+="
        before = self._script.values.get(name)
        if adds and before is None:
            before = ""
        value: Any
        if word.members is not None:
            members = [text for each in word.members for text in self._expand(each, line)]
            kept = before if isinstance(before, list) else [before] if before else []
            value = [*kept, *members] if adds else members
        else:
            tail = [Part("text", word.parts[0].text[match.end() :]), *word.parts[1:]]
            value = self._text(Word(line, tail), line)
            if index is not None:
                self._assign_member(name, index[1:-1], value, line, before, adds)
                return
            if adds and isinstance(before, list):
                value = [before[0] + value, *before[1:]] if before else [value]
            elif adds:
                value = str(before) + value
        self._script.set(name, value, line)

    def _assign_member(
        self, name: str, index: str, value: str, line: int, before: Any, adds: bool
    ) -> None:
        members = list(before) if isinstance(before, list) else [before] if before else []
        place = self._computed(index, line) if re.fullmatch(r"[\w+ $-]+", index) else None
        if not isinstance(place, int) or not 0 <= place <= len(members):
            what = f"is set member by member (line {line})"
            self._script.set(name, self._script.unknown(Reason(name, what)), line)
            return
        members[place:] = [
            members[place] + value if adds and place < len(members) else value,
            *members[place + 1 :],
        ]
        self._script.set(name, members, line)

    @staticmethod
    def _joined(value: Any) -> str:
        """An array without an index is its first member."""
        return (value[0] if value else "") if isinstance(value, list) else str(value)

    def _text(self, word: Word, line: int) -> str:
        """A word as one text: nothing is split."""
        return " ".join(self._fields(word, line, split=False))

    def _expand(self, word: Word, line: int) -> list[str]:
        """A word as the command's arguments: none, one or several."""
        words = list(islice(_unbraced(word), _MOST_WORDS + 1))
        if len(words) > _MOST_WORDS:
            raise ScriptError(line, "holds braces that stand for too many words to be followed")
        return [text for each in words for text in self._fields(each, line, split=True)]

    def _fields(self, word: Word, line: int, *, split: bool) -> list[str]:
        fields: list[str] = []
        current: str | None = None
        parts = [each for part in word.parts for each in self._with_default(part, line)]
        for part in parts:
            if part.kind == "text":
                current = (current or "") + part.text if part.text or part.quoted else current
                continue
            values = self._values(part, line)
            self._script.spend(values)
            if part.quoted or not split:
                if isinstance(values, str):
                    current = (current or "") + values
                    continue
                for place, value in enumerate(values):
                    if place:
                        fields.append(current or "")
                        current = None
                    current = (current or "") + value
                continue
            for place, value in enumerate([values] if isinstance(values, str) else values):
                if place and current is not None:
                    fields.append(current)
                    current = None
                pieces = self._split(value) if value else []
                for number, piece in enumerate(pieces):
                    if number and current is not None:
                        fields.append(current)
                        current = None
                    current = (current or "") + piece if piece or current is not None else None
        if current is not None:
            fields.append(current)
        return fields

    def _split(self, value: str) -> list[str]:
        """At the signs of IFS, which are spaces unless the script sets it."""
        signs = str(self._script.values.get("IFS", " \t\n"))
        if any(sign in value for sign in signs if not sign.isspace()):
            return [self._script.unknown(Reason("IFS", "changes how words are split"))]
        spaces = "".join(sign for sign in signs if sign.isspace())
        return re.split(f"[{spaces}]+", value) if spaces else [value]

    def _with_default(self, part: Part, line: int) -> list[Part]:
        """The parts of a default, with its own quotes, where one takes the parameter's place."""
        match = _BRACED.match(part.text) if part.kind == "parameter" else None
        default = re.match(r":?-", match["rest"]) if match else None
        if match is None or default is None or match["indirect"] or match["count"]:
            return [part]
        inner = self._parameter(part.text[: match.start("rest")], line, quoted=True)
        value = "".join(inner)
        is_set = self._variable(match["name"]) is not None
        if is_set and (value or default[0] == "-"):
            return [part]
        parts = parts_of(match["rest"][default.end() :], quoted=part.quoted)
        parts = [
            Part("default", each.text) if each.kind == "text" and not each.quoted else each
            for each in parts
        ]
        return [each for inside in parts for each in self._with_default(inside, line)]

    def _values(self, part: Part, line: int) -> str | list[str]:
        """What stands for a ``$``: a text, or the members of an array."""
        if part.kind == "default":
            return part.text
        if part.kind == "arithmetic":
            number = self._computed(part.text, line)
            return self._script.unknown(number) if isinstance(number, Reason) else str(number)
        if part.kind == "command":
            return self._substituted(part.text, line)
        return self._parameter(part.text, line, quoted=part.quoted)

    def _parameter(self, text: str, line: int, *, quoted: bool) -> str | list[str]:
        match = _BRACED.match(text)
        if match is None:
            return self._mark(f"${{{text}}}")
        name, index, rest = match["name"], match["index"], match["rest"]
        if match["indirect"]:
            inner = self._parameter(name, line, quoted=True)
            if not isinstance(inner, str) or MARK.search(inner) or not inner.isidentifier():
                return self._mark(f"${{{text}}}")
            name = inner
        value = self._variable(name)
        is_set = value is not None
        if isinstance(value, list) and index not in ("@", "*") and name not in "@*":
            place = self._computed(index, line) if index else 0
            if isinstance(place, Reason):
                return self._script.unknown(place)
            inside = isinstance(place, int) and -len(value) <= place < len(value)
            value = value[place] if inside else ""
        elif isinstance(value, list) and (index == "*" or name == "*") and quoted:
            value = " ".join(value)
        if match["count"]:
            if value is None:
                return self._script.never_set(name)
            joined = "".join(value)
            if MARK.search(joined):
                return self._script.unknown(self._script.reason(joined) or only_running(name))
            return str(len(value))
        if not rest:
            return self._script.never_set(name) if value is None else value
        return self._operated(name, value, is_set, rest, line)

    def _variable(self, name: str) -> str | list[str] | None:
        if name in self._script.values:
            value = self._script.values[name]
            return list(value) if isinstance(value, list) else str(value)
        if name == "0" or name == "BASH_SOURCE":
            return self._script.path
        if name == "PWD":
            return self._script.folder
        if name in "@*":
            return list(self._given or [])  # The script itself is given nothing.
        if name == "#" and self._given is not None:
            return str(len(self._given))
        if name.isdigit():
            if self._given is not None:
                place = int(name) - 1
                return self._given[place] if place < len(self._given) else ""
            return None
        return None

    def _operated(
        self, name: str, value: str | list[str] | None, is_set: bool, rest: str, line: int
    ) -> str | list[str]:
        """``${name:-word}`` and the like."""
        match = re.match(r"(:?[-=+?])(.*)\Z", rest, re.DOTALL)
        if match:
            operator, word = match[1], Word(line, parts_of(match[2], quoted=False))
            empty = not is_set or (operator[0] == ":" and not value)
            known = self._script.reason("".join(value or ""))
            if operator[-1] == "+":
                if known and operator[0] == ":":
                    return self._script.unknown(known)
                return "" if empty else self._text(word, line)
            if not empty:
                assert value is not None
                return value
            if operator[-1] == "?":
                return self._script.never_set(name)
            default = self._text(word, line)
            if operator[-1] == "=":
                self._script.set(name, default, line)
            return default
        if value is None:
            return self._script.never_set(name)
        if isinstance(value, list):
            results = [self._operated(name, each, True, rest, line) for each in value]
            return [each for each in results if isinstance(each, str)]
        if MARK.search(value):
            return value
        changed = self._changed(value, rest, line)
        return self._mark(f"${{{name}{rest}}}") if changed is None else changed

    def _changed(self, value: str, rest: str, line: int) -> str | None:
        """``${name%pattern}``, ``${name/pattern/text}``, ``${name:1:2}``, ``${name^^}``."""
        if rest in ("^^", ",,"):
            return value.upper() if rest == "^^" else value.lower()
        if rest in ("^", ","):
            return (value[:1].upper() if rest == "^" else value[:1].lower()) + value[1:]
        if match := re.fullmatch(r":\s*(\(?-?\w+\)?)(?::\s*(-?\w+))?", rest):
            start = self._computed(match[1], line)
            length = self._computed(match[2], line) if match[2] else len(value)
            if isinstance(start, Reason) or isinstance(length, Reason):
                return None
            start = max(0, start + len(value)) if start < 0 else start
            return value[start : length if length < 0 else start + length]
        match = re.match(r"(##?|%%?|//?[#%]?)(.*)\Z", rest, re.DOTALL)
        if match is None:
            return None
        operator, pattern, replacement = match[1], match[2], ""
        if operator[0] == "/":
            pattern, _, replacement = pattern.partition("/")
        texts = [
            self._text(Word(line, parts_of(each, quoted=False)), line)
            for each in (pattern, replacement)
        ]
        if any(MARK.search(each) for each in texts):
            return None
        if len(texts[1]) > LONGEST_MATCH or not self._script.can_match(
            glob_pattern(texts[0]), value
        ):
            return None
        try:
            if operator[0] == "/":
                regex = glob_pattern(texts[0])
                regex = {"#": rf"\A{regex}", "%": rf"{regex}\Z"}.get(operator[-1], regex)
                count = 0 if operator.startswith("//") else 1
                return re.sub(regex, lambda _: texts[1], value, count=count, flags=re.DOTALL)
            return _trimmed(value, operator, texts[0])
        except re.error:
            return None

    def _mark(self, what: str) -> str:
        return self._script.unknown(only_running(what))


def _trimmed(value: str, operator: str, pattern: str) -> str:
    """Without what fits at the beginning or the end, the shortest or the longest."""
    regex = re.compile(glob_pattern(pattern), re.DOTALL)
    places = range(len(value) + 1)
    longest = len(operator) == 2
    if operator[0] == "#":
        fitting = [place for place in places if regex.fullmatch(value[:place])]
        return value[(fitting[-1] if longest else fitting[0]) :] if fitting else value
    fitting = [place for place in places if regex.fullmatch(value[place:])]
    return value[: fitting[0] if longest else fitting[-1]] if fitting else value


def is_assignment(word: Word) -> bool:
    first = word.parts[0]
    return first.kind == "text" and not first.quoted and bool(_ASSIGNMENT.match(first.text))


def _unbraced(word: Word) -> Iterator[Word]:
    """``{a,b}`` and ``{1..3}`` outside quotes, as words of their own."""
    for place, part in enumerate(word.parts):
        if part.kind != "text" or part.quoted:
            continue
        match = re.search(r"(?<!\$)\{([^{}]*,[^{}]*|(-?\d{1,18})\.\.(-?\d{1,18}))\}", part.text)
        if match is None:
            continue
        if match[2]:
            first, last = int(match[2]), int(match[3])
            step = 1 if last >= first else -1
            texts: Iterator[str] = map(str, range(first, last + step, step))
        else:
            texts = iter(match[1].split(","))
        for text in texts:
            replaced = part.text[: match.start()] + text + part.text[match.end() :]
            parts = [*word.parts[:place], Part("text", replaced), *word.parts[place + 1 :]]
            yield from _unbraced(Word(word.line, parts))
        return
    yield word
