"""Files that speak of many images: ``metadata.jsonl``, kohya's ``meta_cap.json``, a site's answer
saved as JSON, CSV, plain lists.

A row names its image by a file's name, or, where it is a post of a site, by what downloaders put
into names: the MD5 of the file, or the post's number.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from lorasmith.core.errors import DatasetError, Problem
from lorasmith.core.files import parse_json
from lorasmith.core.text import quantity
from lorasmith.curation.sidecars.booru_json import parse_json_text, posts_in, read_post
from lorasmith.curation.sidecars.tags import SideCar, merge, tags_of
from lorasmith.curation.sidecars.text_files import parse_caption_file, text_of
from lorasmith.data.caption_files import IMAGE_KEYS, csv_captions, find_image, names_of

_LINES = (".jsonl", ".ndjson")
_CSV = (".csv", ".tsv")
_NAME_PARTS = re.compile(r"[^0-9a-zA-Z]+")
_MD5 = re.compile(r"[0-9a-f]{32}")
# Rows of a file are looked at up to this many.
_MOST_ROWS = 1_000_000


@dataclass
class TableRows:
    """What one file says of images.

    Args:
        cars: by image.
        missing: how rows call images that are not there.
        problems: what could not be read in it.
    """

    cars: dict[Path, SideCar] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


class ImageNames:
    """The images that tables may speak of, by all that they may be called."""

    def __init__(self, images: Sequence[Path]) -> None:
        self.by_name = names_of(images)
        self._by_part: dict[str, Path | None] = {}
        for path in images:
            for part in set(_NAME_PARTS.split(path.stem.lower())):
                # A part that several have says nothing.
                first = self._by_part.get(part, path)
                self._by_part[part] = path if first == path else None

    def find(self, name: str) -> Path | None:
        return find_image(name, self.by_name)

    def find_post(self, post: Mapping[str, Any]) -> Path | None:
        """By the names of its files, then by its MD5 and number in the names of images."""
        for name in _names(post):
            path = self.find(name)
            if path is not None:
                return path
        inner = post.get("file")
        md5 = post.get("md5") or (inner.get("md5") if isinstance(inner, dict) else None)
        parts = [str(part).lower() for part in (md5, post.get("id"))]
        parts[:1] = [part for part in parts[:1] if _MD5.fullmatch(part)]
        paths = (self._by_part.get(part) for part in parts if part)
        return next((path for path in paths if path is not None), None)


def read_table(path: Path, data: bytes, names: ImageNames) -> TableRows:
    """What a file says of images. One that is no table, or speaks of others, says nothing.

    Args:
        path: its name, of which the ending counts.
        data: its content.

    Raises:
        DatasetError: it is not what its ending says.
    """
    suffix = path.suffix.lower()
    rows = TableRows()
    if suffix in _LINES:
        _add_rows(rows, _json_lines(text_of(data, path), path, rows), names)
    elif suffix == ".json":
        _add_rows(rows, _json_rows(parse_json_text(data, path)), names)
    else:
        _add_csv(rows, path, text_of(data, path), names, has_header=suffix in _CSV)
    return rows


def _add_csv(
    rows: TableRows, path: Path, text: str, names: ImageNames, *, has_header: bool
) -> None:
    try:
        captions = csv_captions(text, names.by_name, has_header=has_header)
    except csv.Error as error:
        raise DatasetError.of(path, f"is no CSV that can be read ({error})", "mend it") from error
    for name, caption in captions[:_MOST_ROWS]:
        image = names.find(name)
        if image is None:
            rows.missing.append(name)
        else:
            rows.cars.setdefault(image, parse_caption_file(caption))


def _add_rows(rows: TableRows, file_rows: Iterator[tuple[str, Any]], names: ImageNames) -> None:
    """
    Args:
        file_rows: what the row's key calls the image ("" where it has none), and the row.
    """
    for _, (key, row) in zip(range(_MOST_ROWS), file_rows, strict=False):
        post = row if isinstance(row, dict) else {}
        image = names.find(key) if key else names.find_post(post)
        car = _read_row(row)
        if image is not None and car:
            rows.cars[image] = merge([rows.cars[image], car]) if image in rows.cars else car
        elif image is None and (name := key or next(_names(post), str(post.get("md5", "")))):
            rows.missing.append(name)


def _read_row(row: Any) -> SideCar:
    if isinstance(row, dict):
        return read_post(row)
    if isinstance(row, str):
        return parse_caption_file(row)
    return SideCar(tuple(tags_of(row))) if isinstance(row, list) else SideCar()


def _names(post: Mapping[str, Any]) -> Iterator[str]:
    """What a row calls its image's file, most certain first."""
    lowered = {str(key).lower(): value for key, value in post.items()}
    extension = lowered.get("extension") or lowered.get("file_ext")
    name = lowered.get("filename")
    if isinstance(name, str) and isinstance(extension, str):
        yield f"{name}.{extension}"
    address = lowered.get("file_url") or lowered.get("view_url")
    inner = lowered.get("file")
    if isinstance(inner, dict):  # e621's
        address = inner.get("url")
    if isinstance(address, str):
        yield PurePosixPath(address.partition("?")[0]).name
    for key in IMAGE_KEYS:
        value = lowered.get(key)
        if isinstance(value, str) and value.strip():
            yield value


def _json_lines(text: str, path: Path, rows: TableRows) -> Iterator[tuple[str, Any]]:
    lines_left_out = 0
    for line in text.split("\n"):
        if line.strip():
            try:
                yield "", parse_json(line)
            except ValueError:
                lines_left_out += 1
    if lines_left_out:
        what = f"{quantity(lines_left_out, 'line', 'is')} no JSON and left out"
        rows.problems.append(Problem(str(path), what, "mend them"))


def _json_rows(value: Any) -> Iterator[tuple[str, Any]]:
    posts = posts_in(value)
    if posts and (isinstance(value, list) or posts[0] is not value):
        yield from (("", post) for post in posts)
    elif isinstance(value, dict):
        # kohya's: by image. One post lies beside its image, or names it.
        yield from value.items() if not read_post(value) else [("", value)]
