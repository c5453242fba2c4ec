"""The pictures of a dataset's folders, with captions and sizes; what is left out, and why.

Sizes come from the files' headers, nothing is decoded. The order is natural (``2.png`` before
``10.png``) and the same on every system.
"""

from __future__ import annotations

import stat
import unicodedata
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from lorasmith.data.caption_files import CaptionText, read_caption
from lorasmith.data.crops import without_face
from lorasmith.data.layout import (
    FolderSpec,
    Ignored,
    entries_of,
    folder_caption,
    is_cache,
)
from lorasmith.data.pictures import SUFFIXES, Header, read_header, readable_suffixes
from lorasmith.errors import DatasetError, Problem

CAPTION_SUFFIXES = (".txt", ".caption")  # in order of preference

# Below this a picture has nothing to learn from, however it is enlarged.
MIN_SIDE = 16

_CONVERTIBLE = frozenset({".gif", ".tif", ".tiff", ".heic", ".heif", ".psd", ".jp2", ".jfif"})
_HEADER_THREADS = 8  # waits for disks and network shares more than it computes


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture file that can be used.

    Args:
        path: the file.
        folder: index into :attr:`Scan.folders`.
        width: px, upright (after EXIF).
        height: px, upright.
        caption: what training uses: the file's text, else the folder's; ``None`` = nothing.
        caption_path: the caption file; ``None`` when the folder's name (or nothing) is used.
        has_alpha: the file has transparency.
    """

    path: Path
    folder: int
    width: int
    height: int
    caption: str | None
    caption_path: Path | None
    has_alpha: bool


@dataclass(frozen=True, slots=True)
class Scan:
    """All that was found. ``problems`` forbid training, ``warnings`` do not."""

    folders: tuple[FolderSpec, ...]
    pictures: tuple[Picture, ...]
    ignored: tuple[Ignored, ...] = ()
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()

    def require_usable(self) -> None:
        """Raises :class:`DatasetError` with every problem, if there is one."""
        if self.problems:
            raise DatasetError(self.problems)


@dataclass
class _Findings:
    ignored: list[Ignored] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)


def scan(folders: Sequence[FolderSpec], *, extension: str = "auto") -> Scan:
    """Every picture of the folders, from headers and caption files.

    Args:
        folders: from :func:`find_folders` or the settings.
        extension: of caption files, with or without its dot; "auto" takes ``.txt``, else
            ``.caption``. A folder's own goes before it.
    """
    findings = _Findings()
    pictures: list[Picture] = []
    for index, spec in enumerate(folders):
        findings.warnings += spec.warnings
        findings.ignored += spec.passed_over
        if not spec.path.is_dir():
            what = "is not a folder" if spec.path.exists() else "does not exist"
            findings.problems.append(Problem(str(spec.path), what, "correct the path"))
            continue
        suffixes = _caption_suffixes(spec.extension or extension)
        found = list(_scan_folder(index, spec, suffixes, findings))
        if not found:
            what = "there is no usable picture in this folder"
            findings.warnings.append(Problem(str(spec.path), what, "fill it or remove it"))
        pictures += found
    if not findings.problems and not any(not folders[p.folder].reg for p in pictures):
        where = ", ".join(str(spec.path) for spec in folders)
        what = f"the dataset is empty: no usable picture ({len(findings.ignored)} files ignored)"
        findings.problems.append(Problem(where, what, f"put {', '.join(sorted(SUFFIXES))} in"))
    return Scan(
        tuple(folders),
        tuple(pictures),
        tuple(findings.ignored),
        tuple(findings.problems),
        tuple(findings.warnings),
    )


def _caption_suffixes(extension: str) -> tuple[str, ...]:
    return CAPTION_SUFFIXES if extension == "auto" else ("." + extension.lower().lstrip("."),)


def _scan_folder(
    index: int, spec: FolderSpec, suffixes: Sequence[str], findings: _Findings
) -> Iterator[Picture]:
    try:
        entries = entries_of(spec.path)
    except DatasetError as error:
        findings.problems += error.problems
        return
    readable = readable_suffixes()
    candidates: list[Path] = []
    others: list[Path] = []
    for entry in entries:
        suffix = entry.suffix.lower()
        if is_cache(entry) or (spec.path / entry.name).is_dir():
            if not is_cache(entry) and not entry.name.startswith("."):
                findings.ignored.append(Ignored(entry, "a folder within a folder of pictures"))
        elif entry.name.startswith("."):
            findings.ignored.append(Ignored(entry, "a hidden file"))
        elif suffix not in SUFFIXES:
            others.append(entry)
        elif suffix not in readable:
            reason = f"this Pillow cannot read {suffix} files"
            findings.ignored.append(Ignored(entry, reason))
        elif _is_special(entry):
            findings.ignored.append(Ignored(entry, "not a regular file"))
        else:
            candidates.append(entry)
    captions = _captions_by_stem(others, suffixes)
    with ThreadPoolExecutor(_HEADER_THREADS) as pool:
        headers = list(pool.map(_header_or_problem, candidates))
    for path, header in zip(candidates, headers, strict=True):
        if isinstance(header, Problem):
            findings.problems.append(header)
        else:
            yield _picture(path, index, spec, header, _caption_of(path, captions), findings)
    _explain_others(spec, others, candidates, captions, suffixes, findings)


def _is_special(path: Path) -> bool:
    """A pipe, socket or device, which could block for ever; broken links are for the decoder."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def _header_or_problem(path: Path) -> Header | Problem:
    try:
        header = read_header(path)
    except DatasetError as error:
        return error.problems[0]
    if min(header.width, header.height) < MIN_SIDE:
        size = f"{header.width}x{header.height}"
        what = f"a picture of {size} px has nothing to learn from (the least is {MIN_SIDE} px)"
        return Problem(str(path), what, "remove it")
    return header


def _picture(
    path: Path,
    index: int,
    spec: FolderSpec,
    header: Header,
    caption_path: Path | None,
    findings: _Findings,
) -> Picture:
    if header.warning:
        findings.warnings.append(Problem(str(path), header.warning, "check that it is upright"))
    if header.frames > 1:
        what = f"it is an animation of {header.frames} frames; the first is used"
        findings.warnings.append(Problem(str(path), what))
    text = _caption_text(caption_path, findings) if caption_path is not None else ""
    if not text:
        caption_path = None
    caption = text or folder_caption(spec)
    return Picture(
        path, index, header.width, header.height, caption, caption_path, header.has_alpha
    )


def _caption_text(path: Path, findings: _Findings) -> str:
    """The file's text; an empty or unreadable file is no caption, and said."""
    try:
        read: CaptionText = read_caption(path)
    except OSError as error:
        what = f"the caption cannot be read: {error.strerror}"
        findings.problems.append(Problem(str(path), what, "mend or remove it"))
        return ""
    if read.warning:
        findings.warnings.append(Problem(str(path), read.warning, "save it as UTF-8"))
    elif not read.text:
        what = "the caption file is empty; it counts as no caption"
        findings.warnings.append(Problem(str(path), what, "write a caption or remove it"))
    return read.text


def _stem(path: Path) -> str:
    # macOS hands out decomposed names, other systems what was written: compare composed.
    return unicodedata.normalize("NFC", path.stem)


def _caption_of(picture: Path, captions: dict[str, Path]) -> Path | None:
    """The file of the picture's name, or of that without the face in it, as in sd-scripts."""
    stem = _stem(picture)
    return captions.get(stem) or captions.get(without_face(stem))


def _captions_by_stem(files: Sequence[Path], suffixes: Sequence[str]) -> dict[str, Path]:
    captions: dict[str, Path] = {}
    for suffix in reversed(suffixes):
        captions |= {_stem(file): file for file in files if file.suffix.lower() == suffix}
    return captions


def _explain_others(
    spec: FolderSpec,
    others: Sequence[Path],
    candidates: Sequence[Path],
    captions: dict[str, Path],
    suffixes: Sequence[str],
    findings: _Findings,
) -> None:
    """A reason for each file that is neither a picture nor the caption of one."""
    stems = {_stem(path) for path in candidates}
    stems |= {without_face(stem) for stem in stems if stem not in captions}
    unchosen = 0
    for file in others:
        suffix = file.suffix.lower()
        used = captions.get(_stem(file))
        if used == file and _stem(file) in stems:
            continue
        if suffix in suffixes:
            reason = f"{used.name} is used" if used != file and used else "a caption, no picture"
        elif suffix in CAPTION_SUFFIXES and _stem(file) in stems:
            reason = f"captions are read from {suffixes[0]} files"
            unchosen += used is None
        elif suffix in _CONVERTIBLE:
            reason = f"{suffix} is not read; convert it to PNG"
            findings.warnings.append(Problem(str(file), "is not used", "convert it to PNG"))
        else:
            reason = "not a picture"
        findings.ignored.append(Ignored(file, reason))
    if unchosen:
        what = f"{unchosen} pictures have captions, but not in {suffixes[0]} files"
        findings.warnings.append(Problem(str(spec.path), what, 'set captions.extension to "auto"'))
