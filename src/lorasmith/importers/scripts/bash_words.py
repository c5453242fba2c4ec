"""Words of a bash script taken apart, before any variable is replaced."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from lorasmith.importers.scripts.scanner import UNPAIRED, Scanner
from lorasmith.importers.scripts.variables import ScriptError

_ARRAY = re.compile(r"[A-Za-z_]\w*(\[[^\]]*\])?\+?=\Z")
OPERATOR = re.compile(
    r"&>>?|\d*(?:<<<|<<-?|[<>]&-?|>>|>\||<>|[<>])|;;&|;&|;;|&&|\|\||\|&|[;&|()\n]"
)
REDIRECT = re.compile(r"&>>?|\d*(?:<<<|<<-?|[<>]&-?|>>|>\||<>|[<>])")
_BLANK_END = re.compile(r"\\[ \t]+(?:\n|\Z)")
_BARE = re.compile(r"[^\s;&|()<>'\"$`\\]+(?=[ \t\r\n;&|()<>]|\Z)")
_TEXT = re.compile(r".[^ \t\r\n;&|<>()'\"\\$`]*", re.DOTALL)
_QUOTED_TEXT = re.compile(r'.[^"\\$`]*', re.DOTALL)
_BACKQUOTED = re.compile(r"`((?:\\.|[^`\\])*)`", re.DOTALL)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{1,2}|u[0-9a-fA-F]{1,4}|[0-7]{1,3}|.)", re.DOTALL)
_SINGLE = re.compile(r"'([^']*)'")
_ESCAPED = re.compile(r"\$'((?:\\.|[^'\\])*)'", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_]\w*|[@*#?$!0-9-]")


PartKind = Literal["text", "default", "parameter", "command", "arithmetic"]


@dataclass(frozen=True, slots=True)
class Part:
    """Part of a word: text as it is, a default's text (which is split at spaces, as values are), a
    parameter, a command's output, or arithmetic."""

    kind: PartKind
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


class WordParser(Scanner):
    """
    Raises:
        ScriptError: where the text is not as bash would have it, with the line.
    """

    def __init__(self, text: str, *, first_line: int = 1) -> None:
        super().__init__(text, first_line=first_line)
        self._here: list[tuple[str, bool]] = []

    def _blank(self) -> None:
        """Past spaces, continued lines and comments."""
        while not self._done:
            if self._char() in " \t\r":
                self._place += 1
            elif self._at("\\\n"):
                self._place += 2
            elif self._at("#"):
                self._skip("\n")
            else:
                return

    def _peek(self) -> str:
        """The operator or bare word that comes next; "" at the end."""
        self._blank()
        if match := OPERATOR.match(self._text, self._place):
            return match[0]
        match = _BARE.match(self._text, self._place)
        return match[0] if match else "" if self._done else "\0"

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
            while not self._done:
                start = self._place
                self._skip("\n", past=True)
                line = self._text[start : self._place].rstrip("\r\n")
                if (line.lstrip("\t") if tabs else line) == end:
                    break
        self._here = []

    def _word(self, *, regex: bool = False) -> Word:
        self._blank()
        word = Word(self._line())
        start = self._place
        while not self._done:
            char, begun = self._char(), self._place > start
            if _BLANK_END.match(self._text, self._place):
                raise ScriptError(
                    self._line(), "has a space behind the \\ at its end, which ends the command"
                )
            if char == "(" and begun and _ARRAY.match(self._text[start : self._place]):
                self._place += 1
                word.members = self._members(word.line)
                return word
            if char == "(" and begun and self._char(-1) in "?*+@!":
                raise ScriptError(self._line(), "holds a pattern that is not followed")
            if self._at("<(", ">("):
                self._bracketed(word.parts, "command", 1, "()", quoted=False)
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
        char, line = self._char(), self._line()
        if char == "\\":
            following = self._char(1)
            self._place += 2
            if following != "\n":
                plain = not quoted or (following and following in '"\\$`')
                parts.append(Part("text", following if plain else char + following, quoted=True))
        elif char == "'" and not quoted:
            parts.append(Part("text", self._needed(_SINGLE, line, UNPAIRED)[1], quoted=True))
        elif char == '"' and not quoted:
            self._place += 1
            parts.append(Part("text", "", quoted=True))
            while not self._at('"'):
                if self._done:
                    raise ScriptError(line, UNPAIRED)
                self._part(parts, quoted=True)
            self._place += 1
        elif char == "`":
            command = self._needed(_BACKQUOTED, line, "has a ` without its partner")
            parts.append(Part("command", command[1], quoted))
        elif char == "$":
            self._dollar(parts, quoted=quoted)
        else:
            text = self._match(_QUOTED_TEXT if quoted else _TEXT)
            assert text is not None
            parts.append(Part("text", text[0], quoted))

    def _dollar(self, parts: list[Part], *, quoted: bool) -> None:
        line, following = self._line(), self._char(1)
        if self._at("$(("):
            end = self._closing(self._place + 1, "(", ")", line)
            if self._text[end - 1] == ")":
                parts.append(Part("arithmetic", self._text[self._place + 3 : end - 1], quoted))
                self._place = end + 1
                return
        if following == "(":
            self._bracketed(parts, "command", 1, "()", quoted=quoted)
        elif following == "{":
            self._bracketed(parts, "parameter", 1, "{}", quoted=quoted)
        elif match := _NAME.match(self._text, self._place + 1):
            parts.append(Part("parameter", match[0], quoted))
            self._place = match.end()
        elif following == "'" and not quoted:  # The escapes of C.
            text = _ESCAPE.sub(_unescape, self._needed(_ESCAPED, line, UNPAIRED)[1])
            parts.append(Part("text", text.replace("\0", ""), quoted=True))
        else:
            if following != '"' or quoted:  # $"…" is "…", translated where there is a translation.
                parts.append(Part("text", "$", quoted))
            self._place += 1

    def _bracketed(
        self, parts: list[Part], kind: PartKind, ahead: int, pair: str, *, quoted: bool
    ) -> None:
        """Take what stands in the brackets that open so many signs ahead."""
        start = self._place + ahead
        end = self._closing(start, pair[0], pair[1], self._line())
        parts.append(Part(kind, self._text[start + 1 : end], quoted))
        self._place = end + 1

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
    while not parser._done:
        if not quoted and parser._char() in " \t\r\n;&|<>()":
            parts.append(Part("text", parser._char()))
            parser._place += 1
        else:
            parser._part(parts, quoted=quoted)
    return parts
