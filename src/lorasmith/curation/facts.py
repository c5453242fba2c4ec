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

import numpy as np
from PIL import Image, ImageChops

from lorasmith.core.disk import discard
from lorasmith.core.errors import DatasetError
from lorasmith.core.events import Controls, Observer, Progress, ignore
from lorasmith.core.file_names import relative_path
from lorasmith.curation.changes.trash import STORE
from lorasmith.curation.images.convert import file_oddities
from lorasmith.curation.pixels import Pixels, jpeg_quality, measure_pixels
from lorasmith.data.cache.file_memo import hash_file
from lorasmith.data.images import Header, glance, read_header

NAME = "facts.sqlite"
_VERSION = 6  # of what is measured; another begins anew

# Half a percent of the pixels, those with the strongest edges, says how sharp an image is: a flat
# drawing has few edges, and they are sharp.
_SHARPEST = 0.005
_SHARP = 90.0
_DETAIL = 256  # px; blur is measured at this size, to which JPEGs are decoded at little cost

_GREYS = (24, 24)

_HASH_PIXELS = 32
# The first eight rows of the discrete cosine transform (type II) of 32 numbers.
_LOW_FREQUENCIES = 2.0 * np.cos(
    np.pi * np.arange(8)[:, None] * (2 * np.arange(_HASH_PIXELS) + 1) / (2 * _HASH_PIXELS)
)

_CHUNK_BYTES = 2_000_000


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


def measure_image(path: Path, content_hash: str = "", *, closely: bool = False) -> ImageFacts:
    """Decode an image and measure it; one that cannot be decoded has a ``problem``.

    Args:
        content_hash: where it is known.
        closely: with :attr:`ImageFacts.pixels`, which takes a fifth of decoding.
    """
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
    thumbnail, header = image.thumbnail, image.header
    grey = thumbnail.convert("L")
    values = np.array(grey.histogram(), np.float64)
    share, levels = values / values.sum(), np.arange(256) / 255
    mean = float(share @ levels)
    return ImageFacts(
        "",
        header.width,
        header.height,
        size,
        header.format,
        header.frames,
        content_hash,
        image.transparent,
        perceptual_hash(grey),
        thumbnail.resize((4, 4), Image.Resampling.BOX).tobytes(),
        grey.resize(_GREYS, Image.Resampling.BILINEAR, (0, 0, *image.extent)).tobytes(),
        _blur(image.bands) if image.bands is not None else 0.0,
        mean,
        float(np.sqrt(share @ (levels - mean) ** 2)),
        _saturation(thumbnail),
        "",
        ", ".join(odd),
        jpeg_quality(image.quantisation),
        header.has_alpha,
        header.warning,
        measure_pixels(path, thumbnail) if closely else None,
    )


def _unusable(problem: str, hint: str, file_bytes: int, content_hash: str) -> ImageFacts:
    return ImageFacts(
        problem, 0, 0, file_bytes, "", 1, content_hash, False, 0, b"", b"", 0, 0, 0, 0, hint=hint
    )


def perceptual_hash(grey: Image.Image) -> int:
    """64 bits, equal to imagehash's ``phash``: which of an image's 64 lowest frequencies are above
    their median. Of near duplicates 0 to 6 bits differ, of different images about 32.

    Args:
        grey: mode "L".
    """
    small = grey.resize((_HASH_PIXELS, _HASH_PIXELS), Image.Resampling.LANCZOS)
    pixels = np.asarray(small, np.float64)
    frequencies = _LOW_FREQUENCIES @ pixels @ _LOW_FREQUENCIES.T
    ordered = np.sort(frequencies, axis=None)  # np.median takes six times as long
    bits = frequencies > (ordered[31] + ordered[32]) / 2
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


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


def _saturation(image: Image.Image) -> float:
    """Mean of HSV's saturation of an RGB image, 0 to 1."""
    red, green, blue = image.split()
    brightest = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    darkest = ImageChops.darker(ImageChops.darker(red, green), blue)
    high, low = np.asarray(brightest, np.float32), np.asarray(darkest, np.float32)
    return float(((high - low) / np.maximum(high, 1)).mean())


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
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            headers = pool.map(_header_size, [path for path, *_ in unknown])
            new = {}
            for (path, name, stamp), size in zip(unknown, headers, strict=True):
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
        return {path: self._measure(path, closely) for path in paths}

    def _measure(self, path: Path, closely: bool) -> tuple[tuple[int, int] | None, ImageFacts]:
        stamp = _stamp(path)
        try:
            content = hash_file(path)
        except OSError:
            return stamp, measure_image(path, closely=closely)
        known = self._facts.get(content)
        if known is not None and not _is_missing(known, closely):
            return stamp, known
        return stamp, measure_image(path, content, closely=closely)

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
        whole, root = os.path.abspath(path), self._prefix
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
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


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
    values = dict(zip(_COLUMNS, row, strict=True))
    values["phash"] = int(str(values["phash"]), 16)
    values |= {name: bool(values[name]) for name in ("transparent", "has_alpha")}
    pixels = {name: values.pop(name) for name in _PIXELS}
    if pixels["subject"] is not None:
        values["pixels"] = Pixels(**pixels)  # type: ignore[arg-type]
    return ImageFacts(**values)  # type: ignore[arg-type]
