"""Expressions of a PowerShell script, worked out."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from lorasmith.importers.scripts.powershell_values import (
    ArrayList,
    NotKnownError,
    calculated,
    cast,
    compared,
    formatted,
    joined,
    mark_in,
    member,
    method,
    number_literal,
    number_of,
    static_call,
    text_of,
    truth_of,
)
from lorasmith.importers.scripts.scanner import Node
from lorasmith.importers.scripts.variables import LONGEST_VALUE, Reason, Script, Truth, only_running

_CONSTANTS = {"true": True, "false": False, "null": None}
_SCOPES = ("script", "global", "local", "private", "variable")


class PowerShellExpressions:
    """
    Args:
        script: holds the variables; assignments go there.
    """

    def __init__(self, script: Script) -> None:
        self._script = script
        self._output: list[Any] = []
        self._own: list[
            set[str]
        ] = []  # Names that the functions being followed set for themselves.

    @abstractmethod
    def _block(self, nodes: list[Node]) -> None:
        """Follow statements."""

    @abstractmethod
    def _assign(self, node: Node) -> None:
        """Follow an assignment."""

    def _set(self, name: str, value: Any, line: int) -> None:
        scope, _, rest = name.rpartition(":")
        name = rest if scope.lower() in _SCOPES else name
        if self._own and scope.lower() not in ("script", "global", "env"):
            self._own[-1].add(key_of(name))
        self._script.set(key_of(name), value, line, name)

    def _captured(self, node: Node) -> Any:
        """What a statement gives, as the right side of an assignment."""
        if node.kind == "chain" and len(node.items) == 1 and len(node.items[0].items) == 1:
            single = node.items[0].items[0]
            if single.kind not in ("command", "dotted"):
                return self._value(single)
        if node.kind == "assign":
            self._assign(node)
            return self._value(node.items[0])
        return self._gathered([node])

    def _gathered(self, nodes: list[Node], *, always_list: bool = False) -> Any:
        outer, self._output = self._output, []
        try:
            self._block(nodes)
            values = self._output
        finally:
            self._output = outer
        if any(node.kind in ("if", "switch", "foreach", "while") for node in nodes):
            values = self._one_branch(nodes, values)
        if len(values) == 1 and isinstance(values[0], ArrayList) and not always_list:
            return values[0]
        flat: list[Any] = []
        for value in values:
            flat += value if isinstance(value, list) else [value]
        if always_list:
            return flat
        return flat[0] if len(flat) == 1 else flat or None

    def _one_branch(self, nodes: list[Node], values: list[Any]) -> list[Any]:
        """Outputs of several branches of which only running would tell which is taken."""
        for node in nodes:
            if node.kind == "if":
                for condition in node.items[0:-1:2]:
                    truth = self._truth(self._value(condition))
                    if isinstance(truth, Reason):
                        return [self._script.unknown(truth)]
                    if truth:
                        break
            elif node.kind == "switch" and mark_in(self._value(node.items[0])):
                return [str(mark_in(self._value(node.items[0])))]
        return values

    def _truth(self, value: Any) -> Truth:
        truth = truth_of(value)
        if isinstance(truth, str):
            return self._script.reason(truth) or True
        return truth

    def _safely(self, work: Callable[[], Any], shown: str = "an expression") -> Any:
        try:
            return work()
        except (NotKnownError, re.error, IndexError, OverflowError, ValueError):
            return self._unknown(shown)

    def _cast(self, name: str, value: Any) -> Any:
        return self._safely(lambda: cast(name, value))

    def _unknown(self, what: str) -> str:
        return self._script.unknown(only_running(what))

    def _calculated(self, operator: str, one: Any, other: Any) -> Any:
        joins = operator == "+" and isinstance(one, str | list | None)
        mark = mark_in(one) or mark_in(other)
        if mark and not joins:
            return mark
        if (
            operator == "*"
            and isinstance(one, str | list)
            and (len(one) * number_of(other) > LONGEST_VALUE)
        ):
            return self._unknown("a long text")
        return self._safely(lambda: calculated(operator, one, other))

    def _value(self, node: Node) -> Any:
        value = self._safely(lambda: self._evaluated(node), f"an expression of line {node.line}")
        self._script.spend(value)
        return value

    def _evaluated(self, node: Node) -> Any:
        kind, items = node.kind, node.items
        if kind == "text":
            return node.text
        if kind == "number":
            return number_literal(node.text)
        if kind == "expand":
            return "".join(text_of(self._value(each)) for each in items)
        if kind == "variable":
            return self._variable(node.text)
        if kind in ("chain", "pipeline", "assign", "if", "switch", "foreach"):
            return self._captured(node)
        if kind == "paren":
            return self._captured(items[0])
        if kind == "array":
            single = len(items) == 1 and items[0].kind == "chain"
            value = self._captured(items[0]) if single else None
            if isinstance(value, list):
                return list(value)
            if single:
                return [] if value is None else [value]
            return self._gathered(items, always_list=True)
        if kind == "sub":
            return self._gathered(items)
        if kind == "list":
            return [self._value(each) for each in items]
        if kind == "table":
            keys = [text_of(self._value(each)).lower() for each in items[::2]]
            return dict(zip(keys, [self._captured(each) for each in items[1::2]], strict=True))
        if kind == "unary":
            return self._unary(node)
        if kind == "binary":
            return self._binary(node)
        if kind == "choice":
            truth = self._truth(self._value(items[0]))
            if isinstance(truth, Reason):
                return self._script.unknown(truth)
            return self._value(items[1 if truth else 2])
        if kind == "cast":
            return cast(node.text, self._value(items[0]))
        if kind == "postfix":
            self._step(items[0], 1 if node.text == "++" else -1, node.line)
            return None  # As a statement it gives nothing, which is how nearly all are written.
        if kind == "index":
            return self._index(self._value(items[0]), self._value(items[1]))
        if kind in ("member", "static", "call"):
            return self._member(node)
        if kind == "null":
            return None
        raise NotKnownError

    def _variable(self, name: str) -> Any:
        scope, _, rest = name.rpartition(":")
        name = rest if scope.lower() in _SCOPES else name
        key = key_of(name)
        if key in _CONSTANTS:
            return _CONSTANTS[key]
        if key in self._script.values:
            return self._script.values[key]
        if key == "args":
            return []  # What the script itself is given.
        if key == "psscriptroot":
            return re.sub(r"[/\\][^/\\]*\Z", "", self._script.path)
        if key == "pscommandpath":
            return self._script.path
        if key == "pwd":
            return self._script.folder
        return self._script.never_set(name)

    def _step(self, node: Node, step: int, line: int) -> None:
        value = self._calculated("+", self._value(node) or 0, step)
        self._set(node.text, value, line)

    def _unary(self, node: Node) -> Any:
        operator = node.text
        if operator in ("++", "--"):
            self._step(node.items[0], 1 if operator == "++" else -1, node.line)
            return self._value(node.items[0])
        value = self._value(node.items[0])
        if operator in ("!", "-not"):
            truth = self._truth(value)
            return self._script.unknown(truth) if isinstance(truth, Reason) else not truth
        if operator == ",":
            return [value]
        if mark_in(value) and operator != "-join":
            return mark_in(value)
        if operator == "-":
            return -number_of(value)
        if operator == "+":
            return number_of(value)
        if operator == "-join":
            return joined("", value if isinstance(value, list) else [value])
        if operator == "-split":
            return text_of(value).split()
        raise NotKnownError

    def _binary(self, node: Node) -> Any:
        operator = node.text
        one = self._value(node.items[0])
        if operator in ("-and", "-or", "-xor"):
            truth = self._truth(one)
            if truth is (operator == "-or") and operator != "-xor":
                return truth
            other = self._truth(self._value(node.items[1]))
            if operator != "-xor" and other is (operator == "-or"):
                return other
            for each in (truth, other):
                if isinstance(each, Reason):
                    return self._script.unknown(each)
            return truth is not other if operator == "-xor" else other
        other = self._value(node.items[1])
        if operator in "+-*/%":
            return self._calculated(operator, one, other)
        if operator == "-f":
            values = other if isinstance(other, list) else [other]
            return formatted(text_of(one), values)
        mark = mark_in(one) or mark_in(other)
        if mark and not (operator == "-join" and not mark_in(other)):
            return mark
        if operator == "..":
            first, last = int(number_of(one)), int(number_of(other))
            if abs(last - first) > 10_000:
                raise NotKnownError
            step = 1 if last >= first else -1
            return list(range(first, last + step, step))
        return compared(operator, one, other, self._script.can_match)

    def _index(self, value: Any, place: Any) -> Any:
        if mark_in(place):
            return mark_in(place)
        if isinstance(value, dict):
            return value.get(text_of(place).lower())
        if isinstance(value, str) and mark_in(value):
            return value
        if isinstance(place, list):
            return [self._index(value, each) for each in place]
        if not isinstance(value, list | str):
            raise NotKnownError
        number = int(number_of(place))
        return value[number] if -len(value) <= number < len(value) else None

    def _member(self, node: Node) -> Any:
        owner, name = node.items[0], node.text
        if owner.kind == "type":
            arguments = [self._value(each) for each in node.items[1:]]
            return static_call(owner.text, name, arguments)
        if owner.kind == "member" and owner.text == "mycommand":
            if name in ("path", "definition"):
                return self._script.path
            raise NotKnownError
        value = self._value(owner)
        if node.kind != "call":
            return value if mark_in(value) else member(value, name)
        arguments = [self._value(each) for each in node.items[1:]]
        if name in ("add", "addrange", "insert", "remove", "clear"):
            return self._change(owner, value, name, arguments, node.line)
        if mark_in(value):
            return mark_in(value)
        return method(value, name, arguments)

    def _change(self, owner: Node, value: Any, name: str, arguments: list[Any], line: int) -> Any:
        """Methods that change a list; ``.Add`` gives a place, which commands never see."""
        variable = owner.text if owner.kind == "variable" else ""
        if isinstance(value, dict) and name == "add" and len(arguments) == 2:
            value[text_of(arguments[0]).lower()] = arguments[1]
        elif isinstance(value, ArrayList) and name == "add" and len(arguments) == 1:
            value.append(arguments[0])
        elif isinstance(value, ArrayList) and name == "addrange" and len(arguments) == 1:
            value.extend(arguments[0] if isinstance(arguments[0], list) else arguments)
        elif isinstance(value, ArrayList) and name == "clear":
            value.clear()
        elif isinstance(value, list) and not isinstance(value, ArrayList):
            what = f"has a fixed size, and line {line} adds to it: PowerShell refuses that; use +="
            self._set(variable, self._script.unknown(Reason(variable, what)), line)
            return None
        elif variable and not mark_in(value):
            what = f"is changed in a way that is not followed (line {line})"
            self._set(variable, self._script.unknown(Reason(variable, what)), line)
            return None
        if variable:
            self._script.lines[key_of(variable)] = line
        return None


def key_of(name: str) -> str:
    return name.lower()
