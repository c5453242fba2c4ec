"""Values that people write in more than one way, brought to one form.

Each function takes what came from TOML or the command line and returns the one form, or raises
``ValueError`` with a message that says what was expected.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from lorasmith.core.file_names import name_problem
from lorasmith.core.files import user_path
from lorasmith.core.text import number_hint, parse_number
from lorasmith.formats.block_weights import learning_weights, sizes, to_text

SMALLEST_SIDE, LARGEST_SIDE = 16, 8192


def size(value: Any) -> Any:
    """``512``, ``[512, 768]``, ``"512,768"`` or ``"512x768"``: a side or (width, height)."""
    parts: list[Any]
    if isinstance(value, str):
        parts = re.split(r"\s*[,x×]\s*", value.strip().lower())
    elif isinstance(value, list | tuple):
        parts = list(value)
    else:
        parts = [value]
    if value is None:
        return None
    if len(parts) not in (1, 2):
        raise ValueError(f"{value!r} is neither one side nor a width and a height")
    sides = [_side(part, value) for part in parts]
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


def _side(part: Any, whole: Any) -> int:
    try:
        side = int(part)
        exact = not isinstance(part, bool) and side == float(part)
    except (TypeError, ValueError, OverflowError):
        exact = False
    if not exact:
        raise ValueError(f"{whole!r} is not a size in pixels, such as 512 or [512, 768]")
    if not SMALLEST_SIDE <= side <= LARGEST_SIDE:
        raise ValueError(f"{side} pixels is out of range: from {SMALLEST_SIDE} to {LARGEST_SIDE}")
    return side


def warmup(value: Any) -> int | float:
    """``100`` steps, or ``"5%"`` and ``0.05`` of the run: an int of steps or a fraction below 1."""
    number = _part(value, 'neither a number of steps nor a share such as "5%"')
    if number < 0:
        raise ValueError(f"{value!r} is negative; 0 is no warm-up")
    if isinstance(value, str) and value.strip().endswith("%") and number >= 1:
        raise ValueError(f"{value!r} leaves nothing after the warm-up; write less than 100%")
    if 0 < number < 1:
        return number
    if number != int(number):
        raise ValueError(f"{value!r} is neither whole steps nor a share below 1")
    return int(number)


def share(value: Any) -> float:
    """``"10%"`` or ``0.1``: a fraction from 0 to less than 1."""
    number = _part(value, 'not a share; write "10%" or 0.1')
    if not 0 <= number < 1:
        raise ValueError(f'{value!r} is out of range: from 0 to less than 1, or "10%"')
    return number


def _part(value: Any, what: str) -> float:
    """A number, or a percentage as a fraction.

    Args:
        what: what the value is, where it is no number.
    """
    text = value.strip() if isinstance(value, str) else value
    percent = isinstance(text, str) and text.endswith("%")
    try:
        number = parse_number(text.rstrip("% ") if percent else text)
    except ValueError:
        hint = number_hint(text.rstrip("% ")) if isinstance(text, str) else ""
        hint = hint.replace(", with", "%, with") if percent else hint
        hint = f"; {hint}" if hint else ""
        raise ValueError(f"{value!r} is {what}{hint}") from None
    return number / 100 if percent else number


def optimizer_args(value: Any) -> dict[str, Any]:
    """A table, or texts ``key=value`` as in ``--optimizer_args``, to Python values.

    ``betas=0.9,0.99`` becomes ``(0.9, 0.99)`` and ``decouple=True`` becomes ``True``, as
    sd-scripts reads them.
    """
    if isinstance(value, dict):
        pairs = {str(key): item for key, item in value.items()}
    else:
        texts = shlex.split(value) if isinstance(value, str) else value
        if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"{value!r} is neither a table nor a list of texts key=value")
        pairs = {}
        for text in texts:
            key, equals, item = text.partition("=")
            if not equals or not key.strip():
                raise ValueError(f"{text!r} has no '='; write it as key=value")
            pairs[key.strip()] = item
    return {key: _python_value(key, item) for key, item in pairs.items()}


PAIRS = ("betas", "eps", "alphas", "nus")
"""Optimizers' arguments that are pairs; a pair of anything else is a decimal comma."""


def _python_value(key: str, value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_python_value(key, item) for item in value)
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if key not in PAIRS and (hint := number_hint(text)):
        raise ValueError(f"{key}={text} is not one number; {hint}")
    try:
        parsed = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise ValueError(f"{key}={text} is not a number, True, False or a list of them") from None
    return tuple(parsed) if isinstance(parsed, list) else parsed


def zero_is_none(value: Any) -> Any:
    """0 switches off what a number switches on."""
    if isinstance(value, bool):
        return value
    try:
        return None if float(value) == 0 else value
    except (TypeError, ValueError):
        return value


def texts(value: Any) -> Any:
    """One text stands for a list of one."""
    return [value] if isinstance(value, str) else value


def block_weights(value: Any) -> Any:
    """Weights by block, in any way that :mod:`lorasmith.formats.block_weights` has, as a text."""
    return _block_text(value, lambda text: learning_weights(text, side=None))


def block_ranks(value: Any) -> Any:
    return _block_text(value, lambda text: sizes(text, whole=True))


def block_alphas(value: Any) -> Any:
    return _block_text(value, lambda text: sizes(text, whole=False))


def _block_text(value: Any, check: Callable[[str], Any]) -> Any:
    if value is None:
        return None
    text = to_text(value)
    check(text)
    return text


def patterns(value: Any) -> Any:
    """Patterns of layers; one text may hold several, with spaces or commas between them."""
    if isinstance(value, str):
        value = [value] if value.startswith("re:") else value.replace(",", " ").split()
    for text in value if isinstance(value, list) else []:
        if isinstance(text, str) and text.startswith("re:"):
            try:
                re.compile(text.removeprefix("re:"))
            except re.error as error:
                raise ValueError(f"{text!r} is no regular expression: {error}") from None
    return value


def some_path(value: Any) -> Any:
    """An empty path (an unset shell variable) is a mistake."""
    if isinstance(value, str | Path) and not str(value).strip():
        raise ValueError("is empty; name a file or a folder, or leave it out")
    return value


# What separates a word of a prompt from others, weighs it, or ends its name in a LoRA's file.
NOT_IN_NAMES = ",()[]{}.<>:|"


def embedding_names(value: Any) -> Any:
    """Names that prompts can have and files too; one text may hold several, with commas."""
    names = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{value!r} is not a list of texts")
    for name in names:
        file_stem(name)
        if odd := [sign for sign in NOT_IN_NAMES if sign in name]:
            what = f"{name!r} cannot be a word of prompts: {odd[0]!r} means something else there"
            raise ValueError(f"{what}; use letters, digits, - and _")
    return list(names)


def file_stem(value: Any) -> Any:
    """A name that files can have on every system."""
    if isinstance(value, str):
        why = name_problem(value) or ("" if value else "it is empty")
        if not why and value.startswith((" ", ".")):
            why = "a space or a dot is before it"
        if why:
            what = f"{value!r} cannot be a file name: {why}"
            raise ValueError(f"{what}; use letters, digits, - and _")
    return value


def extension(value: Any) -> Any:
    """``txt`` means ``.txt``."""
    if isinstance(value, str) and value and value != "auto" and not value.startswith("."):
        return f".{value}"
    return value


AUTO = "auto"
UserPath = Annotated[Path, BeforeValidator(some_path), AfterValidator(user_path)]
"""``~`` is the home folder."""
Size = Annotated[int | tuple[int, int] | None, BeforeValidator(size)]
Warmup = Annotated[int | float, BeforeValidator(warmup)]
Share = Annotated[float, BeforeValidator(share)]
Args = Annotated[dict[str, Any], BeforeValidator(optimizer_args)]
Texts = Annotated[list[str], BeforeValidator(texts)]
Patterns = Annotated[list[str], BeforeValidator(patterns)]
OwnTargets = Annotated[list[str] | None, BeforeValidator(patterns)]
BlockWeights = Annotated[str | None, BeforeValidator(block_weights)]
BlockRanks = Annotated[str | None, BeforeValidator(block_ranks)]
BlockAlphas = Annotated[str | None, BeforeValidator(block_alphas)]
FileStem = Annotated[str | None, BeforeValidator(file_stem)]
Extension = Annotated[str, BeforeValidator(extension)]
Every = Annotated[int | None, Field(ge=1), BeforeValidator(zero_is_none)]
"""A count where 0 and "none" mean never."""
AutoEvery = Annotated[
    Annotated[int, Field(ge=1)] | Literal["auto"] | None, BeforeValidator(zero_is_none)
]
"""The same, worked out where nobody says it."""
