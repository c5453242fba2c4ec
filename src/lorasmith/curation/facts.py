"""What is measured of images, once: remembered by content, wherever the file is moved to."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lorasmith.core.disk import discard
from lorasmith.core.errors import DatasetError
from lorasmith.core.events import Controls, Observer, Progress, ignore
from lorasmith.core.file_names import relative_path, whole_path
from lorasmith.curation.changes.trash import STORE
from lorasmith.curation.images.convert import file_oddities
from lorasmith.curation.pixels import Pixels, joined_bytes, jpeg_quality, measure_pixels
from lorasmith.data.cache.file_memo import hash_file
from lorasmith.data.images import Glance, Header, glance, read_header

NAME = "facts.sqlite"
_VERSION = 6  # of what is measured; another begins anew

# Half a percent of the pixels, those with the strongest edges, says how sharp an image is: a flat
# drawing has few edges, and they are sharp.
_SHARPEST = 0.005
_SHARP = 90.0
_DETAIL = 256  # px; blur is measured at this size, to which JPEGs are decoded at little cost

_GREYS = (24, 24)
_LEVELS = np.arange(256) / 255

_HASH_PIXELS = 32
# The first eight rows of the discrete cosine transform (type II) of 32 numbers.
_LOW_FREQUENCIES = 2.0 * np.cos(
    np.pi * np.arange(8)[:, None] * (2 * np.arange(_HASH_PIXELS) + 1) / (2 * _HASH_PIXELS)
)

_CHUNK_BYTES = 2_000_000
# Read by a thread in a row: to wake it for each would take as long as to read it.
_HEADERS = 32


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What decoding an image once gave.

    Args:
        problem: why it cannot be used, or "".
        hint: what to do then.
        width: px, upright.
        height: px, upright.
        file_bytes: size of the file.
        format: Pillow's name ("PNG").
        frames: more than 1 of an animation.
        content_hash: 32 hex digits, from the file's bytes.
        transparent: some pixel lets the background through.
        phash: 64-bit perceptual hash.
        colours: 48 numbers 0..255, a 4x4 RGB thumbnail.
        greys: 576 numbers 0..255, a 24x24 thumbnail without colour.
        blur: 0 sharp to 1 blurred, from the strongest edges.
        brightness: mean, 0 to 1.
        contrast: standard deviation of brightness, 0 to 1.
        saturation: mean of HSV's, 0 to 1.
        oddities: what trainers do not expect of a file, in words with commas ("CMYK").
        jpeg_quality: 1 to 100, from the quantisation tables; 0 of other formats.
        has_alpha: there is an alpha channel or a transparent colour, perhaps used nowhere.
        warning: something odd that does not keep it from being used, or "".
        pixels: what only a closer look shows; ``None`` where nobody has asked for that yet.
    """

    problem: str
    width: int
    height: int
    file_bytes: int
    format: str
    frames: int
    content_hash: str
    transparent: bool
    phash: int
    colours: bytes
    greys: bytes
    blur: float
    brightness: float
    contrast: float
    saturation: float
    hint: str = ""
    oddities: str = ""
    jpeg_quality: int = 0
    has_alpha: bool = False
    warning: str = ""
    pixels: Pixels | None = None

    @property
    def header(self) -> Header:
        """As the file's header says, of one that can be used."""
        return Header(
            self.width, self.height, self.has_alpha, self.frames, self.warning, self.format
        )


_PIXELS = [field.name for field in fields(Pixels)]
_COLUMNS = [field.name for field in fields(ImageFacts) if field.name != "pixels"] + _PIXELS
_PHASH, _SUBJECT = _COLUMNS.index("phash"), _PIXELS.index("subject")
_SWITCHES = [_COLUMNS.index(name) for name in ("transparent", "has_alpha")]  # SQLite has none


@dataclass(frozen=True, slots=True)
class _Decoded:
    """What was seen of a file, and is still to be measured."""

    path: Path
    file_bytes: int
    content_hash: str
    glance: Glance
    oddities: str


def measure_image(path: Path, *, closely: bool = False) -> ImageFacts:
    """As :func:`measure_images`, of one."""
    return measure_images([path], closely=closely)[0]


def measure_images(
    paths: Sequence[Path], content_hashes: Sequence[str] = (), *, closely: bool = False
) -> list[ImageFacts]:
    """Decode images and measure them; one that cannot be decoded has a ``problem``.

    Args:
        content_hashes: where they are known, "" of one that is not.
        closely: with :attr:`ImageFacts.pixels`.
    """
    hashes = content_hashes or [""] * len(paths)
    looks = [_decoded(path, content) for path, content in zip(paths, hashes, strict=True)]
    measured = iter(_measured([one for one in looks if isinstance(one, _Decoded)], closely))
    return [next(measured) if isinstance(one, _Decoded) else one for one in looks]


def _decoded(path: Path, content_hash: str) -> _Decoded | ImageFacts:
    size = 0
    try:
        size = path.stat().st_size
        content_hash = content_hash or hash_file(path)
        image = glance(path, detail=_DETAIL)
        odd = file_oddities(path, image.header.format, image.mode, image.orientation, image.icc)
    except OSError as error:
        return _unusable(f"it cannot be read: {error.strerror}", "", size, content_hash)
    except DatasetError as error:
        problem = error.problems[0]
        return _unusable(problem.what, problem.hint, size, content_hash)
    return _Decoded(path, size, content_hash, image, ", ".join(odd))


def _measured(looks: Sequence[_Decoded], closely: bool) -> list[ImageFacts]:
    """Of several at once: thumbnails are so small that each call takes longer to begin than to
    work, and threads would wait for one another at every one of them."""
    thumbnails = [look.glance.thumbnail for look in looks]
    greys = [thumbnail.convert("L") for thumbnail in thumbnails]
    pixels: Sequence[Pixels | None] = [None] * len(looks)
    if closely:
        pixels = measure_pixels([look.path for look in looks], thumbnails)
    hashes, saturations = perceptual_hashes(greys), _saturations(thumbnails)
    facts = []
    for number, (look, grey) in enumerate(zip(looks, greys, strict=True)):
        image, header = look.glance, look.glance.header
        brightness, contrast = _light(grey)
        extent = (0, 0, *image.extent)
        facts.append(
            ImageFacts(
                "",
                header.width,
                header.height,
                look.file_bytes,
                header.format,
                header.frames,
                look.content_hash,
                image.transparent,
                hashes[number],
                image.thumbnail.resize((4, 4), Image.Resampling.BOX).tobytes(),
                grey.resize(_GREYS, Image.Resampling.BILINEAR, extent).tobytes(),
                _blur(image.bands) if image.bands is not None else 0.0,
                brightness,
                contrast,
                saturations[number],
                "",
                look.oddities,
                jpeg_quality(image.quantisation),
                header.has_alpha,
                header.warning,
                pixels[number],
            )
        )
    return facts


def _unusable(problem: str, hint: str, file_bytes: int, content_hash: str) -> ImageFacts:
    return ImageFacts(
        problem, 0, 0, file_bytes, "", 1, content_hash, False, 0, b"", b"", 0, 0, 0, 0, hint=hint
    )


def perceptual_hashes(greys: Sequence[Image.Image]) -> list[int]:
    """Of each 64 bits, equal to imagehash's ``phash``: which of an image's 64 lowest frequencies
    are above their median. Of near duplicates 0 to 6 bits differ, of different images about 32.

    Args:
        greys: mode "L".
    """
    side = (_HASH_PIXELS, _HASH_PIXELS)
    small = joined_bytes([grey.resize(side, Image.Resampling.LANCZOS) for grey in greys])
    pixels = small.reshape(-1, *side).astype(np.float64)
    frequencies = (_LOW_FREQUENCIES @ pixels @ _LOW_FREQUENCIES.T).reshape(-1, 64)
    ordered = np.sort(frequencies)  # np.median takes six times as long
    bits = frequencies > (ordered[:, 31:32] + ordered[:, 32:33]) / 2
    return [int.from_bytes(row.tobytes(), "big") for row in np.packbits(bits, axis=1)]


def _light(grey: Image.Image) -> tuple[float, float]:
    """Mean and standard deviation of brightness, 0 to 1."""
    values = np.array(grey.histogram(), np.float64)
    share = values / values.sum()
    mean = float(share @ _LEVELS)
    return mean, float(np.sqrt(share @ (_LEVELS - mean) ** 2))


def _blur(bands: Image.Image) -> float:
    """exp(-edge / 90), where half a percent of the pixels differs more from the four around it.

    Args:
        bands: four groups of rows, one below the other.
    """
    pixels = np.asarray(bands, np.int16).reshape(4, bands.height // 4, bands.width)
    if min(pixels.shape[1:]) < 3:
        return 0.0
    edges = pixels[:, :-2, 1:-1] + pixels[:, 2:, 1:-1]
    edges += pixels[:, 1:-1, :-2]
    edges += pixels[:, 1:-1, 2:]
    edges -= 4 * pixels[:, 1:-1, 1:-1]
    strengths = np.abs(edges, out=edges).ravel()
    weaker = strengths.size - 1 - int(_SHARPEST * strengths.size)
    return float(np.exp(-int(np.partition(strengths, weaker)[weaker]) / _SHARP))


def _saturations(images: Sequence[Image.Image]) -> list[float]:
    """Means of HSV's saturation of RGB images, 0 to 1."""
    if not images:
        return []
    red, green, blue = joined_bytes(images).reshape(-1, 3).T
    high = np.maximum(np.maximum(red, green), blue).astype(np.float32)
    low = np.minimum(np.minimum(red, green), blue).astype(np.float32)
    values = (high - low) / np.maximum(high, 1)
    ends = np.cumsum([image.width * image.height for image in images])
    return [float(part.mean()) for part in np.split(values, ends[:-1])]


class FactsStore:
    """The facts of one dataset's images, in ``.lorasmith/facts.sqlite``; where that cannot be
    written, they are kept as long as the object."""

    def __init__(self, root: Path) -> None:
        self._root = Path(root).absolute()
        self._prefix = os.path.join(os.path.abspath(root), "")
        self._facts: dict[str, ImageFacts] = {}
        self._files: dict[str, tuple[int, int, str]] = {}
        self._sizes: dict[str, tuple[int, int, int, int]] = {}
        database = self._connect(make=False)
        if database is None:
            return
        with contextlib.suppress(sqlite3.Error), contextlib.closing(database):
            self._files = {row[0]: row[1:] for row in database.execute("SELECT * FROM files")}
            self._sizes = {row[0]: row[1:] for row in database.execute("SELECT * FROM sizes")}
            for row in database.execute(f"SELECT {', '.join(_COLUMNS)} FROM facts"):
                facts = _from_row(row)
                self._facts[facts.content_hash] = facts

    def sizes(self, paths: Iterable[Path]) -> dict[Path, tuple[int, int]]:
        """Upright width and height of images, from their headers; without those that have none."""
        sizes: dict[Path, tuple[int, int]] = {}
        unknown: list[tuple[Path, str, tuple[int, int]]] = []
        for path in paths:
            name, stamp = self._name(path), _stamp(path)
            row, file = self._sizes.get(name), self._files.get(name)
            facts = self._facts.get(file[2]) if file is not None and stamp == file[:2] else None
            if facts is not None and not facts.problem:
                sizes[path] = (facts.width, facts.height)
            elif row is not None and stamp == row[:2]:
                sizes[path] = row[2:]
            elif stamp is not None:
                unknown.append((path, name, stamp))
        parts = [unknown[at : at + _HEADERS] for at in range(0, len(unknown), _HEADERS)]
        new = {}
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            read = pool.map(_header_sizes, [[path for path, *_ in part] for part in parts])
            for part, headers in zip(parts, read, strict=True):
                for (path, name, stamp), size in zip(part, headers, strict=True):
                    if size is not None:
                        sizes[path] = size
                        new[name] = (*stamp, *size)
        self._sizes |= new
        self._save("INSERT OR REPLACE INTO sizes VALUES (?, ?, ?, ?, ?)", new)
        return sizes

    def known(self, path: Path) -> ImageFacts | None:
        """What is remembered of a file as it is now."""
        row = self._files.get(self._name(path))
        if row is None or row[:2] != _stamp(path):
            return None
        return self._facts.get(row[2])

    def measure(
        self,
        paths: Sequence[Path],
        observer: Observer = ignore,
        controls: Controls | None = None,
        *,
        closely: bool = False,
    ) -> dict[Path, ImageFacts]:
        """Of every image; those that are not remembered are decoded, on all cores.

        Args:
            closely: with :attr:`ImageFacts.pixels`.

        Raises:
            Stopped: by ``controls``; what was measured is remembered.
        """
        facts = {path: self.known(path) for path in paths}
        unknown = [path for path, one in facts.items() if _is_missing(one, closely)]
        new: dict[Path, tuple[tuple[int, int] | None, ImageFacts]] = {}
        measure_all = partial(self._measure_all, closely=closely)
        pool = ThreadPoolExecutor(os.cpu_count() or 1)
        try:
            for results in pool.map(measure_all, _chunks(unknown)):
                new |= results
                observer(Progress("looking at pictures", len(new), len(unknown)))
                if controls is not None:
                    controls.check("stopped while looking at the pictures")
        finally:
            pool.shutdown(cancel_futures=True)
            self._remember(new)
        facts |= {path: one for path, (_, one) in new.items()}
        return {path: one for path, one in facts.items() if one is not None}

    def _measure_all(
        self, paths: Sequence[Path], *, closely: bool
    ) -> dict[Path, tuple[tuple[int, int] | None, ImageFacts]]:
        results: dict[Path, tuple[tuple[int, int] | None, ImageFacts]] = {}
        unknown: dict[Path, tuple[tuple[int, int] | None, str]] = {}
        for path in paths:
            stamp, content = _stamp(path), ""
            with contextlib.suppress(OSError):  # Whoever decodes it says so.
                content = hash_file(path)
            known = self._facts.get(content)
            if known is None or _is_missing(known, closely):
                unknown[path] = (stamp, content)
            else:
                results[path] = (stamp, known)
        hashes = [content for _, content in unknown.values()]
        new = measure_images(list(unknown), hashes, closely=closely)
        for (path, (stamp, _)), one in zip(unknown.items(), new, strict=True):
            results[path] = (stamp, one)
        return results

    def _remember(self, new: Mapping[Path, tuple[tuple[int, int] | None, ImageFacts]]) -> None:
        files, facts = {}, {}
        for path, (stamp, one) in new.items():
            if stamp is not None and one.content_hash:
                files[self._name(path)] = (*stamp, one.content_hash)
                facts[one.content_hash] = one
        self._files |= files
        self._facts |= facts
        self._save("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", files)
        places = ", ".join("?" * len(_COLUMNS))
        rows = {key: _to_row(one) for key, one in facts.items()}
        self._save(f"INSERT OR REPLACE INTO facts VALUES ({places})", rows, keyed=False)

    def _save(
        self, statement: str, rows: Mapping[str, tuple[object, ...]], *, keyed: bool = True
    ) -> None:
        """Write rows; where that is not possible, they are measured again next time."""
        if not rows:
            return
        values = ((name, *row) if keyed else row for name, row in rows.items())
        database = self._connect(make=True)
        if database is not None:
            with contextlib.suppress(sqlite3.Error), contextlib.closing(database):
                database.executemany(statement, values)
                database.commit()

    def _connect(self, *, make: bool) -> sqlite3.Connection | None:
        """The database; ``None`` where there is none and none can be. A damaged one goes."""
        path = self._root / STORE / NAME
        with contextlib.suppress(OSError):
            if make:
                path.parent.mkdir(exist_ok=True)
        if not (path.parent.is_dir() if make else path.exists()):
            return None
        try:
            return _prepared(sqlite3.connect(path))
        except sqlite3.OperationalError:  # read-only, full, or at work elsewhere
            return None
        except sqlite3.DatabaseError:
            discard(path)
            return None

    def _name(self, path: Path) -> str:
        whole, root = whole_path(path), self._prefix
        return whole[len(root) :] if whole.startswith(root) else relative_path(whole, root)


def _is_missing(facts: ImageFacts | None, closely: bool) -> bool:
    return facts is None or (closely and facts.pixels is None and not facts.problem)


def _prepared(database: sqlite3.Connection) -> sqlite3.Connection:
    """With the tables of this version.

    Raises:
        sqlite3.Error: it cannot be read or written; it is closed.
    """
    try:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version != _VERSION:
            database.executescript(
                "DROP TABLE IF EXISTS files; DROP TABLE IF EXISTS sizes; "
                "DROP TABLE IF EXISTS facts; "
                "CREATE TABLE files (path TEXT PRIMARY KEY, size INT, changed INT, hash TEXT); "
                "CREATE TABLE sizes "
                "(path TEXT PRIMARY KEY, size INT, changed INT, width INT, height INT); "
                f"CREATE TABLE facts ({', '.join(_COLUMNS)}, PRIMARY KEY (content_hash)); "
                f"PRAGMA user_version = {_VERSION};"
            )
    except sqlite3.Error:
        database.close()
        raise
    return database


def _chunks(paths: Iterable[Path]) -> Iterator[list[Path]]:
    """Images that are about 10 ms of work together, or one: waking a thread for each image costs
    the others a tenth of their time, and nobody wants to wait for many large ones."""
    chunk: list[Path] = []
    size = 0
    for path in paths:
        stamp = _stamp(path)
        chunk.append(path)
        size += stamp[0] if stamp is not None else 0
        if size >= _CHUNK_BYTES or len(chunk) == 16:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _header_sizes(paths: Sequence[Path]) -> list[tuple[int, int] | None]:
    return [_header_size(path) for path in paths]


def _header_size(path: Path) -> tuple[int, int] | None:
    try:
        header = read_header(path)
    except DatasetError:
        return None
    return header.width, header.height


def _to_row(facts: ImageFacts) -> tuple[object, ...]:
    row = {name: getattr(facts, name, None) for name in _COLUMNS}
    row["phash"] = f"{facts.phash:016x}"  # SQLite's integers have a sign
    if facts.pixels is not None:
        row |= {name: getattr(facts.pixels, name) for name in _PIXELS}
    return tuple(row.values())


def _from_row(row: Sequence[object]) -> ImageFacts:
    values: list[Any] = list(row[: -len(_PIXELS)])
    values[_PHASH] = int(values[_PHASH], 16)
    for place in _SWITCHES:
        values[place] = bool(values[place])
    pixels: Sequence[Any] = row[-len(_PIXELS) :]
    values.append(Pixels(*pixels) if pixels[_SUBJECT] is not None else None)
    return ImageFacts(*values)
