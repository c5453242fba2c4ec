"""Following a PowerShell script to the command line that trains. Nothing is run.

Followed are assignments, lists, texts, arithmetic, comparisons, ``if``, ``switch``, ``foreach``,
``for``, ``while``, functions, splatting, and methods of texts and lists. What the environment, a
file or a program decides is unknown. :mod:`powershell_syntax` takes the text apart.
"""

from __future__ import annotations

import ntpath
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from lorasmith.importers.scripts.powershell_expressions import PowerShellExpressions, key_of
from lorasmith.importers.scripts.powershell_syntax import Parser
from lorasmith.importers.scripts.powershell_values import ArrayList, compared, mark_in, text_of
from lorasmith.importers.scripts.scanner import Node
from lorasmith.importers.scripts.variables import (
    Leave,
    Reason,
    Script,
    Truth,
    follow,
    only_running,
    shown,
)

_SILENT = (
    *("write-host", "write-warning", "write-error", "write-verbose", "read-host", "out-null"),
    *("pause", "clear-host", "cls", "start-sleep", "sleep", "set-strictmode"),
)


def read_powershell(text: str, path: str = "script", folder: str = "") -> Script:
    """Follow a script: its commands with arguments that begin with ``--``, and its variables."""
    return follow(path, folder, lambda script: _PowerShell(script).run_text(text))


class _PowerShell(PowerShellExpressions):
    def run_text(self, text: str) -> None:
        self._block(Parser(text).script())
        self._script.follow_uncalled(lambda body: self._call(body, [], body.line))

    # Statements.

    def _block(self, nodes: list[Node]) -> None:
        for node in nodes:
            if node.kind == "function":
                self._script.functions[node.text] = node
        for node in nodes:
            self._script.step(node.line)
            self._statement(node)

    def _statement(self, node: Node) -> None:
        if node.kind == "if":
            self._if(node.items)
        elif node.kind == "assign":
            self._assign(node)
        elif node.kind in ("chain", "pipeline"):
            self._pipelines(node.items if node.kind == "chain" else [node])
        elif node.kind == "block":
            self._block(node.items)
        elif node.kind == "foreach":
            self._foreach(node.text, self._value(node.items[0]), node.items[1], node.line)
        elif node.kind in ("for", "while", "dowhile", "dountil"):
            self._loop(node)
        elif node.kind == "switch":
            self._switch(self._value(node.items[0]), node.items[1:])
        elif node.kind == "param":
            for each in node.items:
                if each.items:
                    self._set(each.text, self._value(each.items[0]), each.line)
        elif node.kind == "try":
            self._block(node.items[0].items)
            for block in node.items[1:]:
                if block.text == "finally":
                    self._block(block.items)
                else:
                    why = only_running(f"whether line {node.line} fails")
                    self._script.fork(why, self._later(block), _nothing)
        elif node.kind == "flow":
            if node.items:
                self._statement(node.items[0])
            raise Leave("exit" if node.text == "throw" else node.text)  # type: ignore[arg-type]
        elif node.kind not in ("function", "null"):
            self._output.append(self._value(node))

    def _later(self, block: Node) -> Callable[[], None]:
        return partial(self._block, block.items)

    def _if(self, items: list[Node]) -> None:
        if len(items) < 2:
            for block in items:
                self._block(block.items)
            return
        truth = self._truth(self._value(items[0]))
        self._script.branch(truth, self._later(items[1]), lambda: self._if(items[2:]))

    def _foreach(self, name: str, values: Any, block: Node, line: int) -> None:
        members = values if isinstance(values, list) else [] if values is None else [values]
        members = list(members)
        reason = next((self._script.reason(m) for each in members if (m := mark_in(each))), None)

        put = partial(self._set, name, line=line)
        self._script.each(name, members, reason, put, self._later(block), line, stands=reason)

    def _loop(self, node: Node) -> None:
        if node.kind == "for":
            start, condition, step, block = node.items
            self._statement(start)

            def next_round(place: int | None) -> Truth:
                if place != 0:
                    self._statement(step)
                return condition.kind == "null" or self._truth(self._value(condition))
        else:
            condition, block = node.items

            def next_round(place: int | None) -> Truth:
                if place == 0 and node.kind != "while":
                    return True
                truth = self._truth(self._value(condition))
                return truth if isinstance(truth, Reason) or node.kind != "dountil" else not truth

        self._script.loop(next_round, self._later(block))

    def _switch(self, value: Any, entries: list[Node]) -> None:
        """Every entry that fits is followed, unless one says ``break``."""
        values = value if isinstance(value, list) else [value]
        pairs = list(zip(entries[::2], entries[1::2], strict=True))
        for each in values:
            try:
                self._cases(each, pairs, 0, [])
            except Leave as leave:
                if leave.kind not in ("break", "continue"):
                    raise

    def _cases(
        self, value: Any, pairs: list[tuple[Node, Node]], place: int, before: list[Truth]
    ) -> None:
        if place == len(pairs):
            default = next((block for word, block in pairs if self._is_default(word)), None)
            if default and not any(truth is True for truth in before):
                why = next((truth for truth in before if isinstance(truth, Reason)), True)
                self._script.branch(why, self._later(default), _nothing)
            return
        word, block = pairs[place]
        if not self._is_default(word):
            other = self._value(word)
            mark = mark_in(value) or mark_in(other)
            reason = self._script.reason(mark) if mark else None
            truth = reason or bool(compared("-eq", text_of(value), other, self._script.can_match))
            before.append(truth)
            self._script.branch(truth, self._later(block), _nothing)
        self._cases(value, pairs, place + 1, before)

    @staticmethod
    def _is_default(word: Node) -> bool:
        return word.kind == "text" and word.text.lower() == "default"

    def _assign(self, node: Node) -> None:
        target, source = node.items
        value: Any = self._captured(source)
        while target.kind == "cast":
            value, target = self._cast(target.text, value), target.items[0]
        if target.kind == "list":
            for place, each in enumerate(target.items):
                part = value[place] if isinstance(value, list) and place < len(value) else None
                self._set(each.text, part, node.line)
            return
        if target.kind in ("index", "member"):
            self._assign_member(target, value, node)
            return
        if target.kind != "variable":
            return  # [Console]::OutputEncoding and the like.
        if node.text != "=":
            name = key_of(target.text)
            before = self._script.values.get(name) if not name.startswith("env:") else (
                self._variable(target.text)
            )  # fmt: skip
            if node.text == "??=":
                value = value if before is None else before
            else:
                value = self._calculated(node.text[:-1], before, value)
        self._set(target.text, value, node.line)

    def _assign_member(self, target: Node, value: Any, node: Node) -> None:
        owner = self._value(target.items[0])
        key = target.text if target.kind == "member" else self._value(target.items[1])
        if isinstance(owner, dict) and node.text == "=" and not mark_in(key):
            owner[text_of(key).lower()] = value
        elif isinstance(owner, list) and isinstance(key, int) and node.text == "=":
            if -len(owner) <= key < len(owner):
                owner[key] = value
        elif target.items[0].kind == "variable":
            name = target.items[0].text
            what = f"is set member by member (line {node.line})"
            self._set(name, self._script.unknown(Reason(name, what)), node.line)

    # Commands.

    def _pipelines(self, nodes: list[Node]) -> None:
        self._pipeline(nodes[0])
        if len(nodes) > 1:
            why = only_running("whether a command succeeds")
            self._script.fork(why, lambda: self._pipelines(nodes[1:]), _nothing)

    def _pipeline(self, node: Node) -> None:
        first, rest = node.items[0], node.items[1:]
        if not rest:
            self._element(first)
            return
        outer, self._output = self._output, []
        self._element(first)
        for each in rest:
            values, self._output = self._output, []
            word = self._head(each)
            blocks = [item for item in each.items if item.kind == "block"]
            if word in ("%", "foreach-object", "foreach") and blocks:
                flat = [m for v in values for m in (v if isinstance(v, list) else [v])]
                self._foreach("_", flat, blocks[-1], each.line)
            elif word in ("out-null", "out-host", "tee-object"):
                self._output = values if word == "tee-object" else []
            elif word in self._script.functions or each.kind != "command":
                self._element(each)
            elif word:
                self._output.append(self._unknown(word))
        outer += self._output
        self._output = outer

    def _head(self, node: Node) -> str:
        if node.kind not in ("command", "dotted"):
            return ""
        return node.items[0].text.lower() if node.items[0].kind == "text" else ""

    def _element(self, node: Node) -> None:
        if node.kind in ("command", "dotted"):
            self._command(node)
            return
        value = self._value(node)
        if value is not None:
            self._output.append(value)

    def _command(self, node: Node) -> None:
        script, line = self._script, node.line
        head = node.items[0]
        if head.kind == "block":
            self._call(Node("function", line, "", head.items), [], line)
            return
        values = [self._value(item) for item in node.items]
        words: list[str] = []
        for value in values:
            words += self._arguments(value)
        name = words[0].lower() if words else ""
        if name in self._script.functions:
            self._script.called.add(name)
            self._call(self._script.functions[name], values[1:], line)
        elif node.kind == "dotted":
            script.read_other_script(shown(words[0]) if words else "a script", line)
        elif name in ("write-output", "echo"):
            self._output += values[1:]
        elif name in ("set-location", "cd", "sl", "chdir", "push-location", "pushd"):
            place = [word for word in words[1:] if not word.startswith("-")]
            script.folder = ntpath.join(script.folder, place[-1]) if place else script.folder
        elif name in ("set-variable", "sv", "new-variable"):
            given = _named(words[1:], ("-name", "-value"))
            self._set(given.get("-name", ""), given.get("-value"), line)
        elif name in ("invoke-expression", "iex"):
            self._block(Parser(" ".join(words[1:]), first_line=line).script())
        elif name in _SILENT and name != "read-host":
            pass
        elif (result := self._cmdlet(name, words[1:])) is not None:
            self._output.append(result)
        else:
            script.command(line, words)
            self._output.append(self._unknown(shown(words[0]) if words else "a command"))

    def _cmdlet(self, name: str, words: list[str]) -> Any:
        """What commands give of which that is known without running them."""
        if name == "join-path":
            given = _named(words, ("-path", "-childpath"))
            if len(given) == 2:
                return ntpath.join(given["-path"], given["-childpath"])
        if name == "split-path":
            given = _named([word for word in words if word.lower() != "-parent"], ("-path",))
            if "-path" in given and not any(word.lower() == "-leaf" for word in words):
                path = given["-path"]
                return path.rpartition("\\" if "\\" in path else "/")[0]
        if name in ("get-location", "pwd", "gl"):
            return self._script.folder
        if name == "new-object" and words and re.search(r"ArrayList|List\[", words[-1], re.I):
            return ArrayList()
        return None

    def _arguments(self, value: Any) -> list[str]:
        """A value as arguments of a program: members of a list one by one."""
        if value is None:
            return []
        if isinstance(value, list):
            return [word for each in value for word in self._arguments(each)]
        if isinstance(value, dict):
            return [self._unknown("a table of arguments")]
        return [text_of(value)]

    def _call(self, function: Node, values: list[Any], line: int) -> None:
        """A function has variables of its own, and sees those outside."""
        params = [each for node in function.items if node.kind == "param" for each in node.items]
        body = [node for node in function.items if node.kind != "param"]
        before = dict(self._script.values)

        def follow() -> None:
            given, rest = {}, []
            names = {f"-{each.text.lower()}": each.text for each in params}
            items = iter(values)
            for value in items:
                if isinstance(value, str) and value.lower() in names:
                    given[names[value.lower()]] = next(items, None)
                else:
                    rest.append(value)
            for each in params:
                if each.text in given:
                    value = given[each.text]
                elif rest:
                    value = rest.pop(0)
                else:
                    value = self._value(each.items[0]) if each.items else None
                self._set(each.text, value, line)
            self._set("args", rest, line)
            self._block(body)

        self._own.append(set())
        try:
            self._script.call(follow, line)
        finally:
            for name in self._own.pop():
                self._script.values.pop(name, None)
                if name in before:
                    self._script.values[name] = before[name]


def _nothing() -> None:
    """Where a branch has no commands."""


def _named(words: list[str], names: tuple[str, ...]) -> dict[str, str]:
    """Arguments by name, and those without one in the order of the names."""
    given: dict[str, str] = {}
    items = iter(words)
    rest = []
    for word in items:
        if word.lower() in names:
            given[word.lower()] = next(items, "")
        else:
            rest.append(word)
    for name in names:
        if name not in given and rest:
            given[name] = rest.pop(0)
    return given
