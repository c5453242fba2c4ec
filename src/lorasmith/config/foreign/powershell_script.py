"""Reading a PowerShell script: assignments, and the command line that trains. Nothing is run.

Known are ``$name = …`` of texts, numbers, lists and simple arithmetic, ``+=``, ``.Add(…)``,
``"$name"`` and ``${name}`` in texts, ``@name`` (splatting), comments, and lines that a backtick
continues. What is set in a condition or a loop, or by a loop, may be so or not, and counts as
unknown; so does what is never set.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import takewhile

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
_CLOSED = re.compile(r"""'(?:''|[^'])*'|"(?:`.|""|[^"`])*\"""", re.DOTALL)
_HERE_TEXT = re.compile(r"""@(['"])[ \t]*\n(?:.*?\n)??\1@""", re.DOTALL)
_ASSIGNMENT = re.compile(r"(?:\[[\w.\[\]]+\]\s*)?\$(?:\w+:)?(\w+)\s*(\+?=)\s*(.*)\Z", re.DOTALL)
_ADDING = re.compile(r"(?:\[void\]\s*)?\$(\w+)\.Add\((.*)\)\s*\Z", re.DOTALL | re.IGNORECASE)
_VARIABLE = re.compile(r"\$(?:\{(?:\w+:)?(\w+)\}|(?:\w+:)?(\w+)|(\())")
_PERHAPS = re.compile(r"(?:if|elseif|else|for|foreach|while|do|switch|catch)\b|%", re.IGNORECASE)
_LOOP = re.compile(r"(?:for|foreach|while|do)\b|%", re.IGNORECASE)
_FOR = re.compile(r"for\s*\(", re.IGNORECASE)
_EACH = re.compile(r"foreach\s*\(\s*\$(\w+)\s+in\b", re.IGNORECASE)
_CHANGED = re.compile(r"\$(\w+)\s*(?:\+\+|--(?![\w-])|[-+*/%]?=)")
_BUILT_IN = {"true": "True", "false": "False", "null": ""}
_OPERAND = re.compile(
    r"""\s*(?P<operator>[*/+-](?=\s|\$|\d|"|'|\())?\s*
    (?P<operand>"(?:`.|""|[^"`])*"|'(?:''|[^'])*'|\$\{?[\w:]+\}?|[-+]?\d[\w.+-]*)\s*""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(slots=True)
class Statement:
    """Tokens of one statement, as (kind, text); ``perhaps`` inside a condition or a loop, and the
    number of the outermost ``loop``."""

    line: int = 1
    perhaps: bool = False
    loop: int = 0
    tokens: list[tuple[str, str]] = field(default_factory=list)

    @property
    def source(self) -> str:
        return "".join(text if kind != "continued" else " " for kind, text in self.tokens).strip()


def read_powershell(text: str) -> tuple[list[list[str]], Variables]:
    """Every command with words that begin with ``--``, variables replaced; and the variables."""
    variables, found = Variables(), []
    text = _HERE_TEXT.sub(  # Their quotes are none; "$()" counts as unknown.
        lambda match: "$()" + "\n" * match[0].count("\n"), text.replace("\r\n", "\n")
    )
    statements, loop = list(_statements(text, variables.mistakes)), 0
    for place, statement in enumerate(statements):
        if statement.loop != loop:
            loop = statement.loop
            variables.uncertain |= _set_within(statements[place:], loop)
        variables.depth = int(statement.perhaps)
        source = statement.source
        assignment, adding = _ASSIGNMENT.match(source), _ADDING.match(source)
        if assignment:
            value = _evaluated(assignment[3].strip(), variables)
            method = variables.add if assignment[2] == "+=" else variables.set
            method(assignment[1].lower(), value, statement.line)
        elif varying := _varying(source):
            for name in varying:
                variables.vary(name.lower(), statement.line)
        elif adding:
            value = _evaluated(adding[2].strip(), variables)
            members = value if isinstance(value, list) else [value]
            variables.add(adding[1].lower(), members, statement.line)
        else:
            words = _words(statement, variables)
            if any(word.startswith("--") for word in words):
                found.append(words)
    return found, variables


def _set_within(statements: list[Statement], loop: int) -> dict[str, int]:
    """What a loop sets, and where: a second round finds other values."""
    found: dict[str, int] = {}
    for statement in takewhile(lambda each: loop and each.loop == loop, statements):
        for pattern in (_ASSIGNMENT, _CHANGED, _ADDING):
            if match := pattern.match(statement.source):
                found[match[1].lower()] = statement.line
    return found


def _varying(source: str) -> list[str]:
    """The variables of a loop, or one that is counted up or down."""
    if match := _EACH.match(source):
        return [match[1]]
    if _FOR.match(source):
        return _CHANGED.findall(source)
    return [match[1]] if (match := _CHANGED.match(source)) else []


def _statements(text: str, mistakes: list[tuple[int, str]]) -> Iterator[Statement]:
    blocks: list[tuple[bool, int]] = []
    statement, brackets, before, loops = Statement(), 0, "", 0
    for match in _TOKEN.finditer(text):
        kind, part = str(match.lastgroup), match.group()
        if kind == "comment":
            continue
        if kind == "text":
            brackets = max(0, brackets + part.count("(") - part.count(")"))
        inside = brackets and (part.strip() == "" or _FOR.match(statement.source))
        if kind == "brace" or (kind == "end" and not inside):
            header = statement.source
            if statement.tokens and header:
                yield statement
            if part == "{":
                before = header or before  # The brace may stand on a line of its own.
                is_loop = bool(_LOOP.match(before))
                loops += is_loop
                blocks.append((bool(_PERHAPS.match(before)), loops * is_loop))
            elif part == "}" and blocks:
                blocks.pop()
            before = header or before if kind == "end" else ""
            loop = next((number for _, number in blocks if number), 0)
            statement = Statement(perhaps=any(perhaps for perhaps, _ in blocks), loop=loop)
            brackets = 0
            continue
        line = text.count("\n", 0, match.start()) + 1
        if not statement.tokens:
            statement.line = line
        if kind in ("single", "double") and not _CLOSED.fullmatch(part):
            mistakes.append((line, "has a quote without its partner"))
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
        if name == "args":
            return []  # What the script itself is given.
        if not variables.known(name):
            return [_BUILT_IN.get(name, unknown(alone[1]))]
        value = variables.values[name]
        return list(value) if isinstance(value, list) else [value]
    return ["".join(_text(kind, part, variables) for kind, part in pieces)]


def _text(kind: str, part: str, variables: Variables) -> str:
    if kind == "text":
        if part.startswith("`"):
            return part[1:]
        return _replaced(part, variables)
    inner = part[1:-1] if _CLOSED.fullmatch(part) else part[1:]
    if kind == "single":
        return inner.replace("''", "'")
    pieces = re.split(r'(`.|"")', inner, flags=re.DOTALL)
    pieces[::2] = [_replaced(piece, variables) for piece in pieces[::2]]
    pieces[1::2] = [piece[1:] for piece in pieces[1::2]]
    return "".join(pieces)


def _replaced(text: str, variables: Variables) -> str:
    def value(match: re.Match[str]) -> str:
        if match[3]:
            return UNKNOWN
        name = match[1] or match[2]
        if variables.known(name.lower()):
            return variables.text(name.lower())
        return _BUILT_IN.get(name.lower(), unknown(name))

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
