"""Captions in files, whatever editor wrote them: one for each image, or a table of many.

Tables (``metadata.jsonl``, CSV, sd-scripts' ``meta_cap.json``) are read where an image has no
caption file of its own. Every program has its own names for the columns; a row is understood if it
names an image and says a text of it.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from lorasmith.core.errors import Problem
from lorasmith.core.files import parse_json
from lorasmith.core.text import quantity, shortlist
from lorasmith.data.layout import FolderSpec

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),  # before UTF-16, whose mark begins this one
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
_HIGH_RUNS = re.compile(rb"[\x80-\xff]+")
_KANA = re.compile("[\u3041-\u30ff]")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f]")


@dataclass(frozen=True, slots=True)
class CaptionText:
    """A caption file's text.

    Args:
        text: lines stripped, empty lines dropped, joined by newlines; "" when there is nothing.
        encoding: what it was decoded as ("UTF-8", "Windows-1252", …).
        warning: the encoding was guessed, or the file is not text ("" otherwise).
        is_text: it has no control characters but those of text.
        has_mark: it begins with a byte order mark of UTF-8.
    """

    text: str
    encoding: str
    warning: str = ""
    is_text: bool = True
    has_mark: bool = False


def read_caption(path: Path) -> CaptionText:
    """Read a caption file of any common encoding.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb", buffering=0) as file:  # A buffer takes longer than a line.
        data = file.readall()
    text, encoding = decode(data)
    if _CONTROL.search(text):
        warning = "is not a text file; it is taken as empty"
        return CaptionText("", encoding, warning, is_text=False)
    lines = [line.strip() for line in text.splitlines()]
    warning = "" if encoding.startswith("UTF-") else f"is not UTF-8; read as {encoding}"
    has_mark = data.startswith(codecs.BOM_UTF8)
    return CaptionText("\n".join(filter(None, lines)), encoding, warning, has_mark=has_mark)


def decode(data: bytes) -> tuple[str, str]:
    """Text and encoding name; never fails.

    Byte order marks first, then UTF-8, then UTF-16 without a mark (every other byte is zero), then
    the legacy encodings of East Asian and Western Windows. Those overlap: text in GBK has its high
    bytes in pairs, text in Shift JIS has kana, and Western text next to never has either.
    """
    for mark, codec, name in _MARKS:
        if data.startswith(mark):
            return data.decode(codec, errors="replace"), name
    if data and len(data) % 2 == 0:
        for zeros, codec in ((data[1::2], "utf-16-le"), (data[::2], "utf-16-be")):
            if zeros.count(0) > len(zeros) * 0.6:
                return data.decode(codec, errors="replace"), "UTF-16"
    try:
        return data.decode("utf-8"), "UTF-8"
    except UnicodeDecodeError:
        return _decode_legacy(data)


def _decode_legacy(data: bytes) -> tuple[str, str]:
    paired = all(len(run.group()) % 2 == 0 for run in _HIGH_RUNS.finditer(data))
    for codec, name, fits in (
        ("gb18030", "GBK", lambda text: paired),
        ("cp932", "Shift JIS", lambda text: _KANA.search(text) is not None),
        ("cp1252", "Windows-1252", lambda text: True),
    ):
        try:
            text = data.decode(codec)
        except UnicodeDecodeError:
            continue
        if fits(text):
            return text, name
    return data.decode("latin-1"), "Latin-1"


TABLE_SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv", ".json")
# A list of images in a text file: a.png | zorp, hat
_LIST_SUFFIX = ".txt"
_NOT_READ = (".parquet", ".arrow", ".xlsx", ".sqlite")

# Above this it is something else; a caption takes a few hundred bytes.
MAX_BYTES = 64_000_000
# Names of tables that may lie beside the folder of images; in the folder any name will do.
_ABOVE = re.compile(r"(?:meta|caption|prompt|label|tag|dataset|data|train|text)", re.IGNORECASE)

# What a row calls the image, and what it says of it; the first that a row has is taken.
# diffusers' imagefolder: file_name, text (additional_feature in its docs). sd-scripts: image_path,
# caption, tags.
IMAGE_KEYS = (
    *("file_name", "filename", "file", "image_path", "image_file", "image", "img_path", "img"),
    *("path", "filepath", "file_path", "image_name", "name", "key", "id"),
)
_TEXT_KEYS = (
    *("text", "caption", "captions", "prompt", "description", "blip_caption", "wd_tags"),
    *("additional_feature", "tag_string", "tags"),
)
_TAG_KEYS = ("tags", "tag_string")
_SHOWN, _COLUMNS = 3, 8


@dataclass
class CaptionTables:
    """Captions by image.

    Args:
        captions: text and the table that it is from, by image.
        files: the files that were read as tables, and how many images each has captions of.
        warnings: what could not be read in them.
    """

    captions: dict[Path, tuple[str, Path]] = field(default_factory=dict)
    files: dict[Path, int] = field(default_factory=dict)
    warnings: list[Problem] = field(default_factory=list)


@dataclass
class _Table:
    """What one file says: (what it calls an image, its caption), and what is wrong with it."""

    rows: list[tuple[str, str]] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)


def read_tables(spec: FolderSpec, images: Sequence[Path], files: Iterable[Path]) -> CaptionTables:
    """The captions that tables in a folder, or in the one above it, have for its images.

    Args:
        images: files of the folder.
        files: all other files of the folder.
    """
    tables = CaptionTables()
    if not images:
        return tables
    names = names_of(images)
    for path in files:
        suffix = path.suffix.lower()
        stem = unicodedata.normalize("NFC", path.stem)
        if suffix in TABLE_SUFFIXES or (suffix == _LIST_SUFFIX and stem not in names):
            _add(tables, path, names)
        elif suffix in _NOT_READ and _ABOVE.match(path.name):
            what = "a table of this kind is not read, if there are captions in it"
            tables.warnings.append(Problem(str(path), what, "save it as CSV or JSON Lines"))
    try:
        beside = sorted(spec.path.resolve().parent.iterdir())
    except OSError:
        return tables
    folders = [path for path in beside if path.is_dir() and not path.name.startswith(".")]
    for path in beside:
        if path.suffix.lower() in TABLE_SUFFIXES and _ABOVE.match(path.name):
            _add(tables, path, names, spec.path.resolve().name, alone=len(folders) == 1)
    return tables


def has_captions(table: Path, images: Sequence[Path]) -> bool:
    """Whether a file is a table with captions of any of the images, which lie beside it."""
    tables = CaptionTables()
    _add(tables, table, names_of(images))
    return bool(tables.files)


def _add(
    tables: CaptionTables,
    path: Path,
    names: Mapping[str, Path],
    folder: str | None = None,
    *,
    alone: bool = True,
) -> None:
    """Take in what a file says of the images; the first table that names one keeps it."""
    table = _read_table(path, names)
    rows = [(find_image(key, names, folder, alone=alone), text) for key, text in table.rows]
    texts: dict[Path, list[str]] = {}
    for image, text in rows:
        if image is not None and text:
            texts.setdefault(image, []).append(text)
    for image, captions in texts.items():
        tables.captions.setdefault(image, (captions[0], path))
    if texts:
        tables.files[path] = len(texts)
    tables.warnings += [Problem(str(path), *oddity) for oddity in _oddities(table, texts, rows)]


def _oddities(
    table: _Table, texts: Mapping[Path, Sequence[str]], rows: Sequence[tuple[Path | None, str]]
) -> Iterator[tuple[str, str]]:
    images = {image for image, _ in rows if image is not None}
    if table.damaged and images:
        numbers = ", ".join(map(str, table.damaged[:_SHOWN]))
        numbers += ", …" if len(table.damaged) > _SHOWN else ""
        what = f"{quantity(len(table.damaged), 'line', 'is')} no JSON and left out ({numbers})"
        yield what, "mend them"
    if images and not texts and table.columns:
        columns = ", ".join(table.columns[:_COLUMNS])
        what = f"names {quantity(len(images), 'picture')}, but no column is known as a caption's"
        yield f"{what} ({columns})", 'call the column of captions "text"'
    several = [image.name for image, captions in texts.items() if len(set(captions)) > 1]
    if several:
        names = shortlist(several, _SHOWN)
        what = f"has several captions of {quantity(len(several), 'picture')} ({names})"
        yield f"{what}; the first is used", "leave one of each"


def find_image(
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


def names_of(images: Sequence[Path]) -> dict[str, Path]:
    """Images by their names, with and without ending, as :func:`find_image` looks them up."""
    stems = {unicodedata.normalize("NFC", path.stem): path for path in images}
    return stems | {unicodedata.normalize("NFC", path.name): path for path in images}


def _read_table(path: Path, names: Mapping[str, Path]) -> _Table:
    """What the file calls images, and their captions; nothing if it is no table."""
    table, suffix = _Table(), path.suffix.lower()
    try:
        if path.stat().st_size > MAX_BYTES:
            return table
        text, _ = decode(path.read_bytes())
        if suffix in (".csv", ".tsv", _LIST_SUFFIX):
            _read_csv(table, text, names, has_header=suffix != _LIST_SUFFIX)
        elif suffix == ".json":
            _read_json(table, parse_json(text), path)
        else:
            _read_rows(table, _json_lines(table, text))
    except (OSError, ValueError, RecursionError, csv.Error):
        return _Table()
    return table


def _json_lines(table: _Table, text: str) -> Iterator[Any]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield parse_json(line)
            except ValueError:
                table.damaged.append(number)


def csv_captions(
    text: str, names: Mapping[str, Path], *, has_header: bool = True
) -> list[tuple[str, str]]:
    """What a CSV of any delimiter calls images, and their captions.

    Args:
        names: of the images that it may be about; see :func:`names_of`.
        has_header: its first line may name the columns; a plain list of images has none.

    Raises:
        csv.Error: it is no CSV.
    """
    table = _Table()
    _read_csv(table, text, names, has_header=has_header)
    return table.rows


def _read_csv(table: _Table, text: str, names: Mapping[str, Path], *, has_header: bool) -> None:
    rows: list[list[str]] = []
    header: list[str] = []
    for delimiter in "\t;|,":
        lines = io.StringIO(text, newline="")
        rows = [row for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True) if row]
        header = [cell.strip().lower() for cell in rows[0]] if rows else []
        if len(header) > 1 and (_first_key(header, IMAGE_KEYS) or find_image(rows[0][0], names)):
            break
    if not has_header or not _first_key(header, IMAGE_KEYS):
        # No header: the image's name, and all that follows.
        for name, *cells in rows:
            # In a text file "red, hat" may be a caption, and red.png another image.
            if find_image(name, names) is not None and (has_header or "." in name):
                table.rows.append((name, _joined(cells)))
        return
    # Captions with commas, and no quotes around them: what is too much belongs to the last.
    last = len(header) - 1
    joined_rows = [
        row if len(row) <= len(header) else [*row[:last], _joined(row[last:])] for row in rows
    ]
    _read_rows(table, [dict(zip(header, row, strict=False)) for row in joined_rows[1:]])


def _joined(cells: Sequence[str]) -> str:
    return ", ".join(cell.strip() for cell in cells if cell.strip())


def _read_rows(table: _Table, rows: Iterable[Any]) -> None:
    for row in rows:
        if isinstance(row, dict):
            row = {str(key).lower(): cell for key, cell in row.items()}
            key = _first_key(row, IMAGE_KEYS)
            if key and isinstance(row[key], str):
                table.rows.append((row[key], _text(row)))
                table.columns += [name for name in row if name not in table.columns]


def _read_json(table: _Table, value: Any, path: Path) -> None:
    if isinstance(value, list):
        _read_rows(table, value)
    elif isinstance(value, dict):
        lowered = {str(key).lower(): cell for key, cell in value.items()}
        if _text(lowered):
            # Of one image, as download programs write it.
            table.rows.append((path.stem, _text(lowered)))
            return
        for key, cell in value.items():
            if isinstance(cell, list) and any(isinstance(row, dict) for row in cell):
                _read_rows(table, cell)  # {"data": [rows]}
            else:
                table.rows.append((key, _text(cell) if isinstance(cell, dict) else _plain(cell)))


def _text(row: Mapping[str, Any]) -> str:
    """A row's caption, with its tags behind it as sd-scripts does."""
    row = {**row, **_spaced_tags(row)}
    key = _first_key(row, _TEXT_KEYS)
    parts = [_plain(row[key])] if key else []
    parts += [_plain(row[tags]) for tags in _TAG_KEYS if tags != key and tags in row][:1]
    return ", ".join(part for part in parts if part)


def _spaced_tags(row: Mapping[str, Any]) -> dict[str, str]:
    """Danbooru's ``tag_string``: tags between spaces."""
    tags = row.get("tag_string")
    spaced = isinstance(tags, str) and "," not in tags
    return {"tag_string": ", ".join(tags.split())} if spaced else {}  # type: ignore[union-attr]


def _plain(cell: Any) -> str:
    if isinstance(cell, str):
        lines = [line.strip() for line in cell.splitlines()]
        return "\n".join(line for line in lines if line)
    if isinstance(cell, list) and all(isinstance(tag, str) for tag in cell):
        return ", ".join(tag.strip() for tag in cell if tag.strip())
    if isinstance(cell, dict):  # {"general": [tags], "artist": [tags]}
        return ", ".join(text for part in cell.values() if (text := _plain(part)))
    return ""


def _first_key(row: Iterable[str], keys: Sequence[str]) -> str:
    there = set(row)
    return next((key for key in keys if key in there), "")
