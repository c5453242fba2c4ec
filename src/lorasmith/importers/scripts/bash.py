"""Following a bash script to the command line that trains. Nothing is run.

Followed are assignments, arrays, quotes, expansions, arithmetic, ``if``, ``case``, ``for``,
``while``, ``&&`` and ``||``, functions, and tests of texts and numbers. What the environment, a
file or a program decides is unknown. :mod:`bash_syntax` takes the text apart.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from lorasmith.importers.scripts.bash_conditions import BashConditions
from lorasmith.importers.scripts.bash_expansion import is_assignment
from lorasmith.importers.scripts.bash_syntax import (
    AndOr,
    Arithmetic,
    Case,
    For,
    Function,
    Group,
    If,
    Node,
    Parser,
    Pipeline,
    Simple,
    Test,
    While,
)
from lorasmith.importers.scripts.bash_words import Word
from lorasmith.importers.scripts.variables import (
    UNKNOWN,
    Leave,
    Reason,
    Script,
    Truth,
    follow,
    only_running,
    shown,
)

_DECLARES = ("local", "export", "declare", "readonly", "typeset")
_WRAPPERS = ("exec", "command", "builtin", "nohup", "time")
_READS = ("read", "mapfile", "readarray")
_PASSES = ("echo", "printf", ":", "true", "set", "shopt", "trap", "umask", "ulimit", "clear")


def read_bash(text: str, path: str = "script", folder: str = "") -> Script:
    """Follow a script: its commands with arguments that begin with ``--``, and its variables."""
    return follow(path, folder, lambda script: _Bash(script).run_text(text))


class _Bash(BashConditions):
    def __init__(self, script: Script) -> None:
        super().__init__(script)
        self._locals: dict[str, Any] = {}  # A function's own variables: what they were before.
        self._output: list[str] | None = None  # Of a command whose output becomes text.

    def run_text(self, text: str) -> None:
        self._list(Parser(text).script())
        self._script.follow_uncalled(lambda body: self._call(body, [], 0))

    # Commands. Each gives whether it succeeds, or why that is unknown.

    def _list(self, nodes: list[Node]) -> Truth:
        truth: Truth = True
        for node in nodes:
            truth = self._node(node)
        return truth

    def _node(self, node: Node) -> Truth:
        if isinstance(node, AndOr):
            return self._and_or(node)
        if isinstance(node, Pipeline):
            return self._pipeline(node)
        self._script.step(node.line)
        if isinstance(node, Simple):
            return self._simple(node)
        if isinstance(node, If):
            return self._if(node.branches, node.otherwise)
        if isinstance(node, For):
            return self._for(node)
        if isinstance(node, While):
            return self._while(node)
        if isinstance(node, Case):
            return self._case(node)
        if isinstance(node, Test):
            return self._double_test(node)
        if isinstance(node, Arithmetic):
            return self._holds(node.text, node.line)
        if isinstance(node, Function):
            self._script.functions[node.name] = node.body
            return True
        assert isinstance(node, Group)
        if not node.apart:
            return self._list(node.body)
        return self._apart(lambda: self._list(node.body), "( … )")

    def _apart(self, body: Callable[[], Truth], what: str) -> Truth:
        truth = self._script.isolated(body)
        return only_running(what) if truth is None else truth

    def _and_or(self, node: AndOr) -> Truth:
        truth = self._node(node.first)
        for operator, command in node.rest:
            condition = operator == "&&"
            if isinstance(truth, Reason):
                (*results, _) = self._script.fork(truth, partial(self._node, command), lambda: True)
                truth = (
                    truth if not results or results[0] is condition else only_running("a command")
                )
            elif truth is condition:
                truth = self._node(command)
        return truth

    def _pipeline(self, node: Pipeline) -> Truth:
        if len(node.commands) == 1:
            truth = self._node(node.commands[0])
        else:
            for command in node.commands:
                truth = self._apart(partial(self._node, command), "a command")
        return truth if isinstance(truth, Reason) or not node.negated else not truth

    def _if(self, branches: list[tuple[list[Node], list[Node]]], otherwise: list[Node]) -> Truth:
        if not branches:
            return self._list(otherwise)
        (condition, body), rest = branches[0], branches[1:]
        results = self._script.branch(
            self._list(condition), lambda: self._list(body), lambda: self._if(rest, otherwise)
        )
        return results[0] if len(results) == 1 else only_running("a condition")

    def _for(self, node: For) -> Truth:
        body = partial(self._list, node.body)
        if node.arithmetic is not None:
            start, condition, step = node.arithmetic
            self._holds(start, node.line)

            def goes_on(place: int | None) -> Truth:
                if place != 0:
                    self._holds(step, node.line)
                return self._holds(condition or "1", node.line)

            self._script.loop(goes_on, body)
            return True
        if node.select:
            self._script.set_from_outside(node.name, node.line)
            self._script.loop(lambda place: only_running("what is selected"), body)
            return True
        words = [text for word in node.words or [] for text in self._expand(word, node.line)]
        unknown = next((reason for word in words if (reason := self._script.reason(word))), None)
        if node.words is None:
            words = list(self._given or [])
            unknown = only_running("$@") if self._given is None else None
        if unknown is None and any(char in word for word in words for char in "*?"):
            unknown = only_running("which files there are")
        put = partial(self._script.set, node.name, line=node.line)
        self._script.each(node.name, words, unknown, put, body, node.line)
        return True

    def _while(self, node: While) -> Truth:
        def goes_on(place: int | None) -> Truth:
            truth = self._list(node.condition)
            return truth if isinstance(truth, Reason) or not node.until else not truth

        self._script.loop(goes_on, lambda: self._list(node.body))
        return True

    def _case(self, node: Case) -> Truth:
        text = self._text(node.word, node.line)
        reason = self._script.reason(text)

        def follow(entries: list[tuple[list[Word], list[Node]]]) -> object:
            if not entries:
                return None
            (patterns, body), rest = entries[0], entries[1:]
            truth: Truth = False
            for pattern in patterns:
                matches = self._matches(text, pattern, node.line)
                if isinstance(matches, Reason):
                    truth = matches
                elif matches:
                    truth = True
                    break
            if reason and truth is not True:
                truth = reason
            return self._script.branch(truth, lambda: self._list(body), lambda: follow(rest))

        follow(node.entries)
        return only_running("a condition")

    def _simple(self, node: Simple) -> Truth:
        assigned = 0
        while assigned < len(node.words) and is_assignment(node.words[assigned]):
            assigned += 1
        if assigned == len(node.words):
            for word in node.words:
                self._assign(word, node.line)
            return True
        rest = node.words[assigned:]
        if rest[0].plain in _DECLARES:
            for word in rest[1:]:
                if self._given is not None and rest[0].plain not in ("export", "readonly"):
                    name = re.split(r"[=+\[]", word.parts[0].text)[0]
                    self._locals.setdefault(name, self._script.values.get(name))
                if is_assignment(word):
                    self._assign(word, node.line)
            return True
        words = [text for word in rest for text in self._expand(word, node.line)]
        while words and words[0] in _WRAPPERS:
            words = words[1:]
        return self._command(words, node.line) if words else True

    def _command(self, words: list[str], line: int) -> Truth:
        head, script = words[0], self._script
        if head in script.functions:
            script.called.add(head)
            return self._call(script.functions[head], words[1:], line)
        if head in ("[", "test"):
            inner = words[1:-1] if head == "[" else words[1:]
            return self._single_test(inner)
        if head in ("break", "continue", "return", "exit"):
            raise Leave(head)  # type: ignore[arg-type]
        if head in _READS:
            for name in (each for each in words[1:] if re.fullmatch(r"[A-Za-z_]\w*", each)):
                script.set_from_outside(name, line)
            return only_running(head)
        if head == "printf" and "-v" in words[:-1]:
            script.set_from_outside(words[words.index("-v") + 1], line)
        if head == "let":
            return [self._holds(text, line) for text in words[1:] or ["0"]][-1]
        if head == "unset":
            for name in words[1:]:
                script.set(name, "", line)
            return True
        if head in ("source", ".") and len(words) > 1:
            script.read_other_script(shown(words[1]), line)
            return only_running(head)
        if head in ("cd", "pushd") and len(words) > 1:
            script.folder = posixpath.normpath(posixpath.join(script.folder, words[-1]))
            return only_running(f"whether there is {shown(words[-1])}")
        if head in ("eval", "bash", "sh", "zsh") and (head == "eval" or "-c" in words[:3]):
            text = " ".join(words[1:]) if head == "eval" else words[words.index("-c") + 1 :][0]
            return self._list(Parser(text, first_line=line).script())
        if self._output is not None:
            self._print(head, words[1:])
        script.command(line, words)
        if head in ("false", *_PASSES):
            return head != "false"
        return only_running(shown(head))

    def _call(self, body: Node, given: list[str], line: int) -> Truth:
        outer, self._given = self._given, given
        outer_locals, self._locals = self._locals, {}
        try:
            truth = self._script.call(lambda: self._node(body), line)
        finally:
            for name, value in self._locals.items():
                self._script.values[name] = value
                if value is None:
                    del self._script.values[name]
            self._given, self._locals = outer, outer_locals
        return only_running("a function") if truth is None else truth

    def _print(self, head: str, arguments: list[str]) -> None:
        """What simple commands would print, where it is known."""
        assert self._output is not None
        if head == "echo":
            self._output.append(" ".join(each for each in arguments if each not in ("-n", "-e")))
        elif head == "pwd":
            self._output.append(self._script.folder)
        elif head == "dirname" and arguments:
            self._output.append(posixpath.dirname(arguments[-1]) or ".")
        elif head == "basename" and arguments:
            text = posixpath.basename(arguments[0])
            self._output.append(text.removesuffix(arguments[1]) if len(arguments) > 1 else text)
        elif head in ("realpath", "readlink") and arguments:
            self._output.append(posixpath.join(self._script.folder, arguments[-1]))
        else:
            self._output.append(UNKNOWN)

    def _substituted(self, text: str, line: int) -> str:
        outer, self._output = self._output, []
        first = len(self._script.commands)
        try:
            self._script.isolated(lambda: self._list(Parser(text, first_line=line).script()))
            output = "\n".join(self._output).rstrip("\n")
            piped = re.search(r"(?<!\|)\|(?!\|)", text)
            if piped or UNKNOWN in self._output or not self._output:
                command = " ".join(text.split())
                return self._mark(f"$({command})")
            return output
        finally:
            self._output = outer
            del self._script.commands[first:]
