"""The text that web UIs write into their images: as they put it, and its parts.

Three parts, each on lines of its own: the prompt, ``Negative prompt: …``, and one line of
``Key: value`` pairs. A value with a comma, colon or line break is a JSON string.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from lorasmith.core.files import parse_json

_NEGATIVE = "Negative prompt: "
# The web UI's pattern. Words that no colon follows are passed over whole: tried anew from each of
# their signs, a long text would take minutes.
_PAIR = re.compile(r'(\w[\w \-/]++):\s*+("(?:\\.|[^\\"]){0,10000}+"|[^,]*)(?:,|$)|\w[\w \-/]*+')
# A last line with fewer pairs than this is text, as the web UI has it.
_FEWEST_PAIRS = 3


@dataclass(frozen=True, slots=True)
class Infotext:
    """What made an image.

    Args:
        settings: ``Steps``, ``Sampler``, ``CFG scale``, ``Seed``, ``Size``, ``Model`` … in order.
    """

    prompt: str
    negative: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)


def format_infotext(info: Infotext) -> str:
    """The text; :func:`parse_infotext` reads it back."""
    lines = [info.prompt.strip()]
    if info.negative.strip():
        lines.append(_NEGATIVE + info.negative.strip())
    lines.append(", ".join(f"{key}: {_quote(value)}" for key, value in info.settings.items()))
    return "\n".join(lines)


def parse_infotext(text: str) -> Infotext:
    """The parts of a ``parameters`` text of ours or a web UI's; never raises."""
    *lines, last = text.replace("\r\n", "\n").strip().split("\n")
    pairs = [(key, value) for key, value in _PAIR.findall(last) if key]
    if len(pairs) < _FEWEST_PAIRS:
        lines, pairs = [*lines, last], []
    starts = (i for i, line in enumerate(lines) if line.startswith(_NEGATIVE.rstrip()))
    negative_start = next(starts, len(lines))
    negative = "\n".join(lines[negative_start:]).removeprefix(_NEGATIVE.rstrip())
    settings = {key: _unquote(value) for key, value in pairs}
    return Infotext("\n".join(lines[:negative_start]).strip(), negative.strip(), settings)


def _quote(value: object) -> str:
    text = str(value)
    plain = text == text.strip() and not text.startswith('"') and not re.search(r"[,:\n]", text)
    return text if plain else json.dumps(text, ensure_ascii=False)


def _unquote(value: str) -> str:
    value = value.strip()
    if not value.startswith('"'):
        return value
    try:
        return str(parse_json(value))
    except ValueError:
        return value
