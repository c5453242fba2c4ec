"""Words and expressions of PowerShell: text to a tree, nothing worked out yet."""

from __future__ import annotations

import contextlib
import re
from abc import abstractmethod
from collections.abc import Callable, Iterator

from lorasmith.importers.scripts.scanner import UNPAIRED, Node, Scanner
from lorasmith.importers.scripts.variables import ScriptError

_COMPARISONS = (
    "eq|ne|gt|ge|lt|le|like|notlike|match|notmatch|contains|notcontains|in|notin"
    "|replace|split|join|isnot|is|as"
)
_LEVELS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"-(?:and|or|xor)\b",
        r"-(?:band|bor|bxor)\b",
        rf"-[ic]?(?:{_COMPARISONS})\b",
        r"[-+](?![-+=A-Za-z])",
        r"[*/%](?!=)",
        r"-f\b",
        r"\.\.",
    )
)
_UNARY = re.compile(r"!|-not\b|-bnot\b|-join\b|-split\b|\+\+|--(?=\$)|[-+,]", re.IGNORECASE)
VARIABLE = re.compile(r"\$(?:\{(?P<braced>[^}\n]*)\}|(?P<name>(?:\w+:)?\w+|[?$^]))")
_SPLAT = re.compile(r"@(\w+)")
NUMBER = re.compile(
    r"(?:0x[\da-f]+|(?:\d+(?:\.(?!\.)\d*)?|\.\d+)(?:e[-+]?\d+)?)(?:[dl]?(?:kb|mb|gb)?)(?!\w|\.\d)",
    re.IGNORECASE,
)
_SINGLE = re.compile(r"((?:''|[^'])*)'")
_KEY = re.compile(r"[\w-]+")
_PLAIN = re.compile(r"[^\s;|(){}&`'\"$,]+|,")
_WORD = re.compile(r"[A-Za-z][\w-]*")
_BLANK_END = re.compile(r"`[ \t]+(?:\r?\n|\Z)")
_HERE_TEXT = re.compile(r"@(['\"])[ \t]*\n")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


class WordParser(Scanner):
    """
    Raises:
        ScriptError: where the text is not as PowerShell would have it, with the line.
    """

    def __init__(self, text: str, *, first_line: int = 1) -> None:
        super().__init__(text, first_line=first_line)
        self._lines_end = True  # Whether the end of a line ends what is being read.
        self._commas = True  # Whether commas make lists.

    @contextlib.contextmanager
    def _inside(self, *, lines_end: bool, commas: bool) -> Iterator[None]:
        """Within brackets, where other rules hold."""
        outer = self._lines_end, self._commas
        self._lines_end, self._commas = lines_end, commas
        try:
            yield
        finally:
            self._lines_end, self._commas = outer

    def _blank(self, *, newlines: bool | None = None) -> None:
        """Past spaces, comments and continued lines; past ends of lines where they end nothing."""
        newlines = not self._lines_end if newlines is None else newlines
        while not self._done:
            if self._char() in " \t\r\ufeff\xa0" or (newlines and self._at("\n")):
                self._place += 1
            elif self._at("`\n"):
                self._place += 2
            elif _BLANK_END.match(self._text, self._place):
                what = "has a space behind the ` at its end, which ends the command"
                raise ScriptError(self._line(), what)
            elif self._at("<#"):
                self._skip("#>", past=True)
            elif self._at("#"):
                self._skip("\n")
            else:
                return

    def _take(self, text: str) -> bool:
        self._blank()
        if not self._at(text):
            return False
        self._place += len(text)
        return True

    def _expect(self, text: str, line: int, of: str) -> None:
        if not self._take(text):
            raise ScriptError(line, f"begins `{of}`, whose `{text}` is missing")

    def _keyword(self, *words: str) -> str:
        self._blank(newlines=True)
        match = _WORD.match(self._text, self._place)
        if match and match[0].lower() in words:
            self._place = match.end()
            return match[0].lower()
        return ""

    @abstractmethod
    def _statements(self, end: str) -> list[Node]:
        """Statements up to ``end``."""

    @abstractmethod
    def _statement(self) -> Node:
        """One statement."""

    @abstractmethod
    def _block(self) -> Node:
        """``{ … }``."""

    def _bracketed(self, line: int, end: str) -> Node:
        """A statement up to the closing bracket; ends of lines do not count in it."""
        with self._inside(lines_end=False, commas=True):
            self._blank()
            node = Node("null", line) if self._at(end) else self._statement()
            self._expect(end, line, "(" if end == ")" else "[")
        return node

    def _skip_brackets(self, line: int) -> None:
        depth = 0
        while not self._done:
            char = self._char()
            if char in "'\"":
                self._quoted()
                continue
            depth += (char == "[") - (char == "]")
            self._place += 1
            if not depth:
                return
        raise ScriptError(line, "has a [ without its partner")

    def _argument(self) -> Node:
        """One word of a command: text, quotes and variables side by side."""
        line, parts, start = self._line(), [], self._place
        while not self._done:
            char = self._char()
            first = self._place == start
            if char in " \t\r\n;|(){}&" and not (first and char in "({"):
                break
            if char == "," and (first or self._char(1) in " \t\r\n"):
                break
            if char == "`":
                if self._char(1) in ("\n", ""):
                    break
                if _BLANK_END.match(self._text, self._place):
                    self._blank()
                parts.append(Node("text", line, self._char(1)))
                self._place += 2
            elif char in "'\"":
                parts.append(self._quoted())
            elif first and char == "@" and (match := self._match(_SPLAT)):
                parts.append(Node("variable", line, match[1]))
            elif first and (char in "({" or self._text.startswith(("@(", "@{", "@'", '@"'), start)):
                parts.append(self._postfix(self._primary()))
            elif char == "$":
                parts.append(self._dollar(member=first))
            else:
                match = self._needed(_PLAIN, line, f"holds {char}, which is not understood")
                parts.append(Node("text", line, match[0]))
        if not parts:
            raise ScriptError(line, "breaks off where a word is due")
        return parts[0] if len(parts) == 1 else Node("expand", line, items=parts)

    def _dollar(self, *, member: bool) -> Node:
        line = self._line()
        if self._text.startswith("$(", self._place):
            self._place += 2
            body = self._statements(")")
            self._place += 1
            return Node("sub", line, items=body)
        match = self._match(VARIABLE)
        if match is None:
            self._place += 1
            return Node("text", line, "$")
        node = Node("variable", line, name_of(match))
        return self._postfix(node) if member else node

    def _quoted(self) -> Node:
        line, quote = self._line(), self._char()
        self._place += 1
        if quote == "'":
            match = self._needed(_SINGLE, line, UNPAIRED)
            return Node("text", line, match[1].replace("''", "'"))
        return self._expandable(line, lambda: self._at('"'), 1)

    def _expandable(self, line: int, at_end: Callable[[], bool], length: int) -> Node:
        parts: list[Node] = []
        while True:
            if self._done:
                raise ScriptError(line, UNPAIRED)
            if length == 1 and self._at('""'):
                parts.append(Node("text", line, '"'))
                self._place += 2
            elif at_end():
                self._place += length
                return Node("expand", line, items=[Node("text", line, ""), *parts])
            elif self._char() == "`":
                char = self._char(1)
                parts.append(Node("text", line, _ESCAPES.get(char, char).replace("\0", "")))
                self._place += 2
            elif self._char() == "$":
                parts.append(self._dollar(member=False))
            else:
                parts.append(Node("text", line, self._char()))
                self._place += 1

    def _expression(self, level: int = 0) -> Node:
        if level == len(_LEVELS):
            return self._unary()
        node = self._expression(level + 1)
        while True:
            self._blank()
            match = self._match(_LEVELS[level])
            if match is None:
                return self._choice(node) if level == 0 else node
            self._blank(newlines=True)
            line = self._line()
            node = Node("binary", line, match[0].lower(), [node, self._expression(level + 1)])

    def _choice(self, node: Node) -> Node:
        """``condition ? this : that``, where one follows."""
        if not re.compile(r"\?\s").match(self._text, self._place):
            return node
        line = self._line()
        self._place += 1
        self._blank(newlines=True)
        yes = self._expression()
        self._expect(":", line, "?")
        self._blank(newlines=True)
        return Node("choice", line, items=[node, yes, self._expression()])

    def _unary(self) -> Node:
        self._blank()
        line = self._line()
        if match := self._match(_UNARY):
            return Node("unary", line, match[0].lower(), [self._unary()])
        if self._at("["):
            start = self._place
            self._skip_brackets(line)
            name = self._text[start + 1 : self._place - 1].strip().lower()
            if self._at("::"):
                return self._postfix(Node("type", line, name))
            self._blank()
            rest = self._char()
            if rest in ("", "\n", ";", ")", "}", ",", "]"):
                return Node("type", line, name)
            return Node("cast", line, name, [self._unary()])
        first = self._postfix(self._primary())
        items = [first]
        while self._commas:
            self._blank()
            if not self._at(","):
                break
            self._place += 1
            self._blank(newlines=True)
            if self._at("["):
                items.append(self._unary())
            else:
                items.append(self._postfix(self._primary()))
        return first if len(items) == 1 else Node("list", line, items=items)

    def _primary(self) -> Node:
        self._blank()
        text, line = self._text, self._line()
        if match := self._match(_HERE_TEXT):
            return self._here_text(match[1], line)
        if text.startswith("(", self._place):
            self._place += 1
            return Node("paren", line, items=[self._bracketed(line, ")")])
        if text.startswith("@(", self._place):
            self._place += 2
            body = self._statements(")")
            self._place += 1
            return Node("array", line, items=body)
        if text.startswith("@{", self._place):
            self._place += 2
            return self._table(line)
        if text.startswith("{", self._place):
            return self._block()
        char = text[self._place : self._place + 1]
        if char in ("'", '"'):
            return self._quoted()
        if char == "$":
            return self._dollar(member=False)
        if match := self._match(NUMBER):
            return Node("number", line, match[0].lower())
        raise ScriptError(line, f"holds {char.strip() or 'the end'} where a value is due")

    def _here_text(self, quote: str, line: int) -> Node:
        if quote == "'":
            end = self._text.find("\n'@", self._place - 1)
            if end < 0:
                raise ScriptError(line, UNPAIRED)
            node = Node("text", line, self._text[self._place : max(end, self._place)])
            self._place = end + 3
            return node
        if self._at('"@'):
            self._place += 2
            return Node("text", line)
        return self._expandable(line, lambda: self._at('\n"@'), 3)

    def _table(self, line: int) -> Node:
        items: list[Node] = []
        with self._inside(lines_end=True, commas=True):
            while True:
                self._blank(newlines=True)
                if self._take(";"):
                    continue
                if self._take("}"):
                    return Node("table", line, items=items)
                key = self._match(_KEY)
                items.append(Node("text", line, key[0]) if key else self._primary())
                self._expect("=", line, "@{")
                self._blank(newlines=True)
                items.append(self._statement())

    def _postfix(self, node: Node) -> Node:
        while True:
            line = self._line()
            if match := self._match(re.compile(r"(?:\?)?(\.|::)(?=[A-Za-z_])(\w+)")):
                kind = "member" if match[1] == "." else "static"
                if self._text.startswith("(", self._place):
                    self._place += 1
                    node = Node("call", line, match[2].lower(), [node, *self._arguments(line)])
                else:
                    node = Node(kind, line, match[2].lower(), [node])
            elif self._at("[") and node.kind != "text":
                self._place += 1
                node = Node("index", line, items=[node, self._bracketed(line, "]")])
            elif node.kind == "variable" and (
                match := self._match(re.compile(r"\+\+|--(?![\w-])"))
            ):
                return Node("postfix", line, match[0], [node])
            else:
                return node

    def _arguments(self, line: int) -> list[Node]:
        values: list[Node] = []
        with self._inside(lines_end=False, commas=False):
            while not self._take(")"):
                values.append(self._expression())
                self._blank()
                if not self._take(",") and not self._at(")"):
                    raise ScriptError(line, "has a ( without its partner")
        return values


def name_of(match: re.Match[str]) -> str:
    return match["braced"] if match["braced"] is not None else match["name"]
