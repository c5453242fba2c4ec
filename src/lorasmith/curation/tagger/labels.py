"""What the outputs of a tagger are called: label files, as they lie beside the models.

======================  ===================================================================
``selected_tags.csv``   SmilingWolf's WD14 taggers v1.4, v2 and v3, and whoever followed them:
                        columns ``name`` and ``category`` (Danbooru's numbers), one row an output
``tag_mapping.json``    cl_tagger: output number -> tag and category
``tags.txt``            DeepDanbooru: one tag a line; ``rating:`` before the ratings
======================  ===================================================================

The category is read for every label: no order of blocks is taken for granted.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorasmith.core.errors import CheckpointError
from lorasmith.core.files import parse_json
from lorasmith.core.text import quoted
from lorasmith.data.caption_files import decode

CATEGORIES = (
    *("general", "character", "copyright", "artist", "meta"),
    *("quality", "rating"),
)
"""What kinds of label there are, in the order in which tags are written by category."""

ONE_OF = frozenset({"rating", "quality"})
"""Categories of which an image has one label: that with the highest score."""

_NUMBERS = {"0": "general", "1": "artist", "3": "copyright", "4": "character", "5": "meta"}
_NUMBERS |= {"9": "rating"}
# cl_tagger's "model" says which program drew the image: Danbooru has such tags among meta.
_WORDS = {name: name for name in CATEGORIES} | {"model": "meta", "species": "general"}

WD14_FILE = "selected_tags.csv"
MAPPING_FILE = "tag_mapping.json"
DEEPDANBOORU_FILE = "tags.txt"
LABEL_FILES = (WD14_FILE, MAPPING_FILE, DEEPDANBOORU_FILE)
_WD14_COLUMNS = ["tag_id", "name", "category"]
_LARGEST = 64_000_000
_AGAIN = "download it again, from where the model is"


@dataclass(frozen=True, slots=True)
class Labels:
    """
    Args:
        names: by output, as the file has them (with underscores, as a rule).
        categories: by output, each of :data:`CATEGORIES`.
        source: the file that they are from.
        kind: the name of a file of that kind, one of :data:`LABEL_FILES`.
        is_wd14: a table with just the columns of SmilingWolf's own.
    """

    names: tuple[str, ...]
    categories: tuple[str, ...]
    source: Path
    kind: str
    is_wd14: bool = False

    def __len__(self) -> int:
        return len(self.names)


def read_labels(path: Path) -> Labels:
    """The labels in a file that is named as one of :data:`LABEL_FILES` (or ends like it).

    Raises:
        CheckpointError: it cannot be read, or is no such file; says in which line.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise CheckpointError.of(path, "is far too large for a list of labels", _AGAIN)
        text, _ = decode(path.read_bytes())
    except OSError as error:
        hint = "mend its permissions, or download it again"
        raise CheckpointError.of(path, f"cannot be read: {error.strerror}", hint) from error
    suffix = path.suffix.lower()
    if suffix == ".json":
        return _from_mapping(path, text)
    return _from_table(path, text) if suffix == ".csv" else _from_list(path, text.splitlines())


def _from_table(path: Path, text: str) -> Labels:
    try:
        rows = list(csv.reader(io.StringIO(text)))
    except csv.Error as error:
        raise CheckpointError.of(path, f"is not a CSV table: {error}", _AGAIN) from error
    header = [name.strip().lower() for name in rows[0]] if rows else []
    if not {"name", "category"} <= set(header):
        what = 'has no columns "name" and "category"'
        raise CheckpointError.of(path, what, f"put a tagger's own {WD14_FILE} there")
    name_column, category_column = header.index("name"), header.index("category")
    pairs = []
    for number, row in enumerate(rows[1:], 2):
        if not row:
            continue
        if len(row) <= max(name_column, category_column) or not row[name_column].strip():
            raise CheckpointError.of(path, f"line {number} has no name or no category", _AGAIN)
        category = _category(path, f"line {number}", row[category_column])
        pairs.append((row[name_column].strip(), category))
    return _labels(path, pairs, WD14_FILE, is_wd14=header[:3] == _WD14_COLUMNS)


def _from_mapping(path: Path, text: str) -> Labels:
    try:
        value = parse_json(text)
    except ValueError as error:
        raise CheckpointError.of(path, f"is not JSON: {error}", _AGAIN) from error
    if isinstance(value, list):
        value = {str(number): entry for number, entry in enumerate(value)}
    if not isinstance(value, Mapping):
        raise CheckpointError.of(path, "is not a table of labels by their number", _AGAIN)
    if isinstance(value.get("idx_to_tag"), Mapping):  # cl_tagger's own training program
        of_tags = value.get("tag_to_category")
        of_tags = of_tags if isinstance(of_tags, Mapping) else {}
        value = {
            key: {"tag": tag, "category": of_tags.get(str(tag), "general")}
            for key, tag in value["idx_to_tag"].items()
        }
    pairs = {}
    for key, entry in value.items():
        if not str(key).isdecimal() or not isinstance(entry, Mapping) or not entry.get("tag"):
            what = f'entry {quoted(str(key))} is not {{"tag": …, "category": …}} under a number'
            raise CheckpointError.of(path, what, _AGAIN)
        category = _category(path, f"entry {key}", entry.get("category", "general"))
        pairs[int(key)] = str(entry["tag"]), category
    if sorted(pairs) != list(range(len(pairs))):
        missing = next(number for number in range(len(pairs)) if number not in pairs)
        raise CheckpointError.of(path, f"output {missing} has no label", _AGAIN)
    return _labels(path, [pairs[number] for number in range(len(pairs))], MAPPING_FILE)


def _from_list(path: Path, lines: Iterable[str]) -> Labels:
    names = [line.strip() for line in lines if line.strip()]
    return deepdanbooru_labels(path, names)


def deepdanbooru_labels(path: Path, names: Iterable[Any]) -> Labels:
    """Those of DeepDanbooru: which of them are characters is said beside them, in
    ``tags-character.txt``, or nowhere."""
    beside = path.with_name("tags-character.txt")
    characters: set[str] = set()
    if beside.is_file():
        characters = {line.strip() for line in decode(beside.read_bytes())[0].splitlines()}
    pairs = []
    for name in map(str, names):
        if name.startswith("rating:"):
            pairs.append((name.removeprefix("rating:"), "rating"))
        else:
            pairs.append((name, "character" if name in characters else "general"))
    return _labels(path, pairs, DEEPDANBOORU_FILE)


def _labels(
    path: Path, pairs: list[tuple[str, str]], kind: str, *, is_wd14: bool = False
) -> Labels:
    if not pairs:
        raise CheckpointError.of(path, "has no labels", _AGAIN)
    names, categories = zip(*pairs, strict=True)
    return Labels(names, categories, path, kind, is_wd14)


def _category(path: Path, where: str, value: object) -> str:
    text = str(value).strip().lower()
    category = _NUMBERS.get(text) or _WORDS.get(text)
    if category is None:
        choices = ", ".join(f"{number} {name}" for number, name in sorted(_NUMBERS.items()))
        what = f"{where} has the unknown category {quoted(str(value))}"
        raise CheckpointError.of(path, what, f"expected one of: {choices}")
    return category
