"""The table of arguments for the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lorasmith.importers.sd_scripts.argument import Argument
from lorasmith.importers.sd_scripts.network_args import NETWORK_ARGUMENTS
from lorasmith.importers.sd_scripts.table import ARGUMENTS


def arguments_page() -> str:
    """What becomes of every argument, in Markdown."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# sd-scripts' arguments"
    yield ""
    yield "<!-- Made by `lorasmith convert-config --arguments`. -->"
    yield ""
    yield "What becomes of each argument of `train_network.py` and `sdxl_train_network.py`; see"
    yield "[coming-from-sd-scripts.md](coming-from-sd-scripts.md). Where a default differs from"
    yield "ours, sd-scripts' own is what a converted run gets."
    for title, fates in (
        ("Become settings", ("setting", "read")),
        ("Done in any case", ("always",)),
        ("Dropped, with the reason printed", ("dropped",)),
        ("Refused", ("refused",)),
    ):
        yield ""
        yield f"## {title}"
        yield ""
        yield "| argument | default there | here |"
        yield "|---|---|---|"
        yield from (_row(row) for row in ARGUMENTS.values() if row.fate in fates)
    yield ""
    yield "## `--network_args`"
    yield ""
    yield "| argument | of | here |"
    yield "|---|---|---|"
    for each in NETWORK_ARGUMENTS.values():
        here = f"`{each.here}`" if each.fate == "setting" else f"{each.fate}: {each.here}"
        yield f"| `{each.name}` | {_codes(each.modules)} | {here} |"


def _row(row: Argument) -> str:
    if row.kind == "flag":
        default = "off"
    else:
        default = "" if row.default in (None, "") else f"`{row.default}`"
    here = _codes(row.paths) if row.paths else ""
    reason = "; ".join(part for part in (row.why, row.hint) if part)
    return f"| `--{row.name}` | {default} | {here or reason or 'checked'} |"


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
