"""Words of a bash script taken apart, before any variable is replaced."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Literal

from lorasmith.importers.scripts.variables import ScriptError

_ARRAY = re.compile(r"[A-Za-z_]\w*(\[[^\]]*\])?\+?=\Z")
OPERATOR = re.compile(
    r"&>>?|\d*(?:<<<|<<-?|[<>]&-?|>>|>\||<>|[<>])|;;&|;&|;;|&&|\|\||\|&|[;&|()\n]"
)
REDIRECT = re.compile(r"&>>?|\d*(?:<<<|<<-?|[<>]&-?|>>|>\||<>|[<>])")
_BLANK_END = re.compile(r"\\[ \t]+(?:\n|\Z)")
_NAME = re.compile(r"[A-Za-z_]\w*|[@*#?$!0-9-]")


@dataclass(frozen=True, slots=True)
class Part:
    """Part of a word: text as it is, a default's text (which is split at spaces, as values are), a
    parameter, a command's output, or arithmetic."""

    kind: Literal["text", "default", "parameter", "command", "arithmetic"]
    text: str
    quoted: bool = False


@dataclass(slots=True)
class Word:
    """``members`` where it is ``name=( … )``."""

    line: int
    parts: list[Part] = field(default_factory=list)
    members: list[Word] | None = None

    @property
    def plain(self) -> str:
        """Its text, where it is a bare word; else what no bare word is."""
        bare = len(self.parts) == 1 and self.parts[0].kind == "text" and not self.parts[0].quoted
        return self.parts[0].text if bare else "\0"


class WordParser:
    """
    Raises:
        ScriptError: where the text is not as bash would have it, with the line.
    """

    def __init__(self, text: str, *, first_line: int = 1) -> None:
        self._text = text.replace("\r\n", "\n")
        self._first = first_line
        self._here: list[tuple[str, bool]] = []
        self._place = 0
        self._lines = [0]
        for match in re.finditer("\n", self._text):
            self._lines.append(match.end())

    def _line(self, place: int | None = None) -> int:
        where = self._place if place is None else place
        return bisect_right(self._lines, where) - 1 + self._first

    def _blank(self) -> None:
        """Past spaces, continued lines and comments."""
        while self._place < len(self._text):
            char = self._text[self._place]
            if char in " \t\r":
                self._place += 1
            elif self._text.startswith("\\\n", self._place):
                self._place += 2
            elif char == "#":
                end = self._text.find("\n", self._place)
                self._place = len(self._text) if end < 0 else end
            else:
                return

    def _peek(self) -> str:
        """The operator or bare word that comes next; "" at the end."""
        self._blank()
        if match := OPERATOR.match(self._text, self._place):
            return match[0]
        match = re.compile(r"[^\s;&|()<>'\"$`\\]+").match(self._text, self._place)
        if match is None:
            return "" if self._place >= len(self._text) else "\0"
        end = match.end()
        alone = end >= len(self._text) or self._text[end] in " \t\r\n;&|()<>"
        return match[0] if alone else "\0"

    def _take(self, *texts: str) -> str:
        text = self._peek()
        if text not in texts or not text:
            return ""
        self._place += len(text)
        if text == "\n":
            self._skip_here_texts()
        return text

    def _expect(self, text: str, of: str, line: int) -> None:
        if not self._take(text):
            raise ScriptError(line, f"begins `{of}`, whose `{text}` is missing")

    def _newlines(self) -> None:
        while self._take("\n"):
            pass

    def _skip_here_texts(self) -> None:
        for end, tabs in self._here:
            while self._place < len(self._text):
                stop = self._text.find("\n", self._place)
                stop = len(self._text) if stop < 0 else stop
                line = self._text[self._place : stop]
                self._place = min(stop + 1, len(self._text))
                if (line.lstrip("\t") if tabs else line).rstrip("\r") == end:
                    break
        self._here = []

    def _word(self, *, regex: bool = False) -> Word:
        self._blank()
        word = Word(self._line())
        start = self._place
        while self._place < len(self._text):
            char = self._text[self._place]
            if char == "\\" and _BLANK_END.match(self._text, self._place):
                raise ScriptError(
                    self._line(), "has a space behind the \\ at its end, which ends the command"
                )
            if (
                char == "("
                and self._place > start
                and _ARRAY.match(self._text[start : self._place])
            ):
                self._place += 1
                word.members = self._members(word.line)
                return word
            if char == "(" and self._place > start and self._text[self._place - 1] in "?*+@!":
                raise ScriptError(self._line(), "holds a pattern that is not followed")
            if self._text.startswith(("<(", ">("), self._place):
                end = self._closing(self._place + 1, "(", ")", word.line)
                word.parts.append(Part("command", self._text[self._place + 2 : end]))
                self._place = end + 1
                continue
            if char in " \t\r\n;&|<>()" and not (regex and char in "|()<>"):
                break
            self._part(word.parts, quoted=False)
        if self._place == start:
            raise ScriptError(self._line(), "breaks off where a word is due")
        return word

    def _members(self, line: int) -> list[Word]:
        words: list[Word] = []
        while True:
            self._newlines()
            if self._take(")"):
                return words
            if not self._peek() or OPERATOR.fullmatch(self._peek()):
                raise ScriptError(line, "begins a list, whose ) is missing")
            words.append(self._word())

    def _part(self, parts: list[Part], *, quoted: bool) -> None:
        """Take one part; unquoted text goes on to the next special sign."""
        char = self._text[self._place]
        if char == "\\" and not quoted:
            following = self._text[self._place + 1 : self._place + 2]
            self._place += 2
            if following != "\n":
                parts.append(Part("text", following, quoted=True))
        elif char == "\\":
            following = self._text[self._place + 1 : self._place + 2]
            self._place += 2
            if following != "\n":
                text = following if following and following in '"\\$`' else "\\" + following
                parts.append(Part("text", text, quoted=True))
        elif char == "'" and not quoted:
            end = self._text.find("'", self._place + 1)
            if end < 0:
                raise ScriptError(self._line(), "has a quote without its partner")
            parts.append(Part("text", self._text[self._place + 1 : end], quoted=True))
            self._place = end + 1
        elif char == '"' and not quoted:
            line = self._line()
            self._place += 1
            parts.append(Part("text", "", quoted=True))
            while not self._text.startswith('"', self._place):
                if self._place >= len(self._text):
                    raise ScriptError(line, "has a quote without its partner")
                self._part(parts, quoted=True)
            self._place += 1
        elif char == "`":
            line, end = self._line(), self._place + 1
            while end < len(self._text) and self._text[end] != "`":
                end += 2 if self._text[end] == "\\" else 1
            if end >= len(self._text):
                raise ScriptError(line, "has a ` without its partner")
            parts.append(Part("command", self._text[self._place + 1 : end], quoted))
            self._place = end + 1
        elif char == "$":
            self._dollar(parts, quoted=quoted)
        else:
            stop = '"\\$`' if quoted else " \t\r\n;&|<>()'\"\\$`"
            end = self._place + 1
            while end < len(self._text) and self._text[end] not in stop:
                end += 1
            parts.append(Part("text", self._text[self._place : end], quoted))
            self._place = end

    def _dollar(self, parts: list[Part], *, quoted: bool) -> None:
        text, line = self._text, self._line()
        following = text[self._place + 1 : self._place + 2]
        if text.startswith("$((", self._place):
            end = self._closing(self._place + 1, "(", ")", line)
            if text[end - 1] == ")":
                parts.append(Part("arithmetic", text[self._place + 3 : end - 1], quoted))
                self._place = end + 1
                return
        if following == "(":
            end = self._closing(self._place + 1, "(", ")", line)
            parts.append(Part("command", text[self._place + 2 : end], quoted))
            self._place = end + 1
        elif following == "{":
            end = self._closing(self._place + 1, "{", "}", line)
            parts.append(Part("parameter", text[self._place + 2 : end], quoted))
            self._place = end + 1
        elif match := _NAME.match(text, self._place + 1):
            parts.append(Part("parameter", match[0], quoted))
            self._place = match.end()
        elif following == "'" and not quoted:
            self._escaped(parts, line)
        elif following == '"' and not quoted:
            self._place += 1  # $"…" is "…", translated where there is a translation.
        else:
            parts.append(Part("text", "$", quoted))
            self._place += 1

    def _escaped(self, parts: list[Part], line: int) -> None:
        """``$'…'``, with the escapes of C."""
        match = re.compile(r"\$'((?:\\.|[^'\\])*)'", re.DOTALL).match(self._text, self._place)
        if match is None:
            raise ScriptError(line, "has a quote without its partner")
        text = re.sub(
            r"\\(x[0-9a-fA-F]{1,2}|u[0-9a-fA-F]{1,4}|[0-7]{1,3}|.)",
            _unescape,
            match[1],
            flags=re.DOTALL,
        )
        parts.append(Part("text", text.replace("\0", ""), quoted=True))
        self._place = match.end()

    def _closing(self, place: int, opens: str, closes: str, line: int) -> int:
        """Where the bracket at ``place`` closes, past quotes."""
        depth = 0
        while place < len(self._text):
            char = self._text[place]
            if char == "\\":
                place += 1
            elif char == "'" and opens == "(":
                place = self._text.find("'", place + 1)
                if place < 0:
                    break
            elif char == '"':
                place += 1
                while place < len(self._text) and self._text[place] != '"':
                    if self._text.startswith("$(", place):
                        place = self._closing(place + 1, "(", ")", line)
                    place += 2 if self._text[place] == "\\" else 1
            elif char == opens:
                depth += 1
            elif char == closes:
                depth -= 1
                if not depth:
                    return place
            place += 1
        raise ScriptError(line, f"has a {opens} without its partner")


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v",
            "e": "\x1b", "E": "\x1b", "\\": "\\", "'": "'", '"': '"', "?": "?"}  # fmt: skip


def _unescape(match: re.Match[str]) -> str:
    text = match[1]
    if text[0] in "xu" and len(text) > 1:
        return chr(int(text[1:], 16))
    if text[0] in "01234567":
        return chr(int(text, 8) & 0xFF)
    return _ESCAPES.get(text, "\\" + text)


def is_match(item: Word | str) -> bool:
    return isinstance(item, Word) and item.plain == "=~"


def parts_of(text: str, *, quoted: bool) -> list[Part]:
    """A text within a construct, such as the default of ``${name:-text}``, taken apart."""
    parser = WordParser(text)
    parts: list[Part] = []
    while parser._place < len(text):
        if not quoted and text[parser._place] in " \t\r\n;&|<>()":
            parts.append(Part("text", text[parser._place]))
            parser._place += 1
        else:
            parser._part(parts, quoted=quoted)
    return parts
