"""Captions of many images in one file: ``metadata.jsonl``, CSV, sd-scripts' ``meta_cap.json``.

Read where an image has no caption file of its own. Every program has its own names for the columns;
a row is understood if it names an image and says a text of it.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from lorasmith.data.caption_files import decode
from lorasmith.data.layout import FolderSpec
from lorasmith.files import parse_json

SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv", ".json")

# Above this it is something else; a caption takes a few hundred bytes.
MAX_BYTES = 64_000_000
# Names of tables that may lie beside the folder of images; in the folder any name will do.
_ABOVE = re.compile(r"(?:meta|caption|prompt|label|tag|dataset|data|train|text)", re.IGNORECASE)

# What a row calls the image, and what it says of it; the first that a row has is taken.
# diffusers' imagefolder: file_name, text. sd-scripts: image_path, caption, tags.
_IMAGE_KEYS = (
    *("file_name", "filename", "file", "image_path", "image_file", "image", "img_path", "img"),
    *("path", "filepath", "file_path", "image_name", "name", "key", "id"),
)
_TEXT_KEYS = (
    *("text", "caption", "captions", "prompt", "description", "blip_caption", "wd_tags"),
    *("tag_string", "tags"),
)
_TAG_KEYS = ("tags", "tag_string")


@dataclass
class CaptionTables:
    """Captions by image.

    Args:
        captions: text and the table that it is from, by image.
        files: the files that were read as tables, and in how many rows each names an image.
    """

    captions: dict[Path, tuple[str, Path]] = field(default_factory=dict)
    files: dict[Path, int] = field(default_factory=dict)


def read_tables(spec: FolderSpec, images: Sequence[Path], files: Iterable[Path]) -> CaptionTables:
    """The captions that tables in a folder, or in the one above it, have for its images.

    Args:
        images: files of the folder.
        files: all other files of the folder.
    """
    tables = CaptionTables()
    if not images:
        return tables
    names = _names_of(images)
    own = [path for path in files if path.suffix.lower() in SUFFIXES]
    for path in own:
        _add(tables, path, names)
    try:
        beside = sorted(spec.path.resolve().parent.iterdir())
    except OSError:
        return tables
    folders = [path for path in beside if path.is_dir() and not path.name.startswith(".")]
    for path in beside:
        if path.suffix.lower() in SUFFIXES and _ABOVE.match(path.name):
            _add(tables, path, names, spec.path.resolve().name, alone=len(folders) == 1)
    return tables


def _add(
    tables: CaptionTables,
    path: Path,
    names: Mapping[str, Path],
    folder: str | None = None,
    *,
    alone: bool = True,
) -> None:
    """Take in what a file says of the images; the first table that names one keeps it."""
    rows = 0
    for key, text in _rows(path, names):
        image = _find(key, names, folder, alone=alone)
        if image is not None and text:
            rows += 1
            tables.captions.setdefault(image, (text, path))
    if rows:
        tables.files[path] = rows


def _find(
    key: str, names: Mapping[str, Path], folder: str | None = None, *, alone: bool = True
) -> Path | None:
    """The image that a row means.

    Args:
        folder: that of the images, where the table lies beside it: a path must go through it.
        alone: no other folder lies there, so a bare name will do.
    """
    place = PurePosixPath(unicodedata.normalize("NFC", key.strip().replace("\\", "/")))
    if folder is not None:
        within = place.parent.name
        if within != unicodedata.normalize("NFC", folder) and (within or not alone):
            return None
    return names.get(place.name) or names.get(_without_ending(place.name, names))


def _without_ending(name: str, names: Mapping[str, Path]) -> str:
    """A row may call a.png just a, or name it as it was before it was converted (a.jpg)."""
    stem = PurePosixPath(name).stem
    return stem if stem in names else name


def _names_of(images: Sequence[Path]) -> dict[str, Path]:
    stems = {unicodedata.normalize("NFC", path.stem): path for path in images}
    return stems | {unicodedata.normalize("NFC", path.name): path for path in images}


def _rows(path: Path, names: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    """What the file calls an image, and its caption; nothing if it is no table."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return
        text, _ = decode(path.read_bytes())
        if path.suffix.lower() in (".csv", ".tsv"):
            yield from _csv_rows(text, names)
        elif path.suffix.lower() == ".json":
            yield from _json_rows(parse_json(text), path)
        else:
            yield from _json_rows([parse_json(line) for line in text.splitlines() if line.strip()])
    except (OSError, ValueError, RecursionError, csv.Error):
        return


def _csv_rows(text: str, names: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    rows: list[list[str]] = []
    header: list[str] = []
    for delimiter in "\t;|,":
        lines = io.StringIO(text, newline="")
        rows = [row for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True) if row]
        header = [cell.strip().lower() for cell in rows[0]] if rows else []
        if len(header) > 1 and (_chosen(header, _IMAGE_KEYS) or _find(rows[0][0], names)):
            break
    if not _chosen(header, _IMAGE_KEYS):
        # No header: the image's name, and all that follows.
        for name, *cells in rows:
            if _find(name, names) is not None:
                yield name, ", ".join(cell.strip() for cell in cells if cell.strip())
        return
    yield from _json_rows([dict(zip(header, row, strict=False)) for row in rows[1:]])


def _json_rows(value: Any, path: Path | None = None) -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        for row in value:
            if isinstance(row, dict):
                row = {str(key).lower(): cell for key, cell in row.items()}
                key = _chosen(row, _IMAGE_KEYS)
                if key and isinstance(row[key], str):
                    yield row[key], _text(row)
    elif isinstance(value, dict):
        lowered = {str(key).lower(): cell for key, cell in value.items()}
        if path is not None and _text(lowered):
            yield path.stem, _text(lowered)  # of one image, as download programs write it
            return
        for key, cell in value.items():
            yield key, _text(cell) if isinstance(cell, dict) else _plain(cell)


def _text(row: Mapping[str, Any]) -> str:
    """A row's caption, with its tags behind it as sd-scripts does."""
    key = _chosen(row, _TEXT_KEYS)
    parts = [_plain(row[key])] if key else []
    parts += [_plain(row[tags]) for tags in _TAG_KEYS if tags != key and tags in row][:1]
    return ", ".join(part for part in parts if part)


def _plain(cell: Any) -> str:
    if isinstance(cell, str):
        lines = [line.strip() for line in cell.splitlines()]
        return "\n".join(line for line in lines if line)
    if isinstance(cell, list) and all(isinstance(tag, str) for tag in cell):
        return ", ".join(tag.strip() for tag in cell if tag.strip())
    return ""


def _chosen(row: Iterable[str], keys: Sequence[str]) -> str:
    there = set(row)
    return next((key for key in keys if key in there), "")
