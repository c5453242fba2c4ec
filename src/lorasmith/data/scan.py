"""The images of a dataset's folders, with captions and sizes; what is left out, and why.

Sizes come from the files' headers, nothing is decoded. The order is natural (``2.png`` before
``10.png``) and the same on every system.
"""

from __future__ import annotations

import contextlib
import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from lorasmith.core.errors import DatasetError, Problem
from lorasmith.core.text import quantity
from lorasmith.data.augmentation.crops import without_face
from lorasmith.data.caption_files import CaptionText, read_caption, read_tables
from lorasmith.data.companions import (
    Companion,
    find_companions,
    masks_in_folders,
    stem_of,
)
from lorasmith.data.images import (
    FOREIGN_SUFFIXES,
    MASK_SUFFIXES,
    SUFFIXES,
    Header,
    read_header,
    readable_suffixes,
)
from lorasmith.data.layout import (
    FolderSpec,
    Ignored,
    Unused,
    count_images,
    entries_of,
    folder_caption,
    is_cache,
    is_mask_folder,
    odd_names_in,
)
from lorasmith.data.recorded_crops import (
    Region,
    crop_record_of,
    crop_records,
    is_crop_record,
    read_crop_record,
)

CAPTION_SUFFIXES = (".txt", ".caption")  # in order of preference

# Below this an image has nothing to learn from, however it is enlarged.
MIN_SIDE = 16

# Endings that captions have elsewhere.
_OTHER_CAPTIONS = frozenset(
    {".tags", ".tag", ".cap", ".captions", ".prompt", ".wd", ".wd14", ".blip", ".text", ".md"}
)
# Folders of what --conditioning_data_dir names, masks or control images.
_CONDITIONING = ("conditioning", "control", "cond_")
_TO_PNG = "convert it to PNG: lorasmith dataset convert does, or says how"
_HEADER_THREADS = 8  # waits for disks and network shares more than it computes


@dataclass(frozen=True, slots=True)
class DatasetImage:
    """One image file that can be used.

    Args:
        path: the file.
        folder: index into :attr:`Scan.folders`.
        width: px, upright (after EXIF), of the part that is used.
        height: as ``width``.
        caption: what training uses: the file's text, else the folder's; ``None`` = nothing.
        caption_path: the caption file, or the table of captions; ``None`` when the folder's name
            (or nothing) is used.
        has_alpha: the file has transparency.
        region: the part of it that is used, as recorded beside it; ``None`` is the whole.
    """

    path: Path
    folder: int
    width: int
    height: int
    caption: str | None
    caption_path: Path | None
    has_alpha: bool
    region: Region | None = None

    @property
    def whole_size(self) -> tuple[int, int]:
        """Width and height of the whole upright file, px."""
        return self.region.size if self.region is not None else (self.width, self.height)


@dataclass(frozen=True, slots=True)
class Scan:
    """All that was found. ``problems`` forbid training, ``warnings`` do not.

    ``masks`` are those that lie beside the images, by image; whether they are used is up to
    the settings. ``texts`` are the caption files that could be read, by path.
    """

    folders: tuple[FolderSpec, ...]
    images: tuple[DatasetImage, ...]
    masks: Mapping[Path, Path] = field(default_factory=dict)
    ignored: tuple[Ignored, ...] = ()
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    texts: Mapping[Path, CaptionText] = field(default_factory=dict)

    def require_usable(self) -> None:
        """Raises :class:`DatasetError` with every problem, if there is one."""
        if self.problems:
            raise DatasetError(self.problems)


@dataclass
class _Findings:
    masks: dict[Path, Path] = field(default_factory=dict)
    ignored: list[Ignored] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    texts: dict[Path, CaptionText] = field(default_factory=dict)


def scan(
    folders: Sequence[FolderSpec],
    *,
    extension: str = "auto",
    known: Mapping[Path, Header] | None = None,
) -> Scan:
    """Every image of the folders, from headers and caption files.

    Args:
        folders: from :func:`find_folders` or the settings.
        extension: of caption files, with or without its dot; "auto" takes ``.txt``, else
            ``.caption``. A folder's own goes before it.
        known: headers of files as they are now, which need not be read.
    """
    findings = _Findings()
    images: list[DatasetImage] = []
    folder_paths = [spec.path.resolve() for spec in folders]
    for index, spec in enumerate(folders):
        findings.warnings += spec.warnings
        findings.ignored += spec.passed_over
        if not spec.path.is_dir():
            what = "is not a folder" if spec.path.exists() else "does not exist"
            findings.problems.append(Problem(str(spec.path), what, "correct the path"))
            continue
        suffixes = _caption_suffixes(spec.extension or extension)
        folder_images = list(
            _scan_folder(index, spec, suffixes, folder_paths, findings, known or {})
        )
        if not folder_images:
            what = "there is no usable picture in this folder"
            findings.warnings.append(Problem(str(spec.path), what, "fill it or remove it"))
        images += folder_images
    if not findings.problems and not any(not folders[p.folder].reg for p in images):
        where = ", ".join(str(spec.path) for spec in folders)
        what = (
            "the dataset is empty: no usable picture "
            f"({quantity(len(findings.ignored), 'file')} ignored)"
        )
        findings.problems.append(Problem(where, what, f"put {', '.join(sorted(SUFFIXES))} in"))
    return Scan(
        tuple(folders),
        tuple(images),
        findings.masks,
        tuple(findings.ignored),
        tuple(findings.problems),
        tuple(findings.warnings),
        findings.texts,
    )


def _caption_suffixes(extension: str) -> tuple[str, ...]:
    return CAPTION_SUFFIXES if extension == "auto" else ("." + extension.lower().lstrip("."),)


def _scan_folder(
    index: int,
    spec: FolderSpec,
    suffixes: Sequence[str],
    folder_paths: Sequence[Path],
    findings: _Findings,
    known: Mapping[Path, Header],
) -> Iterator[DatasetImage]:
    try:
        entries = entries_of(spec.path)
        findings.warnings += odd_names_in(spec.path)
    except DatasetError as error:
        findings.problems += error.problems
        return
    readable, regular = readable_suffixes(), _regular_files(spec.path)
    candidates: list[Path] = []
    others: list[Path] = []
    inner: list[Path] = []
    for entry in entries:
        suffix = entry.suffix.lower()
        if is_cache(entry) or (entry.name not in regular and entry.is_dir()):
            if not is_cache(entry) and not entry.name.startswith("."):
                inner.append(entry)
        elif entry.name.startswith("."):
            findings.ignored.append(Ignored(entry, "a hidden file"))
        elif suffix not in SUFFIXES:
            others.append(entry)
        elif suffix not in readable:
            reason = f"this Pillow cannot read {suffix} files"
            findings.ignored.append(Ignored(entry, reason))
        elif entry.name not in regular and _is_special(entry):
            findings.ignored.append(Ignored(entry, "not a regular file"))
        else:
            candidates.append(entry)
    records = crop_records(others)
    others = [path for path in others if not is_crop_record(path)]
    captions = captions_by_stem(others, suffixes)
    files = {path: caption_of(path, captions) for path in candidates}
    read = {file: _text_or_problem(file) for file in files.values() if file is not None}
    empty = {file for file, text in read.items() if isinstance(text, CaptionText) and not text.text}
    without = [path for path, file in files.items() if file is None or file in empty]
    tables = read_tables(spec, without, [path for path in others if path not in read])
    captioned = {path for path in candidates if path in tables.captions or files[path]}
    companions = _take_companions(spec, candidates, others, captioned, findings)
    _explain_folders(spec, inner, folder_paths, findings)
    for file, rows in tables.files.items():
        what = f"captions of {quantity(rows, 'picture')} without a caption file are read from it"
        findings.warnings.append(Problem(str(file), what))
    findings.warnings += tables.warnings
    unknown = [path for path in candidates if path not in known]
    with ThreadPoolExecutor(_HEADER_THREADS) as pool:
        new = dict(zip(unknown, pool.map(_header_or_problem, unknown), strict=True))
    headers = [new[path] if path in new else _of_use(path, known[path]) for path in candidates]
    for path, header in zip(candidates, headers, strict=True):
        record = crop_record_of(path, records)
        region = _region_or_problem(record, header) if record is not None else None
        if isinstance(header, Problem) or isinstance(region, Problem):
            findings.problems += [one for one in (header, region) if isinstance(one, Problem)]
        else:
            table = tables.captions.get(path)
            beside = files[path]
            if beside is not None and (text := _told(beside, read[beside], findings)):
                table = (text, beside)
            image = _image(path, index, spec, header, table, findings)
            yield image if region is None else _part_of(image, region)
    orphans = set(records.values()) - {crop_record_of(path, records) for path in candidates}
    findings.ignored += [Ignored(path, "a recorded crop, no picture") for path in sorted(orphans)]
    others = [path for path in others if path not in companions and path not in tables.files]
    _explain_others(spec, others, candidates, captions, suffixes, findings)


def _take_companions(
    spec: FolderSpec,
    candidates: list[Path],
    others: Sequence[Path],
    captioned: Container[Path],
    findings: _Findings,
) -> set[Path]:
    """Take masks, control images and previews of other images out of the candidates, and say so."""
    images = candidates + [path for path in others if path.suffix.lower() in MASK_SUFFIXES]
    companions = find_companions(images, captioned)
    companion_paths = {companion.path for companion in companions}
    candidates[:] = [path for path in candidates if path not in companion_paths]
    masks = _masks_in_folders(spec, candidates, findings)
    for one in reversed(companions):
        if one.kind == "mask" and one.owner is not None and one.owner not in companion_paths:
            masks[one.owner] = one.path
    findings.masks |= masks
    mask_paths = set(masks.values())
    left_out: dict[str, list[Companion]] = {}
    for companion in companions:
        if companion.path not in mask_paths:
            what = f"a {companion.kind} of another picture"
            findings.ignored.append(Ignored(companion.path, what))
            left_out.setdefault(companion.kind, []).append(companion)
    for kind, some in left_out.items():
        what = f"{quantity(len(some), kind, 'is')} left out ({some[0].path.name}"
        what += ", …)" if len(some) > 1 else ")"
        hint = "rename what is a picture to train on"
        findings.warnings.append(Problem(str(spec.path), what, hint))
    return companion_paths


def _masks_in_folders(
    spec: FolderSpec, images: Sequence[Path], findings: _Findings
) -> dict[Path, Path]:
    try:
        return masks_in_folders(spec, images)
    except DatasetError as error:
        findings.problems += error.problems
        return {}


def _explain_folders(
    spec: FolderSpec, inner: Sequence[Path], folder_paths: Sequence[Path], findings: _Findings
) -> None:
    """Folders within a folder of images, and how many images lie in them."""
    masks = {path.parent for path in findings.masks.values()}
    image_counts: dict[str, int] = {}
    for folder in inner:
        if any(path.is_relative_to(folder.resolve()) for path in folder_paths) or folder in masks:
            continue
        findings.ignored.append(Ignored(folder, "a folder within a folder of pictures"))
        count = count_images(folder)
        if count:
            image_counts[folder.name] = count
    if image_counts:
        names = ", ".join(f"{name}: {count}" for name, count in list(image_counts.items())[:3])
        names += ", …" if len(image_counts) > 3 else ""
        total = quantity(sum(image_counts.values()), "picture", "is")
        what = f"{total} not used, in {quantity(len(image_counts), 'folder')} within it ({names})"
        hint = "move them up, or make each folder an N_name folder of its own"
        if all(map(is_mask_folder, image_counts)):
            hint = "name masks like the pictures that they belong to"
        elif all(name.casefold().startswith(_CONDITIONING) for name in image_counts):
            hint = 'if they are masks, set loss.masked = "folder" and loss.mask_folder'
        findings.warnings.append(Unused(str(spec.path), what, hint))


def _regular_files(folder: Path) -> set[str]:
    """Names of files, and of links to such: the folder says so without a look at each."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return {entry.name for entry in entries if entry.is_file()}
    return set()


def _is_special(path: Path) -> bool:
    """A pipe, socket or device, which could block for ever; broken links are for the decoder."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def _region_or_problem(record: Path, header: Header | Problem) -> Region | Problem | None:
    if isinstance(header, Problem):
        return None
    try:
        region = read_crop_record(record, (header.width, header.height))
    except DatasetError as error:
        return error.problems[0]
    if min(region.shape) < MIN_SIDE:
        what = "the crop of {}x{} px has nothing to learn from".format(*region.shape)
        return Problem(str(record), f"{what} (the least is {MIN_SIDE} px)", "record a larger one")
    return region


def _part_of(image: DatasetImage, region: Region) -> DatasetImage:
    width, height = region.shape
    return replace(image, width=width, height=height, region=region)


def _header_or_problem(path: Path) -> Header | Problem:
    try:
        header = read_header(path)
    except DatasetError as error:
        return error.problems[0]
    return _of_use(path, header)


def _of_use(path: Path, header: Header) -> Header | Problem:
    what = size_problem(header.width, header.height)
    return Problem(str(path), what, "remove it") if what else header


def size_problem(width: int, height: int) -> str:
    """Why an image of so many px cannot be trained on, or ""."""
    if min(width, height) >= MIN_SIDE:
        return ""
    size = f"{width}x{height} px"
    return f"a picture of {size} has nothing to learn from (the least is {MIN_SIDE} px)"


def _image(
    path: Path,
    index: int,
    spec: FolderSpec,
    header: Header,
    captioned: tuple[str, Path] | None,
    findings: _Findings,
) -> DatasetImage:
    if header.warning:
        findings.warnings.append(Problem(str(path), header.warning, "check that it is upright"))
    if header.frames > 1:
        what = f"it is an animation of {header.frames} frames; the first is used"
        findings.warnings.append(Problem(str(path), what))
    text, caption_path = captioned or ("", None)
    caption = text or folder_caption(spec)
    return DatasetImage(
        path, index, header.width, header.height, caption, caption_path, header.has_alpha
    )


def _text_or_problem(path: Path) -> CaptionText | Problem:
    try:
        return read_caption(path)
    except OSError as error:
        what = f"the caption cannot be read: {error.strerror}"
        return Problem(str(path), what, "mend or remove it")


def _told(path: Path, caption: CaptionText | Problem, findings: _Findings) -> str:
    """The file's text; an empty or unreadable file is no caption, and said."""
    if isinstance(caption, Problem):
        findings.problems.append(caption)
        return ""
    findings.texts[path] = caption
    if caption.warning:
        findings.warnings.append(Problem(str(path), caption.warning, "save it as UTF-8"))
    elif not caption.text:
        what = "the caption file is empty; it counts as no caption"
        findings.warnings.append(Problem(str(path), what, "write a caption or remove it"))
    return caption.text


def caption_of(image: Path, captions: Mapping[str, Path]) -> Path | None:
    """The file of the image's name; or of that with its ending (a.png.txt), as some programs
    write it; or of that without the face in it, as in sd-scripts."""
    stem = stem_of(image)
    if (beside := captions.get(stem)) is not None:
        return beside
    name = unicodedata.normalize("NFC", image.name)
    return captions.get(name) or captions.get(without_face(stem))


def captions_by_stem(files: Sequence[Path], suffixes: Sequence[str]) -> dict[str, Path]:
    captions: dict[str, Path] = {}
    by_suffix: dict[str, list[Path]] = {suffix: [] for suffix in reversed(suffixes)}
    for file in files:
        if (some := by_suffix.get(file.suffix.lower())) is not None:
            some.append(file)
    for some in by_suffix.values():
        captions |= {stem_of(file): file for file in some}
    return captions


def _explain_others(
    spec: FolderSpec,
    others: Sequence[Path],
    candidates: Sequence[Path],
    captions: dict[str, Path],
    suffixes: Sequence[str],
    findings: _Findings,
) -> None:
    """A reason for each file that is neither an image nor the caption of one."""
    stems = {stem_of(path) for path in candidates}
    stems |= {unicodedata.normalize("NFC", path.name) for path in candidates}
    stems |= {without_face(stem) for stem in stems if stem not in captions}
    unchosen, other_endings = 0, Counter[str]()
    for file in others:
        suffix = file.suffix.lower()
        stem = stem_of(file)
        caption_file = captions.get(stem)
        if caption_file == file and stem in stems:
            continue
        if suffix in suffixes:
            reason = (
                f"{caption_file.name} is used"
                if caption_file != file and caption_file
                else "a caption, no picture"
            )
        elif suffix in CAPTION_SUFFIXES and stem in stems:
            reason = f"captions are read from {suffixes[0]} files"
            unchosen += caption_file is None
        elif suffix in _OTHER_CAPTIONS and stem in stems and not caption_file:
            reason = f"captions are read from {' or '.join(suffixes)} files"
            other_endings[suffix] += 1
        elif suffix in FOREIGN_SUFFIXES:
            reason = f"{suffix} is not read; convert it to PNG"
            findings.warnings.append(Unused(str(file), "is not used", _TO_PNG))
        else:
            reason = "not a picture"
        findings.ignored.append(Ignored(file, reason))
    for suffix, count in other_endings.items():
        what = f"{quantity(count, 'picture', 'has')} a {suffix} file, and no {suffixes[0]}"
        hint = f'if that is the caption, set captions.extension to "{suffix}"'
        findings.warnings.append(Problem(str(spec.path), what, hint))
    if unchosen:
        what = f"{quantity(unchosen, 'picture', 'has')} captions, but not in {suffixes[0]} files"
        findings.warnings.append(Problem(str(spec.path), what, 'set captions.extension to "auto"'))
