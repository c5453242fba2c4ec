"""The syntax of bash scripts: text to commands, before any variable is replaced."""

from __future__ import annotations

from dataclasses import dataclass

from lorasmith.importers.scripts.bash_words import OPERATOR, REDIRECT, Word, WordParser, is_match
from lorasmith.importers.scripts.variables import ScriptError

_ENDS = ("then", "elif", "else", "fi", "do", "done", "esac", "}", ")", ";;", ";&", ";;&", "")


@dataclass(slots=True)
class Simple:
    line: int
    words: list[Word]


@dataclass(slots=True)
class If:
    line: int
    branches: list[tuple[list[Node], list[Node]]]
    otherwise: list[Node]


@dataclass(slots=True)
class For:
    line: int
    name: str
    words: list[Word] | None
    arithmetic: tuple[str, str, str] | None
    body: list[Node]
    select: bool


@dataclass(slots=True)
class While:
    line: int
    condition: list[Node]
    body: list[Node]
    until: bool


@dataclass(slots=True)
class Case:
    line: int
    word: Word
    entries: list[tuple[list[Word], list[Node]]]


@dataclass(slots=True)
class Test:
    line: int
    items: list[Word | str]


@dataclass(slots=True)
class Arithmetic:
    line: int
    text: str


@dataclass(slots=True)
class Group:
    """``{ … }``, or ``( … )``, which is a process ``apart``."""

    line: int
    body: list[Node]
    apart: bool


@dataclass(slots=True)
class Function:
    line: int
    name: str
    body: Node


@dataclass(slots=True)
class Pipeline:
    line: int
    commands: list[Node]
    negated: bool


@dataclass(slots=True)
class AndOr:
    line: int
    first: Node
    rest: list[tuple[str, Node]]


Node = Simple | If | For | While | Case | Test | Arithmetic | Group | Function | Pipeline | AndOr


class Parser(WordParser):
    def script(self) -> list[Node]:
        nodes = self._list(())
        if not self._done:
            raise ScriptError(self._line(), f"holds {self._peek()} where no command ends")
        return nodes

    def _list(self, ends: tuple[str, ...]) -> list[Node]:
        nodes: list[Node] = []
        while True:
            while self._take("\n", ";", "&"):
                pass
            if self._peek() in _ENDS:
                if not self._peek() or self._peek() in ends or not ends:
                    return nodes
                raise ScriptError(self._line(), f"holds {self._peek()} where no command ends")
            nodes.append(self._and_or())

    def _and_or(self) -> Node:
        line = self._line()
        first, rest = self._pipeline(), []
        while operator := self._take("&&", "||"):
            self._newlines()
            rest.append((operator, self._pipeline()))
        return AndOr(line, first, rest) if rest else first

    def _pipeline(self) -> Node:
        self._blank()
        line, negated = self._line(), False
        while self._take("!"):
            negated = not negated
        commands = [self._command()]
        while self._take("|", "|&"):
            self._newlines()
            commands.append(self._command())
        return (
            commands[0] if len(commands) == 1 and not negated else Pipeline(line, commands, negated)
        )

    def _command(self) -> Node:
        word, line = self._peek(), self._line()
        readers = {
            "if": self._if, "for": self._for, "select": self._for, "while": self._while,
            "until": self._while, "case": self._case, "function": self._function,
            "{": self._group, "[[": self._test,
        }  # fmt: skip
        node: Node
        if word in readers:
            self._place += len(word)
            node = readers[word](word, line)
        elif word == "(" and self._at("(("):
            node = Arithmetic(line, self._double_bracket(line))
        elif word == "(":
            self._place += 1
            body = self._list((")",))
            self._expect(")", "(", line)
            node = Group(line, body, apart=True)
        else:
            return self._simple(line)
        while self._redirect():
            pass
        return node

    def _double_bracket(self, line: int) -> str:
        end = self._closing(self._place, "(", ")", line)
        text = self._text[self._place + 2 : end - 1]
        if self._text[end - 1] != ")":
            raise ScriptError(line, "holds (( whose )) is missing")
        self._place = end + 1
        return text

    def _if(self, word: str, line: int) -> Node:
        branches, otherwise = [], []
        while True:
            condition = self._list(("then",))
            self._expect("then", word, line)
            branches.append((condition, self._list(("elif", "else", "fi"))))
            if self._take("elif"):
                continue
            if self._take("else"):
                otherwise = self._list(("fi",))
            self._expect("fi", word, line)
            return If(line, branches, otherwise)

    def _for(self, word: str, line: int) -> Node:
        self._blank()
        arithmetic, words, name = None, None, ""
        if self._at("(("):
            parts = self._double_bracket(line).split(";")
            if len(parts) != 3:
                raise ScriptError(line, "holds a `for` that is not understood")
            arithmetic = (parts[0], parts[1].strip(), parts[2])
        else:
            name = self._word().plain
            self._newlines()
            if self._take("in"):
                words = []
                while self._peek() not in ("\n", ";", ""):
                    words.append(self._word())
        while self._take("\n", ";"):
            pass
        self._expect("do", word, line)
        body = self._list(("done",))
        self._expect("done", word, line)
        return For(line, name, words, arithmetic, body, select=word == "select")

    def _while(self, word: str, line: int) -> Node:
        condition = self._list(("do",))
        self._expect("do", word, line)
        body = self._list(("done",))
        self._expect("done", word, line)
        return While(line, condition, body, until=word == "until")

    def _case(self, word: str, line: int) -> Node:
        subject = self._word()
        entries: list[tuple[list[Word], list[Node]]] = []
        self._newlines()
        self._expect("in", word, line)
        while True:
            self._newlines()
            if self._take("esac"):
                return Case(line, subject, entries)
            self._take("(")
            patterns = [self._word()]
            while self._take("|"):
                patterns.append(self._word())
            self._expect(")", word, line)
            body = self._list((";;", ";&", ";;&", "esac"))
            entries.append((patterns, body))
            if self._peek() in (";&", ";;&"):
                raise ScriptError(self._line(), f"holds {self._peek()}, which is not followed")
            if not self._take(";;") and self._peek() != "esac":
                raise ScriptError(line, "begins `case`, whose `esac` is missing")

    def _function(self, word: str, line: int) -> Node:
        name = self._word().plain
        if self._take("("):
            self._expect(")", name, line)
        self._newlines()
        return Function(line, name, self._command())

    def _group(self, word: str, line: int) -> Node:
        body = self._list(("}",))
        self._expect("}", word, line)
        return Group(line, body, apart=False)

    def _test(self, word: str, line: int) -> Node:
        items: list[Word | str] = []
        while True:
            self._newlines()
            text = self._peek()
            if text == "]]":
                self._place += 2
                return Test(line, items)
            if text in ("&&", "||", "(", ")", "<", ">"):
                self._place += len(text)
                items.append(text)
            elif not text or text in (";", "&", "|"):
                raise ScriptError(line, "begins `[[`, whose `]]` is missing")
            else:
                items.append(self._word(regex=bool(items) and is_match(items[-1])))

    def _redirect(self) -> bool:
        self._blank()
        match = None if self._at("<(", ">(") else self._match(REDIRECT)
        if match is None:
            return False
        if match[0].endswith("-") and not match[0].endswith("<<-"):
            return True
        self._blank()
        start = self._place
        word = self._word()
        if match[0].lstrip("0123456789") in ("<<", "<<-"):
            end = "".join(part.text for part in word.parts)
            self._here.append((end or self._text[start : self._place], match[0].endswith("-")))
        return True

    def _simple(self, line: int) -> Node:
        words: list[Word] = []
        while True:
            if self._redirect():
                continue
            text = self._peek()
            if text == "(" and len(words) == 1 and words[0].plain != "\0":
                self._place += 1
                self._expect(")", words[0].plain, line)
                self._newlines()
                return Function(line, words[0].plain, self._command())
            if not text or OPERATOR.fullmatch(text):
                if not words and text not in ("\n", ";"):
                    raise ScriptError(line, f"holds {text or 'nothing'} where a command is due")
                return Simple(line, words)
            words.append(self._word())
