"""Which folders a dataset has: kohya's ``10_name`` folders, a ``reg`` folder, or a plain folder."""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path

from lorasmith.config.sections.augment import AugmentSettings
from lorasmith.config.sections.data import CaptionSettings
from lorasmith.core.errors import DatasetError, Problem, collect_problems
from lorasmith.core.file_names import safe_stem
from lorasmith.core.files import is_utf8
from lorasmith.core.text import quantity
from lorasmith.data.images import SUFFIXES

CACHE_FOLDER = ".lorasmith-cache"
_JOURNAL_FOLDER = ".lorasmith"
MAX_REPEATS = 10_000

_DIGITS = re.compile(r"(\d+)")
_NUMBERED = re.compile(r"(\d+)_(.*)", re.DOTALL)
REG_NAMES = ("reg", "regularization", "regularisation", "class")
_MASK_FOLDER = re.compile(
    r"(?:(?:loss|alpha|seg|sam|image|img|train(?:ing)?|png|binary)[-_ ]?)?masks?|mask[-_ ]?labels?",
    re.IGNORECASE,
)
# Folder names that say what is in them to a person, and would teach nonsense as a caption.
_GENERIC_NAMES = frozenset(
    (
        *("img", "imgs", "image", "images", "pics", "picture", "pictures", "photo", "photos"),
        *("train", "training", "data", "dataset", "datasets", "raw", "cropped", "input", "output"),
        *("new", "tmp", *REG_NAMES),
    )
)


def user_cache_folder() -> Path:
    """Where the system keeps the caches of programs, for this user."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))


def user_cache_of(folder: Path) -> Path:
    """Where what belongs to a folder is kept for this user, if nothing can be written in it."""
    path = Path(folder).resolve()
    digest = blake2b(os.fsencode(path), digest_size=4).hexdigest()
    return user_cache_folder() / "lorasmith" / f"{path.name}-{digest}"


@dataclass(frozen=True, slots=True)
class Ignored:
    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Unused(Problem):
    """A warning of images that lie in a dataset, and that no run takes."""


@dataclass(frozen=True, slots=True)
class FolderSpec:
    """One folder of images and how it is used.

    Args:
        path: the folder; only images directly in it count.
        repeats: uses of each image in an epoch, >= 1.
        reg: regularisation images, repeated to match the training ones.
        caption: for images without one; ``None`` = the folder's name without its number, unless
            it is a general one ("img"); "" = none.
        weight: factor on the loss of its images.
        group: which of the dataset's groups it belongs to, from 0; see
            :class:`lorasmith.data.dataset.SampleGroup`.
        rules: for its captions; ``None`` = the dataset's.
        augmentation: of its images; ``None`` = the dataset's.
        extension: of its caption files; ``None`` = as the scan is told.
        warnings: what was odd in finding it.
        passed_over: what lies beside it and was not taken.
    """

    path: Path
    repeats: int = 1
    reg: bool = False
    caption: str | None = None
    weight: float = 1.0
    group: int = 0
    rules: CaptionSettings | None = None
    augmentation: AugmentSettings | None = None
    extension: str | None = None
    warnings: tuple[Problem, ...] = ()
    passed_over: tuple[Ignored, ...] = ()


def find_folders(path: Path, reg: Path | None = None) -> list[FolderSpec]:
    """The folders of a dataset, from its layout.

    * ``path`` holds ``N_name`` folders: each is a concept with N repeats (kohya's layout); a
      ``reg`` folder beside them is taken as regularisation images.
    * ``path`` holds ``img`` (with ``N_name`` folders) and perhaps ``reg``: kohya_ss' own layout.
    * ``path`` is itself an ``N_name`` folder, or any folder with images: that folder alone.

    Args:
        path: as the user gave it.
        reg: regularisation images, in the same layouts; overrides a ``reg`` folder in ``path``.

    Raises:
        DatasetError: nothing usable is there; says what was found instead.
    """
    path = Path(path)
    _require_folder(path)
    base, folders = path, _numbered_folders(path, reg=False)
    if not folders and not _has_images(path) and (path / "img").is_dir():
        base, folders = path / "img", _numbered_folders(path / "img", reg=False)
        folders = folders or ([FolderSpec(base)] if _has_images(base) else [])
    if not folders and _has_images(path):
        folders = [_plain_folder(path, reg=False)]
    if not folders:
        raise DatasetError(_nothing_in(path))
    if reg is not None:
        _require_folder(Path(reg))
        reg_folders = _reg_folders(Path(reg))
        if not any(_has_images(folder.path) for folder in reg_folders):
            what = "there is no picture in the folder for regularisation"
            raise DatasetError.of(
                reg, what, "put pictures in N_name folders there, or leave it out"
            )
        return folders + reg_folders
    return folders + _reg_beside(path, base)


def find_folders_of(paths: Iterable[Path], reg: Path | None = None) -> list[FolderSpec]:
    """Those of several datasets together, each folder once; see :func:`find_folders`.

    Raises:
        DatasetError: with everything that is wrong.
    """
    specs: dict[tuple[Path, bool], FolderSpec] = {}
    problems: list[Problem] = []
    for path in paths:
        for spec in collect_problems(problems, partial(find_folders, path, reg)) or ():
            specs.setdefault((spec.path.absolute(), spec.reg), spec)
    if problems:
        raise DatasetError(dict.fromkeys(problems))
    # Regularisation images behind all others, as in one dataset.
    return sorted(specs.values(), key=lambda spec: spec.reg)


def natural_key(name: str) -> tuple[tuple[int, str], ...]:
    """Sorts digits as numbers; the name itself settles ties, so that the order is total."""
    parts = _DIGITS.split(unicodedata.normalize("NFC", name).casefold())
    keys: list[tuple[int, str]] = [(-1, part) for part in parts]
    keys[1::2] = [(int(part), "") for part in parts[1::2]]
    return (*keys, (0, name))


def is_mask_folder(name: str) -> bool:
    """Whether a folder of this name holds masks: ``masks``, ``Loss_masks``."""
    return _MASK_FOLDER.fullmatch(name) is not None


def folder_caption(spec: FolderSpec) -> str | None:
    """What images of a folder are called when they have no caption of their own."""
    if spec.caption is not None:
        return spec.caption.strip() or None
    return folder_name(spec) or None


def folder_name(spec: FolderSpec) -> str:
    """What a folder's name says of its images: without its number, "" for a general one."""
    name = spec.path.resolve().name
    numbered = _NUMBERED.fullmatch(name)
    if numbered:
        return numbered.group(2).strip()
    return "" if name.casefold() in _GENERIC_NAMES else name


def entries_of(folder: Path) -> list[Path]:
    """What is in a folder, in natural order; without names that are not UTF-8, which
    :func:`odd_names_in` tells.

    Raises:
        DatasetError: the folder cannot be listed.
    """
    return _in_order(entry for entry in _listed(folder) if is_utf8(entry.name))


def odd_names_in(folder: Path) -> list[Unused]:
    """What to say of names in a folder that are not UTF-8: nothing can be called so in settings
    and tables, so what has them is left out.

    Raises:
        DatasetError: the folder cannot be listed.
    """
    odd = _in_order(entry for entry in _listed(folder) if not is_utf8(entry.name))
    return [not_utf8(entry) for entry in odd]


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        what = f"the folder cannot be read: {error.strerror}"
        raise DatasetError.of(folder, what, "mend its permissions") from error


def _in_order(entries: Iterable[Path]) -> list[Path]:
    return sorted(entries, key=lambda entry: natural_key(entry.name))


def not_utf8(path: Path) -> Unused:
    """What to say of a name that is not UTF-8."""
    what = "a name that is not UTF-8, as old archives have them"
    hint = "rename it, or all of them: convmv -f shift_jis -t utf8 (or -f latin1) -r --notest ."
    return Unused(os.fsencode(path).decode("utf-8", "backslashreplace"), what, hint)


def _is_image_name(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _has_images(folder: Path) -> bool:
    return any(_is_image_name(entry) and not entry.is_dir() for entry in entries_of(folder))


def _require_folder(path: Path) -> None:
    if not is_utf8(str(path)):
        raise DatasetError(not_utf8(path))
    if not path.exists():
        near = [entry.name for entry in entries_of(path.parent)] if path.parent.is_dir() else []
        alike = [name for name in near if name.casefold().startswith(path.name.casefold()[:3])]
        hint = f"; there is {', '.join(alike[:3])}" if alike else ""
        raise DatasetError.of(path, f"does not exist{hint}", "correct the path")
    if not path.is_dir():
        raise DatasetError.of(path, "is a file", f"give its folder, {path.parent}")


def _numbered_folders(parent: Path, *, reg: bool) -> list[FolderSpec]:
    """The ``N_name`` folders in ``parent``, and on the first of them what else lies there."""
    folders: list[FolderSpec] = []
    ignored: list[Ignored] = []
    for entry in entries_of(parent):
        match = _NUMBERED.fullmatch(entry.name)
        if entry.is_dir() and _leads_up(entry):
            ignored.append(Ignored(entry, "a symbolic link to a folder that it is in"))
        elif match and entry.is_dir():
            if int(match.group(1)) > 0:
                folders.append(FolderSpec(entry, _repeats(entry, match), reg))
            else:
                ignored.append(Ignored(entry, "its name asks for 0 repeats"))
        elif entry.is_dir():
            if not is_cache(entry) and entry.name.casefold() not in REG_NAMES:
                ignored.append(Ignored(entry, "a folder without a number of repeats (10_name)"))
        elif _is_image_name(entry):
            ignored.append(Ignored(entry, "lies beside the N_name folders, not in one"))
        elif not entry.name.startswith("."):
            ignored.append(Ignored(entry, "not a picture"))
    if not folders:
        return []
    image_counts = {
        entry: count_images(entry.path)
        for entry in ignored
        if entry.path.is_dir() and not _leads_up(entry.path)
    }
    warnings = tuple(
        Unused(
            str(entry.path),
            f"{quantity(count, 'picture', 'is')} not used: {entry.reason}",
            f"rename it, as in {_numbered_name(entry.path.name)}",
        )
        for entry, count in image_counts.items()
        if count and not is_mask_folder(entry.path.name)
    )
    loose = sum(_is_image_name(entry.path) and not entry.path.is_dir() for entry in ignored)
    if loose:
        what = f"{quantity(loose, 'picture', 'is')} not used: they lie beside the N_name folders"
        what = what.replace("they lie", "it lies") if loose == 1 else what
        warnings += (Unused(str(parent), what, "move them into one of the folders"),)
    warnings += tuple(odd_names_in(parent))
    first = folders[0]
    folders[0] = FolderSpec(
        first.path, first.repeats, reg, warnings=warnings, passed_over=tuple(ignored)
    )
    return folders


def _plain_folder(path: Path, *, reg: bool) -> FolderSpec:
    match = _NUMBERED.fullmatch(path.resolve().name)
    if not match or int(match.group(1)) < 1:
        return FolderSpec(path, 1, reg)
    repeats = _repeats(path, match)
    what = f"this is an N_name folder itself; it is used with {quantity(repeats, 'repeat')}"
    note = Problem(str(path), what, f"to use all concepts, point at {path.resolve().parent}")
    return FolderSpec(path, repeats, reg, warnings=(note,))


def _repeats(folder: Path, match: re.Match[str]) -> int:
    """Raises DatasetError for more than anyone can mean: each is a line in memory."""
    number, name = match.groups()
    if len(number.lstrip("0")) > len(str(MAX_REPEATS)) or int(number) > MAX_REPEATS:
        what = f"its name asks for {number[:20]} repeats; the most is {MAX_REPEATS}"
        raise DatasetError.of(folder, what, f"rename it, as in 10_{name}")
    return int(number)


def _reg_folders(path: Path) -> list[FolderSpec]:
    return _numbered_folders(path, reg=True) or [_plain_folder(path, reg=True)]


def _reg_beside(path: Path, base: Path) -> list[FolderSpec]:
    """A ``reg`` folder in the dataset's folder, or in that of the ``img`` folder."""
    for parent in dict.fromkeys((path, base)):
        for entry in entries_of(parent):
            if entry.name.casefold() in REG_NAMES and entry.is_dir():
                return _reg_folders(entry)
    return []


def _nothing_in(path: Path) -> Problem:
    """Why a folder is no dataset, with the nearest thing to one in it."""
    entries = [entry for entry in entries_of(path) if not entry.name.startswith(".")]
    inner = [entry for entry in entries if entry.is_dir()]
    for entry in inner:
        if _numbered_folders(entry, reg=False):
            what = "there are no pictures here, but a dataset is further down"
            return Problem(str(path), what, f"point at {entry}")
    with_images = [entry.name for entry in inner if _has_images(entry)]
    zeros = [name for name in with_images if _NUMBERED.fullmatch(name)]
    if zeros:
        name = _NUMBERED.fullmatch(zeros[0]).group(2)  # type: ignore[union-attr]
        what = f"there are pictures only in folders that ask for 0 repeats ({zeros[0]})"
        return Problem(str(path), what, f"rename it, as in 10_{name}")
    if with_images:
        names = ", ".join(with_images[:3])
        what = f"there are pictures only in folders without a number of repeats ({names})"
        return Problem(
            str(path),
            what,
            f"rename them, as in {_numbered_name(with_images[0])}, or point at one",
        )
    if odd := odd_names_in(path):
        return odd[0]
    if not entries:
        return Problem(str(path), "the dataset is empty", "put pictures in it")
    kinds = sorted({entry.suffix.lower() or entry.name for entry in entries if not entry.is_dir()})
    what = "there are no pictures in it" + (f", only {', '.join(kinds[:5])}" if kinds else "")
    return Problem(str(path), what, f"put {', '.join(sorted(SUFFIXES))} files in it")


def count_images(folder: Path) -> int:
    """In a folder and all folders in it; hidden ones and our own cache are left out."""
    count = 0
    for _, folders, files in os.walk(folder):
        folders[:] = [
            name for name in folders if not name.startswith(".") and not is_cache(Path(name))
        ]
        count += sum(_is_image_name(Path(name)) for name in files)
    return count


def _numbered_name(name: str) -> str:
    """As kohya's layout has it; a number at either end ("zorp_10", "10 zorp", "zorp x10") is taken
    for the repeats. One that is part of a word ("1girl") is not."""
    number = r"x?0*([1-9]\d{0,2})x?"
    if match := re.fullmatch(rf"{number}[-_ .]+(.*[^\W\d_].*)", name, re.IGNORECASE):
        return f"{match[1]}_{match[2]}"
    if match := re.fullmatch(rf"(.*[^\W\d_].*?)[-_ .]+\(?{number}\)?", name, re.IGNORECASE):
        return f"{match[2]}_{match[1]}"
    return f"10_{name}"


def _leads_up(path: Path) -> bool:
    return path.is_symlink() and path.parent.resolve().is_relative_to(path.resolve())


def is_cache(path: Path) -> bool:
    """Whether a folder is one that lorasmith makes in a dataset: of latents, or of its journal."""
    return path.name in (CACHE_FOLDER, _JOURNAL_FOLDER)


def default_name(path: Path) -> str:
    """A dataset's name, by its first folder: of that which holds the concepts, or of the one with
    images."""
    path = path.resolve()
    inner = path.name.split("_", 1)
    if len(inner) == 2 and inner[0].isdigit():
        parent = path.parent
        path = parent.parent if parent.name.lower() in ("img", "images") else parent
    return safe_stem(path.name.replace(" ", "-")) if path.name else "lora"
