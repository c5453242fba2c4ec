"""Following a bash script to the command line that trains. Nothing is run.

Followed are assignments, arrays, quotes, expansions, arithmetic, ``if``, ``case``, ``for``,
``while``, ``&&`` and ``||``, functions, and tests of texts and numbers. What the environment, a
file or a program decides is unknown. :mod:`bash_syntax` takes the text apart.
"""

from __future__ import annotations

import posixpath
import re
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
    MARK,
    UNKNOWN,
    Leave,
    Reason,
    Script,
    Truth,
    follow,
)

_DECLARES = ("local", "export", "declare", "readonly", "typeset")
_WRAPPERS = ("exec", "command", "builtin", "nohup", "time")
_READS = ("read", "mapfile", "readarray")
_PASSES = ("echo", "printf", ":", "true", "set", "shopt", "trap", "umask", "ulimit", "clear")


def read_bash(text: str, path: str = "script", folder: str = "") -> Script:
    """Follow a script: its commands with arguments that begin with ``--``, and its variables.

    Args:
        path: the script's own.
        folder: in which it is run.
    """
    script = Script(path=path, folder=folder)
    return follow(script, lambda: _Bash(script).run_text(text))


class _Bash(BashConditions):
    def __init__(self, script: Script) -> None:
        super().__init__(script)
        self._functions: dict[str, Node] = {}
        self._called: set[str] = set()
        self._locals: dict[str, Any] = {}  # A function's own variables: what they were before.
        self._output: list[str] | None = None  # Of a command whose output becomes text.

    def run_text(self, text: str) -> None:
        """Follow a whole script; where nothing else trains, a function that is never called too."""
        self._list(Parser(text).script())
        if not any(command.trains for command in self._script.commands):
            for name, body in list(self._functions.items()):
                if name not in self._called:
                    self._call(body, [], 0)

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
            self._functions[node.name] = node.body
            return True
        assert isinstance(node, Group)
        if not node.apart:
            return self._list(node.body)
        result: list[Truth] = [self._unknown("( … )")]
        self._script.isolated(lambda: result.append(self._list(node.body)))
        return result[-1]

    def _and_or(self, node: AndOr) -> Truth:
        truth = self._node(node.first)
        for operator, command in node.rest:
            wanted = operator == "&&"
            if isinstance(truth, Reason):
                results: list[Truth] = []
                body = (lambda each, out: lambda: out.append(self._node(each)))(command, results)
                self._script.fork(truth, [body, lambda: None])
                truth = truth if not results or results[0] is wanted else self._unknown("a command")
            elif truth is wanted:
                truth = self._node(command)
        return truth

    def _pipeline(self, node: Pipeline) -> Truth:
        truth: Truth = True
        if len(node.commands) == 1:
            truth = self._node(node.commands[0])
        else:
            for command in node.commands:
                result: list[Truth] = []
                self._script.isolated(
                    (lambda each, out: lambda: out.append(self._node(each)))(command, result)
                )
                truth = result[0] if result else self._unknown("a command")
        if not node.negated:
            return truth
        return truth if isinstance(truth, Reason) else not truth

    def _if(self, branches: list[tuple[list[Node], list[Node]]], otherwise: list[Node]) -> Truth:
        if not branches:
            return self._list(otherwise)
        (condition, body), rest = branches[0], branches[1:]
        truth = self._list(condition)
        results: list[Truth] = []
        self._script.branch(
            truth,
            [
                lambda: results.append(self._list(body)),
                lambda: results.append(self._if(rest, otherwise)),
            ],
        )
        return results[0] if len(results) == 1 else self._unknown("a condition")

    def _for(self, node: For) -> Truth:
        if node.arithmetic is not None:
            start, condition, step = node.arithmetic
            self._holds(start, node.line)

            def goes_on(place: int | None) -> Truth:
                if place != 0:
                    self._holds(step, node.line)
                return self._holds(condition or "1", node.line)

            self._script.loop(goes_on, lambda: self._discard(node.body))
            return True
        words = [text for word in node.words or [] for text in self._expand(word, node.line)]
        unknown = next((reason for word in words if (reason := self._script.reason(word))), None)
        if node.words is None:
            unknown, words = self._unknown("$@"), list(self._given or [])
            unknown = None if self._given is not None else unknown
        if unknown is None and any(char in word for word in words for char in "*?"):
            unknown = self._unknown("which files there are")

        def next_round(place: int | None) -> Truth:
            if place is None or unknown:
                what = f"has a value of its own in each round (line {node.line} sets {node.name})"
                mark = self._script.unknown(Reason(node.name, what))
                self._script.set(node.name, mark, node.line)
                return unknown or True
            if place < len(words):
                self._script.set(node.name, words[place], node.line)
            return place < len(words)

        if not node.select:
            self._script.loop(next_round, lambda: self._discard(node.body))
        else:
            self._script.set_from_outside(node.name, node.line)
            self._script.loop(
                lambda place: self._unknown("what is selected"), lambda: self._discard(node.body)
            )
        return True

    def _discard(self, nodes: list[Node]) -> None:
        self._list(nodes)

    def _while(self, node: While) -> Truth:
        def goes_on(place: int | None) -> Truth:
            truth = self._list(node.condition)
            return truth if isinstance(truth, Reason) or not node.until else not truth

        self._script.loop(goes_on, lambda: self._discard(node.body))
        return True

    def _case(self, node: Case) -> Truth:
        text = self._text(node.word, node.line)
        reason = self._script.reason(text)

        def follow(entries: list[tuple[list[Word], list[Node]]]) -> None:
            if not entries:
                return
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
            self._script.branch(truth, [lambda: self._discard(body), lambda: follow(rest)])

        follow(node.entries)
        return self._unknown("a condition")

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
        if head in self._functions:
            self._called.add(head)
            return self._call(self._functions[head], words[1:], line)
        if head in ("[", "test"):
            inner = words[1:-1] if head == "[" else words[1:]
            return self._single_test(inner)
        if head in ("break", "continue", "return", "exit"):
            raise Leave(head)  # type: ignore[arg-type]
        if head in _READS:
            for name in (each for each in words[1:] if re.fullmatch(r"[A-Za-z_]\w*", each)):
                script.set_from_outside(name, line)
            return self._unknown(head)
        if head == "printf" and "-v" in words[:-1]:
            script.set_from_outside(words[words.index("-v") + 1], line)
        if head == "let":
            return [self._holds(text, line) for text in words[1:] or ["0"]][-1]
        if head == "unset":
            for name in words[1:]:
                script.set(name, "", line)
            return True
        if head in ("source", ".") and len(words) > 1:
            script.read_other_script(MARK.sub("…", words[1]), line)
            return self._unknown(head)
        if head in ("cd", "pushd") and len(words) > 1:
            script.folder = posixpath.normpath(posixpath.join(script.folder, words[-1]))
            return self._unknown(f"whether there is {MARK.sub('…', words[-1])}")
        if head in ("eval", "bash", "sh", "zsh") and (head == "eval" or "-c" in words[:3]):
            text = " ".join(words[1:]) if head == "eval" else words[words.index("-c") + 1 :][0]
            return self._list(Parser(text, first_line=line).script())
        if self._output is not None:
            self._print(head, words[1:])
        script.command(line, words)
        if head in ("false", *_PASSES):
            return head != "false"
        return self._unknown(MARK.sub("…", head))

    def _call(self, body: Node, given: list[str], line: int) -> Truth:
        outer, self._given = self._given, given
        outer_locals, self._locals = self._locals, {}
        result: list[Truth] = []
        try:
            self._script.call(lambda: result.append(self._node(body)), line)
        finally:
            for name, value in self._locals.items():
                self._script.values[name] = value
                if value is None:
                    del self._script.values[name]
            self._given, self._locals = outer, outer_locals
        return result[0] if result else self._unknown("a function")

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
            self._script.isolated(lambda: self._discard(Parser(text, first_line=line).script()))
            output = "\n".join(self._output).rstrip("\n")
            piped = re.search(r"(?<!\|)\|(?!\|)", text)
            if piped or UNKNOWN in self._output or not self._output:
                shown = " ".join(text.split())
                return self._script.unknown(self._unknown(f"$({shown})"))
            return output
        finally:
            self._output = outer
            del self._script.commands[first:]
