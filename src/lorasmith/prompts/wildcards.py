"""What a prompt leaves to chance, drawn before it is parsed. Torch-free.

============================  ====================================================================
``__colours__``               a line of ``colours.txt`` in the folder; ``__dir/name__``,
                              ``__animal*__`` (a line of all that fit)
``{red|green|blue}``          one of them; ``{3::red|green}`` red three times as often
``{2$$red|green|blue}``       two of them, ", " between; ``{1-2$$ and $$red|green}`` one or two
``lbw=1,R,U``                 in a LoRA's tag: R is a number from 0 to 1, U one from -1.5 to 1.5
============================  ====================================================================

Lines and choices may hold wildcards and choices in turn. A draw is a function of the image's
seed and of the draw's place among the prompt's draws. The syntax is that of sd-dynamic-prompts and
sd-webui-lora-block-weight. Braces without a bar or ``$$`` in them are text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from random import Random

from lorasmith.core.errors import PromptError
from lorasmith.core.files import files_below
from lorasmith.core.rng import python_rng
from lorasmith.core.text import did_you_mean, quoted
from lorasmith.prompts.schedule import NUMBER

# Wildcards within wildcards; more is a file that names itself.
MAX_DEPTH = 20
# What a prompt may grow to, characters.
MAX_LENGTH = 100_000

_NAME = re.compile(r"__([\w*][\w*./\- ]*?)__")
_COUNT = re.compile(r"\s*(\d{1,3})?\s*(-)?\s*(\d{1,3})?\s*", re.ASCII)
_SHARE = re.compile(rf"\s*({NUMBER})::", re.ASCII)
_BLOCKS = re.compile(r"<\w+:[^<>]*?\bl[bw][bw]=([^:<>]*)[^<>]*>")
_RANDOM_BLOCK = re.compile(r"(?<![\w.])[RUru](?![\w.])")


class Wildcards:
    """The wildcard files of a folder and its sub-folders.

    Blank lines in them and lines that begin with ``#`` do not count.

    Args:
        folder: with ``.txt`` files; ``None`` leaves ``__name__`` as text.
        allowed: whether a file may be read; all may by themselves.
    """

    def __init__(
        self, folder: Path | None = None, allowed: Callable[[Path], bool] | None = None
    ) -> None:
        self.folder = folder
        self._paths: dict[str, Path] = {}
        self._lines: dict[Path, list[str]] = {}
        for path in files_below(folder, (".txt",)):
            if allowed is not None and not allowed(path):
                continue
            name = path.relative_to(folder or path).with_suffix("").as_posix()
            self._paths[name] = path
        # A file is known by its own name too where no other has it.
        stems = [path.stem for path in self._paths.values()]
        for path in list(self._paths.values()):
            if stems.count(path.stem) == 1:
                self._paths.setdefault(path.stem, path)

    @property
    def names(self) -> tuple[str, ...]:
        """What stands between low lines: files' paths below the folder, and single names."""
        return tuple(self._paths)

    def expand(self, prompt: str, seed: int, purpose: str = "prompt") -> str:
        """The prompt with all that it leaves to chance drawn.

        Args:
            purpose: texts of other purposes have other draws.

        Raises:
            PromptError: there is no such wildcard, it is empty, or it names itself.
        """
        if not any(sign in prompt for sign in ("{", "__", "lbw=", "lwb=")):
            return prompt
        draws = _Draws(self, seed, purpose)
        return _BLOCKS.sub(draws.blocks, draws.expand(prompt, 0))

    def lines(self, name: str) -> list[str]:
        """The lines of all files that ``name`` fits, in their order.

        Raises:
            PromptError: none fits, or they hold no line.
        """
        paths = [self._paths[name]] if name in self._paths else []
        if "*" in name:
            fitting = (
                path for known_name, path in self._paths.items() if fnmatchcase(known_name, name)
            )
            paths = list(dict.fromkeys(fitting))
        if not paths:
            hint = did_you_mean(
                name, self._paths.keys(), "give it a .txt file there", form="__{}__"
            )
            raise PromptError.of(f"__{name}__", f"there is no such wildcard in {self.folder}", hint)
        lines = [line for path in paths for line in self._read(path)]
        if not lines:
            raise PromptError.of(f"__{name}__", f"{paths[0]} holds no line")
        return lines

    def put(self, name: str, text: str) -> None:
        """Take a file's lines to be those of a text, as while somebody writes it.

        Args:
            name: as ``__name__`` has it.
        """
        path = self._paths.setdefault(name, (self.folder or Path()) / f"{name}.txt")
        self._lines[path] = _lines_of(text)

    def _read(self, path: Path) -> list[str]:
        if path not in self._lines:
            try:
                text = path.read_text(encoding="utf-8-sig")
            except (OSError, UnicodeDecodeError) as error:
                raise PromptError.of(
                    path, f"cannot be read: {error}", "save it as UTF-8"
                ) from error
            self._lines[path] = _lines_of(text)
        return self._lines[path]


def _lines_of(text: str) -> list[str]:
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def wildcard_name_problem(name: str) -> str:
    """Why no prompt can name a file as ``__name__``; empty of a good one."""
    if "__" in name:
        return "two low lines one after the other end a wildcard's name"
    if "*" in name or _NAME.fullmatch(f"__{name}__") is None:
        return "a wildcard is named by letters, digits, and - . / or spaces after the first"
    return ""


class _Draws:
    """The draws of one prompt, one after another."""

    def __init__(self, wildcards: Wildcards, seed: int, purpose: str) -> None:
        self._wildcards, self._seed, self._purpose = wildcards, seed, f"wildcards {purpose}"
        self._count = self._length = 0

    def _next(self) -> Random:
        self._count += 1
        return python_rng(self._seed, self._purpose, self._count)

    def expand(self, text: str, depth: int) -> str:
        if depth > MAX_DEPTH:
            raise PromptError.of(quoted(text), "wildcards within wildcards without an end")
        self._length += len(text)
        if self._length > MAX_LENGTH:
            raise PromptError.of(quoted(text), f"grows beyond {MAX_LENGTH} characters")
        pieces = []
        for piece, is_choice in _braces(text):
            if is_choice:
                pieces.append(self._choice(piece, depth))
            elif self._wildcards.folder is not None:
                pieces.append(_NAME.sub(lambda match: self._line(match[1], depth), piece))
            else:
                pieces.append(piece)
        return "".join(pieces)

    def _line(self, name: str, depth: int) -> str:
        return self.expand(self._next().choice(self._wildcards.lines(name)), depth + 1)

    def _choice(self, inside: str, depth: int) -> str:
        """One of ``red|green``, or as many as stand before ``$$``."""
        count, dollars, rest = inside.partition("$$")
        match = _COUNT.fullmatch(count) if dollars else None
        low = high = 1
        joint = ", "
        if match is not None:
            inside = rest
            low = int(match[1] or (0 if match[2] else 1))
            high = int(match[3] or 999) if match[2] else low
            first, dollars, rest = rest.partition("$$")
            if dollars and "|" not in first:
                joint, inside = first, rest
        options = list(_split(inside))
        if match is None and len(options) == 1:
            return "{" + self.expand(inside, depth + 1) + "}"
        rng = self._next()
        low, high = (min(end, len(options)) for end in (min(low, high), max(low, high)))
        picks = _sample(rng, options, rng.randint(low, high))
        return joint.join(self.expand(option, depth + 1) for option in picks)

    def blocks(self, tag: re.Match[str]) -> str:
        """A tag with numbers in place of R and U among its block weights."""

        def number(letter: re.Match[str]) -> str:
            low, high = (0.0, 1.0) if letter[0].upper() == "R" else (-1.5, 1.5)
            return f"{self._next().uniform(low, high):.3f}"

        start, end = tag.start(1) - tag.start(), tag.end(1) - tag.start()
        return tag[0][:start] + _RANDOM_BLOCK.sub(number, tag[1]) + tag[0][end:]


def _braces(text: str) -> Iterator[tuple[str, bool]]:
    """Text, and what stands within outermost braces, in turn; a brace alone is text."""
    pairs: dict[int, int] = {}
    waiting: list[int] = []
    for at, letter in enumerate(text):
        if letter in "{}" and at and text[at - 1] == "\\":
            continue
        if letter == "{":
            waiting.append(at)
        elif letter == "}" and waiting:
            pairs[waiting.pop()] = at
    begin = at = 0
    while at < len(text):
        if at not in pairs:
            at += 1
            continue
        yield text[begin:at], False
        yield text[at + 1 : pairs[at]], True
        begin = at = pairs[at] + 1
    yield text[begin:], False


def _split(inside: str) -> Iterator[str]:
    """The options between bars; those in further braces or square brackets belong to these."""
    brackets = "{[" if inside.count("[") == inside.count("]") else "{"
    depth, begin = 0, 0
    for at, letter in enumerate(inside):
        if letter in brackets:
            depth += 1
        elif letter in "}]" and depth:
            depth -= 1
        elif letter == "|" and not depth:
            yield inside[begin:at]
            begin = at + 1
    yield inside[begin:]


def _sample(rng: Random, options: list[str], count: int) -> list[str]:
    """``count`` different options, by their shares, in the order drawn."""
    waiting = []
    for option in options:
        match = _SHARE.match(option)
        share = float(match[1]) if match else 1.0
        waiting.append((option[match.end() :] if match else option, share))
    picks = []
    for _ in range(count):
        shares = [share for _, share in waiting]
        if sum(shares) <= 0:
            break
        (index,) = rng.choices(range(len(waiting)), shares)
        picks.append(waiting.pop(index)[0])
    return picks
