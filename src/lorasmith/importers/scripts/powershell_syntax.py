"""The syntax of PowerShell scripts: text to statements, nothing worked out yet."""

from __future__ import annotations

import re

from lorasmith.importers.scripts.powershell_words import NUMBER, VARIABLE, WordParser, name_of
from lorasmith.importers.scripts.scanner import Node
from lorasmith.importers.scripts.variables import ScriptError

_ASSIGNMENT = re.compile(r"\?\?=|[-+*/%]?=(?!=)")
_REDIRECT = re.compile(r"[\d*]?>{1,2}(?:&\d)?")
_NAME = re.compile(r"[\w:-]+")
_LABEL = re.compile(r":\w+(?=\s)")
_FLOW = ("break", "continue", "return", "exit", "throw")


class Parser(WordParser):
    def script(self) -> list[Node]:
        nodes = self._statements("")
        if not self._done:
            raise ScriptError(self._line(), f"holds {self._char()} without its partner")
        return nodes

    def _statements(self, end: str) -> list[Node]:
        nodes: list[Node] = []
        with self._inside(lines_end=True, commas=True):
            while True:
                self._blank(newlines=True)
                if self._take(";"):
                    continue
                if self._done or self._char() in ")}":
                    break
                nodes.append(self._statement())
                self._blank()
                rest = self._char()
                if rest not in ("", "\n", ";", ")", "}") and nodes[-1].kind in ("chain", "assign"):
                    raise ScriptError(self._line(), f"holds {rest} where a statement should end")
        if end and not self._at(end):
            raise ScriptError(self._line(), f"breaks off: {end} is missing")
        return nodes

    def _block(self) -> Node:
        self._blank(newlines=True)
        line = self._line()
        if not self._at("{"):
            raise ScriptError(line, "lacks the { of a block")
        self._place += 1
        body = self._statements("}")
        self._place += 1
        return Node("block", line, items=body)

    def _condition(self) -> Node:
        self._blank(newlines=True)
        line = self._line()
        if not self._take("("):
            raise ScriptError(line, "lacks the ( of a condition")
        return self._bracketed(line, ")")

    def _statement(self) -> Node:
        self._blank(newlines=True)
        line, start = self._line(), self._place
        if self._match(_LABEL):
            return self._statement()
        word = self._keyword(
            *("if", "foreach", "for", "while", "do", "switch", "function", "filter", "param"),
            *("try", "begin", "process", "end", "trap", "using", *_FLOW),
        )
        following = self._char()
        if word and following in "-.\\/:=" and following:
            word, self._place = "", start
        if word == "if":
            return self._if(line)
        if word in ("for", "foreach", "while", "do", "switch"):
            return self._loop(word, line)
        if word in ("function", "filter"):
            self._blank()
            name = self._needed(_NAME, line, "holds a function without a name")
            parameters = self._parameters() if self._take("(") else []
            body = self._block()
            params = [Node("param", line, items=parameters)] if parameters else []
            return Node("function", line, name[0].lower(), [*params, *body.items])
        if word == "param":
            self._blank(newlines=True)
            self._expect("(", line, "param")
            return Node("param", line, items=self._parameters())
        if word == "try":
            blocks = [self._block()]
            while kind := self._keyword("catch", "finally"):
                while kind == "catch" and self._take("["):
                    self._place = self._text.find("]", self._place) + 1
                    self._take(",")
                blocks.append(self._block())
                blocks[-1].text = kind
            return Node("try", line, items=blocks)
        if word in ("begin", "process", "end", "trap"):
            return self._block()
        if word == "using":
            self._skip("\n")
            return Node("null", line)
        if word:
            self._blank()
            ends = self._char() in ("", "\n", ";", "}", ")")
            return Node("flow", line, word, [] if ends else [self._statement()])
        return self._chain()

    def _if(self, line: int) -> Node:
        items = [self._condition(), self._block()]
        place = self._place
        while word := self._keyword("elseif", "else"):
            if word == "else" and self._keyword("if"):
                word = "elseif"
            if word == "elseif":
                items += [self._condition(), self._block()]
                place = self._place
            else:
                items.append(self._block())
                return Node("if", line, items=items)
        self._place = place
        return Node("if", line, items=items)

    def _loop(self, word: str, line: int) -> Node:
        if word == "do":
            body = self._block()
            kind = self._keyword("while", "until")
            if not kind:
                raise ScriptError(line, "begins `do`, whose `while` is missing")
            return Node(f"do{kind}", line, items=[self._condition(), body])
        self._blank(newlines=True)
        if word == "while":
            return Node("while", line, items=[self._condition(), self._block()])
        if word == "switch":
            while match := self._match(re.compile(r"\s*-(\w+)")):
                if match[1].lower() not in ("exact", "casesensitive"):
                    raise ScriptError(line, f"holds `switch -{match[1]}`, which is not followed")
            return self._switch(line)
        self._expect("(", line, word)
        if word == "foreach":
            self._blank(newlines=True)
            what = "holds a `foreach` that is not understood"
            name = self._needed(VARIABLE, line, what)
            if not self._keyword("in"):
                raise ScriptError(line, what)
            values = self._bracketed(line, ")")
            return Node("foreach", line, name_of(name), [values, self._block()])
        parts: list[Node] = []
        for end in (";", ";", ")"):
            with self._inside(lines_end=False, commas=self._commas):
                self._blank()
                parts.append(Node("null", line) if self._at(end) else self._statement())
                self._expect(end, line, word)
        return Node("for", line, items=[*parts, self._block()])

    def _switch(self, line: int) -> Node:
        items = [self._condition()]
        self._blank(newlines=True)
        self._expect("{", line, "switch")
        while True:
            self._blank(newlines=True)
            if self._take("}"):
                return Node("switch", line, items=items)
            if self._at("{"):
                raise ScriptError(self._line(), "holds a `switch` with conditions of its own")
            items += [self._argument(), self._block()]
            self._take(";")

    def _parameters(self) -> list[Node]:
        """``[int]$rank = 8, …`` up to the closing bracket."""
        parameters: list[Node] = []
        line = self._line()
        with self._inside(lines_end=False, commas=False):
            while not self._take(")"):
                self._blank()
                if self._at("["):
                    self._skip_brackets(line)
                    continue
                name = self._needed(VARIABLE, line, "holds parameters that are not understood")
                default = [self._expression()] if self._take("=") else []
                parameters.append(Node("parameter", self._line(), name_of(name), default))
                self._take(",")
        return parameters

    def _chain(self) -> Node:
        line = self._line()
        items = [self._pipeline()]
        while True:
            self._blank()
            if not self._at("&&", "||"):
                break
            self._place += 2
            self._blank(newlines=True)
            items.append(self._pipeline())
        self._take("&")
        if len(items) == 1 and items[0].kind == "assign":
            return items[0]
        return Node("chain", line, items=items)

    def _pipeline(self) -> Node:
        self._blank(newlines=True)
        line, start = self._line(), self._place
        node = self._begins_expression(start) and self._expression_or_assignment(line)
        if not node:
            self._place = start
            node = self._command()
        if node.kind == "assign":
            return node
        items = [node]
        while self._at("|") and not self._at("||"):
            self._place += 1
            self._blank(newlines=True)
            items.append(self._command())
            self._blank()
        return Node("pipeline", line, items=items)

    def _begins_expression(self, start: int) -> bool:
        text = self._text
        return (
            text[start : start + 1] in ("$", '"', "'", "(", "[", "!", "+", ",")
            or text.startswith(("@(", "@{", '@"', "@'", "-not", "-$", "-(", "++", "--$"), start)
            or bool(NUMBER.match(text, start))
            or bool(re.compile("-(?:join|split|bnot)\\b|-\\d", re.I).match(text, start))
        )

    def _expression_or_assignment(self, line: int) -> Node | None:
        """None where it is no expression, but a command all the same."""
        start = self._place
        node = self._expression()
        self._blank()
        if match := self._match(_ASSIGNMENT):
            if node.kind not in ("variable", "index", "member", "static", "cast", "list"):
                raise ScriptError(line, "sets what is no variable")
            self._blank(newlines=True)
            value = self._statement()
            return Node("assign", line, match[0], [node, value])
        rest = self._char()
        if rest in ("", "\n", ";", ")", "}", "|", "]", "&"):
            return node
        if self._text[start] in "$\"'":
            return None
        raise ScriptError(line, f"holds {rest}, which is not understood")

    def _command(self) -> Node:
        self._blank()
        line, words = self._line(), []
        kind = "command"
        if self._at("&"):
            self._place += 1
        elif re.compile(r"\.\s").match(self._text, self._place):
            self._place += 1
            kind = "dotted"
        while True:
            self._blank()
            char = self._char()
            if char in ("", "\n", ";", "|", ")", "}") or (char == "&" and kind != "&"):
                break
            if self._match(_REDIRECT):
                before = self._text[self._place - 2 : self._place]
                if before[:1] != "&":
                    self._blank()
                    self._argument()
                continue
            if self._at("--%"):
                end = re.compile(r"[^\n|]*").match(self._text, self._place)
                assert end is not None
                self._place = end.end()
                words += [Node("text", line, each) for each in end[0].split()[1:]]
                continue
            if char == ",":
                self._place += 1
                continue
            words.append(self._argument())
        if not words:
            raise ScriptError(line, "breaks off where a command is due")
        return Node(kind, line, items=words)
