"""Command lines of sd-scripts, taken apart as its argument parser does it.

Marks of continued lines that stuck to an argument are taken off, a launcher before the script's
name is left aside, and of an argument that comes twice the last counts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lorasmith.core.errors import Problem, SettingsError
from lorasmith.importers.conversion import Given, Remark, Source, read_table
from lorasmith.importers.named_files import named_path
from lorasmith.importers.sd_scripts.table import ARGUMENTS, WINDOWS_OWN, near, unabbreviated
from lorasmith.importers.sd_scripts.values import unglued

SCRIPT = re.compile(r"(?:.*[/\\])?((?:\w+_)?train_network|\w*train\w*|fine_tune)(\.py)?\Z")

_DASHED = re.compile(r"""["'“”„‘’]*[–—−]+-?[a-z]\w*(?:["'“”=]|\Z)""")
_QUOTED = re.compile("[“”„‘’]--")
_SINGLE = re.compile(r"-[a-z]\w*_\w+(=|\Z)")
_TYPOGRAPHIC = re.compile("[“”„‘’]")

LAUNCHER = "how the launcher starts it; `accelerate launch -m lorasmith` does here"


def read_argv(arguments: Sequence[str], *, sdxl: bool = False) -> Source:
    """The arguments of ``train_network.py``, perhaps with a launcher and the script before them."""
    source = Source("sd-scripts' arguments", sdxl=sdxl)
    words = _after_script(_without_marks(arguments), source)
    place = 0
    while place < len(words):
        word = words[place]
        place += 1
        following = place
        while following < len(words) and not _begins(words[following]):
            following += 1
        if not word.startswith("--"):
            source.problems.append(_stray(word))
            # What follows would be the value.
            place = following if _begins(word) else place
            continue
        is_separator = _kind(word.partition("=")[0]) == "separator"
        name, equals, value = (word if is_separator else unglued(word))[2:].partition("=")
        place += _take(source, name, value if equals else None, words[place:following])
    _take_config_file(source)
    return source


def _without_marks(arguments: Sequence[str]) -> list[str]:
    """The words but for marks of continued lines; a separator may be a blank."""
    return [
        word
        for before, word in zip(("", *arguments), arguments, strict=False)
        if word.strip("`\\ \n\r\t") or (word and _kind(before) == "separator")
    ]


def _kind(word: str) -> str:
    row = ARGUMENTS.get(unabbreviated(word[2:])) if word.startswith("--") else None
    return row.kind if row is not None else ""


def _begins(word: str) -> bool:
    """Whether an argument begins with ``word``, if only with the wrong dash or in wrong quotes."""
    return bool(
        word.startswith("--") or _DASHED.match(word) or _QUOTED.match(word) or _SINGLE.match(word)
    )


def _stray(word: str) -> Problem:
    if _DASHED.match(word):
        return Problem(word, "begins with a typographic dash", "write two hyphens in its place")
    if _SINGLE.match(word):
        return Problem(word, "begins with one hyphen", f"write -{word.partition('=')[0]}")
    if _TYPOGRAPHIC.search(word):
        return Problem(word, "holds typographic quotes", 'write " in their place')
    return Problem(word, "belongs to no argument", "quote texts that hold spaces")


def _take(source: Source, name: str, value: str | None, following: Sequence[str]) -> int:
    """Take one argument; how many of the words after it are its own."""
    where = f"--{name}"
    name = unabbreviated(name)
    if where != f"--{name}":
        source.remarks.append(Remark("noted", where, f"means --{name}, as it does for sd-scripts"))
        where = f"--{name}"
    row = ARGUMENTS.get(name)
    if row is None or name in WINDOWS_OWN:
        source.problems.append(Problem(where, "is not an argument of sd-scripts", near(name)))
        return len(following)
    if row.kind == "flag":
        source.given[name] = Given(True if value is None else value, where)
        return 0
    if row.kind in ("texts", "numbers"):
        values = ([] if value is None else [value]) + list(following)
        source.given[name] = Given(values, where)
        return len(following)
    if value is not None and (row.kind in ("text", "separator") or unglued(value)):
        source.given[name] = Given(value, where)
        return 0
    if value is not None or not following:
        source.problems.append(Problem(where, "has no value", f"write {where} VALUE"))
        return 0
    source.given[name] = Given(following[0], where)
    return 1


def _after_script(words: list[str], source: Source) -> list[str]:
    """The words behind the script's name, if it is among them."""
    for place, word in enumerate(words):
        match = SCRIPT.match(word)
        if not match or not (match[2] or place == 0) or word.startswith("-"):
            continue
        if match[1] not in ("train_network", "sdxl_train_network"):
            source.problems.append(
                Problem(
                    word,
                    "is not the script for LoRAs of Stable Diffusion and SDXL",
                    "give the arguments of train_network.py or sdxl_train_network.py",
                )
            )
        source.sdxl = source.sdxl or match[1] == "sdxl_train_network"
        if before := " ".join(words[:place]):
            source.remarks.append(Remark("dropped", before, LAUNCHER))
        return words[place + 1 :]
    return words


def _take_config_file(source: Source) -> None:
    """``--config_file``: a TOML file whose sections do not matter; the command line wins."""
    if "config_file" not in source.given:
        return
    name = unglued(str(source.given["config_file"].raw))
    if not name:
        return
    try:
        path = named_path(name if name.endswith(".toml") else f"{name}.toml")
        table = read_table(path)
    except SettingsError as error:
        source.problems += error.problems
        source.incomplete = True
        return
    for key, given in known_of(table, path.name, source).items():
        source.given.setdefault(key, given)


def known_of(table: dict[str, object], where: str, source: Source) -> dict[str, Given]:
    """The arguments in a ``--config_file``; of other keys, which sd-scripts ignores, ``source``
    gets a remark."""
    known: dict[str, Given] = {}
    for key, given in flat(table, where).items():
        if key in ARGUMENTS:
            known[key] = given
        elif given.raw not in ("", False, None, []):
            why = f"sd-scripts knows no such argument and ignores it in a file; {near(key)}"
            source.remarks.append(Remark("noted", given.where, why))
    return known


def flat(table: dict[str, object], where: str) -> dict[str, Given]:
    """A table's values and those of its sections, whose names do not matter."""
    values: dict[str, Given] = {}
    for name, value in table.items():
        inner = value if isinstance(value, dict) and name not in ARGUMENTS else {name: value}
        for key, content in inner.items():
            values[str(key)] = Given(content, f"{where}: {key}")
    return values
