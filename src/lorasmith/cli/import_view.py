"""How a conversion is shown: what became what, and what did not."""

from __future__ import annotations

from collections.abc import Iterator

from lorasmith.config.dump import toml_value
from lorasmith.config.fields import NONE
from lorasmith.core.terminal import echo
from lorasmith.importers.conversion import Conversion

TITLES = {
    "noted": "To know:",
    "always": "Done in any case:",
    "dropped": "Not carried over:",
}


def show(result: Conversion) -> None:
    """Print every setting with the arguments that it comes from, and every remark."""
    echo("\n".join(view(result)) + "\n")


def view(result: Conversion) -> Iterator[str]:
    yield "sd-scripts' arguments as settings:"
    lines = [
        (f"{path} = {toml_value(NONE if made.value is None else made.value)}", made)
        for path, made in result.settings.items()
    ]
    width = min(48, max((len(text) for text, _ in lines), default=0))
    for text, made in lines:
        note = f"  ({made.note})" if made.note else ""
        yield f"  {text:<{width}}  <- {made.source}{note}"
    for kind, title in TITLES.items():
        remarks = [remark for remark in result.remarks if remark.kind == kind]
        if remarks:
            yield title
            yield from (f"  {remark.what}: {remark.why}" for remark in remarks)
