"""The syntax of scripts for cmd.exe: lines to commands, and a command line to its arguments."""

from __future__ import annotations

import re
from collections.abc import Callable

from lorasmith.importers.scripts.scanner import UNPAIRED, Node, Scanner
from lorasmith.importers.scripts.variables import ScriptError

SEPARATORS = " \t,;=\r"
COMPARISONS = ("equ", "neq", "lss", "leq", "gtr", "geq")

_KEYWORD = re.compile(r"(if|for|rem)(?=[\s,;=(/]|\Z)", re.IGNORECASE)
_REDIRECT = re.compile(r"[ \t]*\d?>{1,2}[ \t]*(?:&\d|\"[^\"\n]*\"|[^\s&|()]+)")
_EQUALS = re.compile(r"[ \t]*==[ \t]*")
_ELSE = re.compile(r"[^\S\n]*else(?=[\s(])[ \t]*", re.IGNORECASE)
_DO = re.compile(r"\)\s*do(?=[\s(])", re.IGNORECASE)
_BLANK_END = re.compile(r"\^[ \t]+\n")


class Reader(Scanner):
    """One command with its blocks, taken from as many lines as it needs.

    Args:
        replaced: replaces the variables of one line.

    Raises:
        ScriptError: where brackets do not close, with the line.
    """

    def __init__(self, lines: list[str], first: int, replaced: Callable[[str, int], str]) -> None:
        super().__init__("")
        self._lines, self._replaced = lines, replaced
        self.next_line = first
        self._breaks = [(0, first + 1)]
        self._depth = 0
        self._more()

    def command_line(self) -> Node:
        if re.match(r"[\s,;=]*:", self._text):
            return Node("block", self._line())
        return self._sequence()  # What stands behind a ) without its partner is a remark to cmd.

    def _line(self) -> int:
        return [line for place, line in self._breaks if place <= self._place][-1]

    def _more(self) -> bool:
        if self.next_line >= len(self._lines):
            return False
        self._breaks.append((len(self._text), self.next_line + 1))
        line = self._lines[self.next_line]
        self.next_line += 1
        self._text += self._replaced(line.rstrip("\r"), self.next_line) + "\n"
        return True

    def _blank(self, more: str = "") -> None:
        while not self._done and self._char() in SEPARATORS + more:
            self._place += 1

    def _sequence(self) -> Node:
        """Commands with ``&`` between them, up to the end of the line or the block."""
        items = [self._chain("||")]
        while self._at("&"):
            self._place += 1
            items.append(self._chain("||"))
        return items[0] if len(items) == 1 else Node("block", items[0].line, items=items)

    def _chain(self, operator: str) -> Node:
        inner = {"||": "&&", "&&": "|", "|": ""}[operator]
        one = self._chain(inner) if inner else self._command()
        while self._at(operator) and not (operator == "|" and self._at("||")):
            self._place += len(operator)
            other = self._chain(inner) if inner else self._command()
            one = Node(operator, one.line, items=[one, other])
        return one

    def _command(self) -> Node:
        self._blank("@")
        line = self._line()
        if self._at("("):
            return self._block(line)
        match = self._match(_KEYWORD)
        word = match[1].lower() if match else ""
        if word == "rem":
            self._skip("\n")
            return Node("block", line)
        if match:
            return self._if(line) if word == "if" else self._for(line)
        text = self._raw()
        if text.lstrip().startswith(":"):
            return Node("block", line)
        return Node("simple", line, text)

    def _block(self, line: int) -> Node:
        self._place += 1
        self._depth += 1
        items: list[Node] = []
        while True:
            self._blank("\n")
            if self._done:
                if not self._more():
                    raise ScriptError(line, "begins a block, whose ) is missing")
                continue
            if self._char() == ")":
                self._place += 1
                self._depth -= 1
                self._match(_REDIRECT)
                return Node("block", line, items=items)
            if self._char() == ":":
                self._place = self._text.find("\n", self._place)
                continue
            items.append(self._sequence())

    def _word(self, stops: str = "") -> str:
        self._blank()
        start, quoted = self._place, False
        while not self._done:
            char = self._char()
            quoted ^= char == '"'
            if char == "\n" or (not quoted and (char in SEPARATORS or char in stops)):
                break
            self._place += 1
        return self._text[start : self._place]

    def _if(self, line: int) -> Node:
        words: list[str] = []
        word = self._word("=")
        while word.lower() in ("/i", "not"):
            words.append(word.lower())
            word = self._word("=")
        words.sort()  # "/i" first.
        if word.lower() in ("defined", "exist", "errorlevel", "cmdextversion"):
            words += [word.lower(), self._word()]
        else:
            operator = "=="
            if not self._match(_EQUALS):
                operator = self._word().lower()
                if operator not in COMPARISONS:
                    raise ScriptError(line, "holds an `if` that is not understood")
            words += [word, operator, self._word("(") if operator == "==" else self._word()]
        self._blank()
        if self._char() in ("\n", ""):
            raise ScriptError(line, "holds an `if` without a command")
        items = [self._body()]
        if items[0].kind == "block" and self._match(_ELSE):
            items.append(self._body())
        return Node("if", line, items=items, words=words)

    def _body(self) -> Node:
        """A command without brackets takes all that stands on the line."""
        return self._command() if self._at("(") else self._sequence()

    def _for(self, line: int) -> Node:
        option = ""
        word = self._word()
        while word.startswith("/") or (option and word and not word.startswith("%")):
            option = word.lower() if word.startswith("/") else option
            word = self._word()
        match = re.fullmatch(r"%([A-Za-z#@$])", word)
        if match is None or self._word("(").lower() != "in":
            raise ScriptError(line, "holds a `for` that is not understood")
        self._blank()
        end = _DO.search(self._text, self._place)
        while not end and self._more():
            end = _DO.search(self._text, self._place)
        if not end or not self._at("("):
            raise ScriptError(line, "holds a `for` that is not understood")
        values = self._text[self._place + 1 : end.start()]
        self._place = end.end()
        self._blank()
        return Node("for", line, items=[self._body()], words=[option, match[1], values])

    def _raw(self) -> str:
        """A simple command with its quotes and ``^``, without redirections."""
        result, quoted = "", False
        while not self._done:
            char = self._char()
            if char == '"':
                quoted = not quoted
            elif char == "\n":
                break
            elif not quoted:
                if char == "^":
                    if _BLANK_END.match(self._text, self._place):
                        what = "has a space behind the ^ at its end, which ends the command"
                        raise ScriptError(self._line(), what)
                    if self._char(1) == "\n":
                        self._text = self._text[: self._place] + self._text[self._place + 2 :]
                        if not self._more():
                            break
                        if self._char() not in '^\n"':
                            result += self._char()
                            self._place += 1
                        continue
                    result += self._text[self._place : self._place + 2]
                    self._place += 2
                    continue
                if char in "&|" or (char == ")" and self._depth):
                    break
                if char in "<>":
                    if result[-1:].isdigit() and result[-2:-1] in (" ", ""):
                        result = result[:-1]
                    self._place += 2 if self._at(">>") else 1
                    if self._at("&"):
                        self._place += 2
                    else:
                        self._word("&|<>")
                    continue
            result += char
            self._place += 1
        return result


def unescaped(text: str) -> str:
    """Without the ``^`` that stand before signs outside quotes."""
    result, quoted, place = "", False, 0
    while place < len(text):
        if text[place] == '"':
            quoted = not quoted
        elif text[place] == "^" and not quoted:
            place += 1
        result += text[place : place + 1]
        place += 1
    return result


def program_arguments(text: str, line: int) -> list[str]:
    """A command line taken apart as Microsoft's C runtime does it.

    Raises:
        ScriptError: a ``\\`` before a quote makes it part of the argument, which nobody means.
    """
    words: list[str] = []
    current: str | None = None
    quoted, place = False, 0
    while place < len(text):
        char = text[place]
        if char in " \t" and not quoted:
            if current is not None:
                words.append(current)
            current = None
            place += 1
            continue
        current = current or ""
        slashes = len(text) - place - len(text[place:].lstrip("\\"))
        if slashes and text[place + slashes : place + slashes + 1] == '"':
            current += "\\" * (slashes // 2)
            place += slashes
            if slashes % 2:
                if quoted and text[place + 1 : place + 2] in (" ", ""):
                    raise ScriptError(
                        line,
                        'has \\" at the end of a text, which Windows takes for a quote in it; '
                        "leave the \\ out",
                    )
                current += '"'
                place += 1
            continue
        if char == '"':
            if quoted and text.startswith('""', place):
                current += '"'
                place += 2
                continue
            quoted = not quoted
        else:
            current += char
        place += 1
    if quoted:
        raise ScriptError(line, UNPAIRED)
    return words if current is None else [*words, current]
