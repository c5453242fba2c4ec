"""Reading a PowerShell script: assignments, and the command line that trains. Nothing is run.

Known are ``$name = …`` of texts, numbers, lists and simple arithmetic, ``+=``, ``.Add(…)``,
``"$name"`` and ``${name}`` in texts, ``@name`` (splatting), comments, and lines that a backtick
continues. What is set in a condition or a loop may be so or not, and counts as unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from lorasmith.config.foreign.script_values import (
    UNKNOWN,
    Value,
    Variables,
    number_text,
    unknown,
)

_TOKEN = re.compile(
    r"""(?P<continued>`[ \t]*\n)
    |(?P<comment><\#.*?(?:\#>|\Z)|(?<![^\s;(){}])\#[^\n]*)
    |(?P<double>"(?:`.|""|[^"`])*"?)
    |(?P<single>'(?:''|[^'])*'?)
    |(?P<text>\$\{[^}\n]*\}|\$\([^()\n]*\)|\$[\w:]*|`.|[^\s"'`;|{}$]+)
    |(?P<space>[ \t]+)
    |(?P<end>[\n;|]+)
    |(?P<brace>[{}])""",
    re.VERBOSE | re.DOTALL,
)
_ASSIGNMENT = re.compile(r"(?:\[[\w.\[\]]+\]\s*)?\$(?:\w+:)?(\w+)\s*(\+?=)\s*(.*)\Z", re.DOTALL)
_ADDING = re.compile(r"(?:\[void\]\s*)?\$(\w+)\.Add\((.*)\)\s*\Z", re.DOTALL | re.IGNORECASE)
_VARIABLE = re.compile(r"\$(?:\{(?:\w+:)?(\w+)\}|(?:\w+:)?(\w+)|(\())")
_PERHAPS = re.compile(r"(?:if|elseif|else|for|foreach|while|do|switch|catch)\b", re.IGNORECASE)
_OPERAND = re.compile(
    r"""\s*(?P<operator>[*/+-](?=\s|\$|\d|"|'|\())?\s*
    (?P<operand>"(?:`.|""|[^"`])*"|'(?:''|[^'])*'|\$\{?[\w:]+\}?|[-+]?\d[\w.+-]*)\s*""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(slots=True)
class Statement:
    """Tokens of one statement, as (kind, text); ``perhaps`` inside a condition or a loop."""

    line: int = 1
    perhaps: bool = False
    tokens: list[tuple[str, str]] = field(default_factory=list)

    @property
    def source(self) -> str:
        return "".join(text if kind != "continued" else " " for kind, text in self.tokens).strip()


def read_powershell(text: str) -> tuple[list[list[str]], Variables]:
    """Every command with words that begin with ``--``, variables replaced; and the variables."""
    variables, found = Variables(), []
    for statement in _statements(text.replace("\r\n", "\n")):
        variables.depth = int(statement.perhaps)
        source = statement.source
        assignment, adding = _ASSIGNMENT.match(source), _ADDING.match(source)
        if assignment:
            value = _evaluated(assignment[3].strip(), variables)
            method = variables.add if assignment[2] == "+=" else variables.set
            method(assignment[1].lower(), value, statement.line)
        elif adding:
            value = _evaluated(adding[2].strip(), variables)
            members = value if isinstance(value, list) else [value]
            variables.add(adding[1].lower(), members, statement.line)
        else:
            words = _words(statement, variables)
            if any(word.startswith("--") for word in words):
                found.append(words)
    return found, variables


def _statements(text: str) -> Iterator[Statement]:
    blocks: list[bool] = []
    statement, brackets = Statement(), 0
    for match in _TOKEN.finditer(text):
        kind, part = str(match.lastgroup), match.group()
        if kind == "comment":
            continue
        if kind == "text":
            brackets = max(0, brackets + part.count("(") - part.count(")"))
        if kind == "brace" or (kind == "end" and not (brackets and part.strip() == "")):
            header = statement.source
            if statement.tokens and header:
                yield statement
            if part == "{":
                blocks.append(bool(_PERHAPS.match(header)))
            elif part == "}" and blocks:
                blocks.pop()
            statement, brackets = Statement(perhaps=any(blocks)), 0
            continue
        if not statement.tokens:
            statement.line = text.count("\n", 0, match.start()) + 1
        statement.tokens.append((kind, part))
    if statement.source:
        yield statement


def _words(statement: Statement, variables: Variables) -> list[str]:
    words: list[str] = []
    pieces: list[tuple[str, str]] = []
    for kind, part in [*statement.tokens, ("space", " ")]:
        if kind not in ("space", "continued", "end"):
            pieces.append((kind, part))
        elif pieces:
            words += _word(pieces, variables)
            pieces = []
    return words


def _word(pieces: list[tuple[str, str]], variables: Variables) -> list[str]:
    kind, text = pieces[0]
    alone = re.fullmatch(r"[@$](\w+)", text) if len(pieces) == 1 and kind == "text" else None
    if alone:
        name = alone[1].lower()
        if name in variables.uncertain:
            return [unknown(alone[1])]
        value = variables.values.get(name, [])
        return list(value) if isinstance(value, list) else [value]
    return ["".join(_text(kind, part, variables) for kind, part in pieces)]


def _text(kind: str, part: str, variables: Variables) -> str:
    if kind == "text":
        if part.startswith("`"):
            return part[1:]
        return _replaced(part, variables)
    inner = part[1:-1] if len(part) > 1 and part[-1] == part[0] else part[1:]
    if kind == "single":
        return inner.replace("''", "'")
    return re.sub(r"`(.)", r"\1", _replaced(inner.replace('""', '"'), variables), flags=re.DOTALL)


def _replaced(text: str, variables: Variables) -> str:
    def value(match: re.Match[str]) -> str:
        if match[3]:
            return UNKNOWN
        name = (match[1] or match[2]).lower()
        return unknown(name) if name in variables.uncertain else variables.text(name)

    return _VARIABLE.sub(value, text)


def _evaluated(source: str, variables: Variables) -> Value:
    """The value of an expression: a text, or the members of a list."""
    if re.match(r"\[[\w.\[\]]*(ArrayList|List)[\w.\[\]]*\]::new\(\)", source, re.IGNORECASE):
        return []
    bracketed = re.fullmatch(r"@\((.*)\)", source, re.DOTALL)
    parts = _split(bracketed[1] if bracketed else source)
    if bracketed or len(parts) > 1:
        members: list[str] = []
        for part in parts:
            value = _evaluated(part, variables)
            members += value if isinstance(value, list) else [value]
        return members
    return _arithmetic(parts[0], variables) if parts else ""


def _split(source: str) -> list[str]:
    """At commas and ends of lines that stand outside quotes and brackets."""
    parts, depth = [""], 0
    for match in re.finditer(r""""(?:`.|""|[^"`])*"?|'[^']*'?|.""", source, re.DOTALL):
        piece = match.group()
        depth += (piece == "(") - (piece == ")")
        if piece in (",", "\n") and not depth:
            parts.append("")
        else:
            parts[-1] += piece
    return [part.strip() for part in parts if part.strip()]


def _arithmetic(source: str, variables: Variables) -> Value:
    """``$a * $b + 1`` from left to right, products first; texts are joined by ``+``."""
    terms: list[tuple[str, str]] = []
    place = 0
    while place < len(source):
        match = _OPERAND.match(source, place)
        if match is None or bool(terms) != bool(match["operator"]):
            return UNKNOWN
        terms.append((match["operator"] or "+", _operand(match["operand"], variables)))
        place = match.end()
    if len(terms) == 1:
        return terms[0][1]
    if any(UNKNOWN in text for _, text in terms):
        return next(text for _, text in terms if UNKNOWN in text)
    try:
        return _computed([(operator, float(text)) for operator, text in terms])
    except (ValueError, ZeroDivisionError, OverflowError):
        joined = all(operator == "+" for operator, _ in terms)
        return "".join(text for _, text in terms) if joined else UNKNOWN


def _operand(text: str, variables: Variables) -> str:
    kind = {'"': "double", "'": "single"}.get(text[0], "text")
    return _text(kind, text, variables)


def _computed(terms: list[tuple[str, float]]) -> str:
    sums: list[float] = []
    for operator, number in terms:
        if operator in "*/" and sums:
            sums[-1] = sums[-1] * number if operator == "*" else sums[-1] / number
        else:
            sums.append(-number if operator == "-" else number)
    return number_text(sum(sums))
