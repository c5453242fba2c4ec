"""Reading a bash script: assignments, and the command line that trains. Nothing is run.

Known are ``name=value`` (with ``local``, ``export``, ``declare``), arrays, quotes, ``$name``,
``${name}``, ``${name:-default}``, ``${name[@]}``, comments and continued lines. What is set in a
condition or a loop, by a loop or by ``read`` may be so or not, and counts as unknown; so does what
is never set. Everything else is passed over.
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
_CLOSED = re.compile(r"""'[^']*'|"(?:\\.|[^"\\])*\"""", re.DOTALL)
_IN_QUOTES = re.compile(r"""(\\["\\$`]|`[^`]*`?)""")
_BLANK_END = re.compile(r"[ \t]+(?:\n|\Z)")
_HERE_TEXT = re.compile(
    r"""(?P<head>(?<!<)<<-?[ \t]*(?P<quote>['"]?)(?P<end>\w+)(?P=quote)[^\n]*)
    (?P<text>(?:\n[^\n]*?)*?)\n[ \t]*(?P=end)(?=\n|\Z)""",
    re.VERBOSE,
)
_REDIRECT = re.compile(r"\d?(?:>>?|<)(?P<target>.*)\Z", re.DOTALL)
_BEFORE = ("local", "export", "declare", "readonly", "typeset", "then", "do", "else", "{", "exec")
_OPENS = ("if", "for", "select", "while", "until", "case")
_LOOPS = ("for", "select", "while", "until")
_CLOSES = ("fi", "done", "esac")
_READS = ("read", "mapfile", "readarray")
_NAME = re.compile(r"[A-Za-z_]\w*")


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
    text = _HERE_TEXT.sub(
        lambda match: match["head"] + "\n" * match[0].count("\n"), text.replace("\r\n", "\n")
    )
    commands = list(_commands(text, variables.mistakes))
    for place, command in enumerate(commands):
        words = _bare(command.words)
        head = _plain(words[0]) if words else ""
        if head in _OPENS:
            variables.depth += 1
            for name, line in _set_within(commands[place:]) if head in _LOOPS else ():
                variables.uncertain[name] = line
        elif head in _CLOSES:
            variables.depth = max(0, variables.depth - 1)
        for name in _varying(words):
            variables.vary(name, command.line)
        variables.depth += command.perhaps
        if not _assign(words, variables, command.line):
            expanded = [part for word in _kept(words) for part in _expanded(word, variables)]
            if any(part.startswith("--") for part in expanded):
                found.append(expanded)
        variables.depth -= command.perhaps
    return found, variables


def _commands(text: str, mistakes: list[tuple[int, str]]) -> Iterator[Command]:
    """The commands of a script; brackets of an array stay words of their own."""
    word: Word = []
    command, in_array = Command(1), False
    for match in _TOKEN.finditer(text):
        kind, part = match.lastgroup, match.group()
        if kind in ("text", "escaped", "single", "double", "run"):
            line = text.count("\n", 0, match.start()) + 1
            if not command.words and not word:
                command.line = line
            if kind in ("single", "double") and not _CLOSED.fullmatch(part):
                mistakes.append((line, "has a quote without its partner"))
            elif kind == "escaped" and _BLANK_END.match(text, match.start() + 1):
                mistakes.append(
                    (line, "has a space behind the \\ at its end, which ends the command")
                )
            word += _pieces(str(kind), part)
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


def _pieces(kind: str, part: str) -> list[Piece]:
    if kind == "text":
        return [Piece(part)]
    if kind == "run":
        return [Piece(UNKNOWN, live=False)]
    if kind == "escaped":
        return [Piece(part[1:], live=False, quoted=True)]
    inner = part[1:-1] if _CLOSED.fullmatch(part) else part[1:]
    if kind == "single":
        return [Piece(inner, live=False, quoted=True)]
    between = _IN_QUOTES.split(inner.replace("\\\n", ""))
    pieces = [Piece(text, quoted=True) for text in between[::2]]
    for place, mark in enumerate(between[1::2]):
        text = UNKNOWN if mark.startswith("`") else mark[1:]
        pieces.insert(2 * place + 1, Piece(text, live=False, quoted=True))
    return pieces


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


def _bare(words: list[Word]) -> list[Word]:
    """Without the shell's own words before a command."""
    while words and _plain(words[0]) in _BEFORE:
        words = words[1:]
    return words


def _set_within(commands: list[Command]) -> Iterator[tuple[str, int]]:
    """What the loop at the beginning sets, and where: a second round finds other values."""
    depth = 0
    for command in commands:
        words = _bare(command.words)
        head = _plain(words[0]) if words else ""
        depth += (head in _LOOPS) - (head == "done")
        if not depth:
            return
        for word in words:
            match = _ASSIGNMENT.match(word[0].text)
            if match is None:
                break
            yield match[1], command.line


def _varying(words: list[Word]) -> Iterator[str]:
    """The variables that a loop, or ``read``, sets."""
    plain = [_plain(word) for word in words]
    if plain[:1] in (["for"], ["select"]):
        yield from (match[0] for word in plain[1:2] if (match := _NAME.match(word)))
    while plain and (plain[0] in (*_OPENS, "!") or _ASSIGNMENT.match(plain[0])):
        plain = plain[1:]
    if plain and plain[0] in _READS:
        yield from (word for word in plain[1:] if _NAME.fullmatch(word))


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
        name = alone["braced"]
        if not name:
            return []  # $@: what the script itself is given.
        if not variables.known(name):
            return [unknown(name)]
        value = variables.values[name]
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
    if variables.known(name):
        text = variables.text(name)
    elif match["default"] is None or name in variables.uncertain:
        return unknown(name)
    else:
        text = ""
    return text or _VARIABLE.sub(lambda inner: _value(inner, variables), match["default"] or "")
