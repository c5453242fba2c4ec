"""Reading a bash script: assignments, and the command line that trains. Nothing is run.

Known are ``name=value`` (with ``local``, ``export``, ``declare``), arrays, quotes, ``$name``,
``${name}``, ``${name:-default}``, ``${name[@]}``, comments and continued lines. What is set in a
condition or a loop may be so or not, and counts as unknown. Everything else is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from lorasmith.config.foreign.script_values import UNKNOWN, Variables, unknown

_TOKEN = re.compile(
    r"""(?P<continued>\\\n)
    |(?P<escaped>\\.)
    |(?P<single>'[^']*'?)
    |(?P<double>"(?:\\.|[^"\\])*"?)
    |(?P<comment>(?<![^\s;(])\#[^\n]*)
    |(?P<run>\$\((?:[^()]|\([^()]*\))*\)?|`[^`]*`?)
    |(?P<text>\$\{[^}\n]*\}|\$(?:\w+|[@*\#?!-])|[^\s'"\\;|&()`$\#]+|[$\#])
    |(?P<space>[ \t\r]+)
    |(?P<end>[\n;|&]+)
    |(?P<bracket>[()])""",
    re.VERBOSE | re.DOTALL,
)
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(\+?=)")
_VARIABLE = re.compile(
    r"\$(?:(?P<name>[A-Za-z_]\w*)|\{(?P<braced>[A-Za-z_]\w*)(?P<all>\[[@*]\])?"
    r"(?::?-(?P<default>[^{}]*))?\}|(?P<special>[@*])|(?P<other>[({#?0-9!-]))"
)
_REDIRECT = re.compile(r"\d?(?:>>?|<)(?P<target>.*)\Z", re.DOTALL)
_BEFORE = ("local", "export", "declare", "readonly", "typeset", "then", "do", "else", "{", "exec")
_OPENS, _CLOSES = ("if", "for", "while", "until", "case"), ("fi", "done", "esac")


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a word: ``live`` where variables are replaced in it."""

    text: str
    live: bool = True
    quoted: bool = False


Word = list[Piece]


@dataclass(slots=True)
class Command:
    """A command's words; ``perhaps`` where it depends on the one before."""

    line: int
    perhaps: bool = False
    words: list[Word] = field(default_factory=list)


def read_bash(text: str) -> tuple[list[list[str]], Variables]:
    """Every command with words that begin with ``--``, variables replaced; and the variables."""
    variables, found = Variables(), []
    for command in _commands(text.replace("\r\n", "\n")):
        words = command.words
        head = _plain(words[0])
        if head in _OPENS:
            variables.depth += 1
        elif head in _CLOSES:
            variables.depth = max(0, variables.depth - 1)
        while words and _plain(words[0]) in _BEFORE:
            words = words[1:]
        variables.depth += command.perhaps
        if not _assign(words, variables, command.line):
            expanded = [part for word in _kept(words) for part in _expanded(word, variables)]
            if any(part.startswith("--") for part in expanded):
                found.append(expanded)
        variables.depth -= command.perhaps
    return found, variables


def _commands(text: str) -> Iterator[Command]:
    """The commands of a script; brackets of an array stay words of their own."""
    word: Word = []
    command, in_array = Command(1), False
    for match in _TOKEN.finditer(text):
        kind, part = match.lastgroup, match.group()
        if kind in ("text", "escaped", "single", "double", "run"):
            if not command.words and not word:
                command.line = text.count("\n", 0, match.start()) + 1
            word.append(_piece(str(kind), part))
            continue
        if kind == "bracket" and part == "(" and word and _plain(word).endswith("="):
            word.append(Piece("(", live=False))
            in_array = True
        closes = kind == "bracket" and part == ")" and in_array
        if word and kind != "continued":
            command.words.append(word)
            word = []
        if closes:
            command.words.append([Piece(")", live=False)])
            in_array = False
        if kind == "end" and not in_array:
            if command.words:
                yield command
            command = Command(1, perhaps=part.strip("\n") in ("&&", "||"))
    if word:
        command.words.append(word)
    if command.words:
        yield command


def _piece(kind: str, part: str) -> Piece:
    if kind == "text":
        return Piece(part)
    if kind == "run":
        return Piece(UNKNOWN, live=False)
    if kind == "escaped":
        return Piece(part[1:], live=False, quoted=True)
    inner = part[1:-1] if len(part) > 1 and part[-1] == part[0] else part[1:]
    if kind == "single":
        return Piece(inner, live=False, quoted=True)
    inner = inner.replace("\\\n", "")
    return Piece(re.sub(r'\\(["\\$`])', r"\1", inner), quoted=True)


def _plain(word: Word) -> str:
    return "".join(piece.text for piece in word)


def _kept(words: list[Word]) -> Iterator[Word]:
    """Without redirections to files."""
    skip = False
    for word in words:
        redirect = None if word[0].quoted else _REDIRECT.match(_plain(word))
        if not skip and redirect is None:
            yield word
        skip = redirect is not None and not redirect["target"]


def _assign(words: list[Word], variables: Variables, line: int) -> bool:
    """Do the assignments that ``words`` are; False if they are something else."""
    if not words or not all(_ASSIGNMENT.match(word[0].text) for word in words[:1]):
        return False
    match = _ASSIGNMENT.match(words[0][0].text)
    assert match is not None
    if _plain(words[0]).endswith("=("):
        members = [part for word in words[1:] if _plain(word) != ")"
                   for part in _expanded(word, variables)]  # fmt: skip
        (variables.add if match[2] == "+=" else variables.set)(match[1], members, line)
        return True
    if not all(_ASSIGNMENT.match(word[0].text) for word in words):
        return False  # NAME=value before a command counts for that command alone.
    for word in words:
        match = _ASSIGNMENT.match(word[0].text)
        assert match is not None
        value = [Piece(word[0].text[match.end() :]), *word[1:]]
        text = "".join(_replaced(piece, variables) for piece in value)
        (variables.add if match[2] == "+=" else variables.set)(match[1], text, line)
    return True


def _expanded(word: Word, variables: Variables) -> list[str]:
    """A word's text; the members of an array where the word is one; nothing where it is empty."""
    alone = _VARIABLE.fullmatch(word[0].text) if len(word) == 1 and word[0].live else None
    if alone and (alone["special"] or alone["all"]):
        name = alone["braced"] or ""
        if name in variables.uncertain:
            return [unknown(name)]
        value = variables.values.get(name, [])
        return list(value) if isinstance(value, list) else [value]
    text = "".join(_replaced(piece, variables) for piece in word)
    if any(piece.quoted for piece in word):
        return [text]
    return text.split() if alone else [text] * bool(text)


def _replaced(piece: Piece, variables: Variables) -> str:
    if not piece.live:
        return piece.text
    return _VARIABLE.sub(lambda match: _value(match, variables), piece.text)


def _value(match: re.Match[str], variables: Variables) -> str:
    if match["other"]:
        return UNKNOWN
    name = match["name"] or match["braced"]
    if not name:
        return ""  # $@: what the script itself is given.
    if name in variables.uncertain:
        return unknown(name)
    return variables.text(name) or (match["default"] or "")
