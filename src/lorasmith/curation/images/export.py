"""A derived set for other trainers: recorded crops, masks, sizes, formats and captions carried out
in another folder. The source is only read.

What was exported is noted in ``.lorasmith-export.jsonl`` beside it, so that a second export does
only what is new or changed, and nothing is overwritten that somebody else put or edited there.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any, Literal

from PIL import Image

from lorasmith.core.disk import write_error
from lorasmith.core.errors import DatasetError, Problem
from lorasmith.core.events import Controls, Observer, Progress, ignore
from lorasmith.core.file_names import folded
from lorasmith.core.files import atomic_path, check_writable, parse_json
from lorasmith.core.text import quoted
from lorasmith.curation.changes.feasible import LONGEST_NAME
from lorasmith.curation.collection import Collection, CollectionImage
from lorasmith.curation.images.changes import record_of, still
from lorasmith.curation.images.convert import normalised, oddities
from lorasmith.curation.images.geometry import resized
from lorasmith.curation.images.image_file import (
    FormatName,
    format_of,
    read_image_file,
    suffix_of,
    write_image_file,
)
from lorasmith.data.buckets import Buckets, Placement, Size, place
from lorasmith.data.caption_files import read_tables
from lorasmith.data.decode_memory import decode_memory
from lorasmith.data.images import SUFFIXES, load_image
from lorasmith.data.layout import FolderSpec, entries_of
from lorasmith.data.recorded_crops import Region, is_crop_record

Layout = Literal["kohya", "onetrainer", "imagefolder"]
MaskForm = Literal["beside", "folder", "alpha", "off"]

NOTES = ".lorasmith-export.jsonl"
METADATA = "metadata.jsonl"
# Part of every key: a change in what is written makes earlier exports old.
_RECIPE = "export-1"
_IN_PLACE: dict[Layout, MaskForm] = {
    "kohya": "folder", "onetrainer": "beside", "imagefolder": "folder",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ExportRule:
    """What a derived set is to be like.

    Args:
        layout: "kohya" has ``img/N_name`` folders, "onetrainer" the source's own folders,
            "imagefolder" (Hugging Face) a ``metadata.jsonl`` instead of caption files.
        masks: beside the images as ``a-masklabel.png``, in a folder ``mask``, in the images' alpha
            channel, or not at all; ``None``: as the layout has it.
        repeats: of folders that name none, in kohya's layout.
        buckets: images are brought to the sizes that training would see; ``None`` leaves theirs.
        upscale: whether small images are enlarged to their bucket.
        format: ``None`` keeps each file's own.
        quality: of JPEG, WebP and AVIF; ``None``: 95, or as it was.
        background: colour under what is transparent; ``None`` leaves it transparent.
        prefix, suffix: before and after each line of every caption, with a space.
        extension: of caption files.
    """

    layout: Layout = "kohya"
    masks: MaskForm | None = None
    repeats: int = 1
    buckets: Buckets | None = None
    upscale: bool = False
    format: FormatName | None = None
    quality: int | None = None
    background: tuple[int, int, int] | None = None
    prefix: str = ""
    suffix: str = ""
    extension: str = ".txt"

    @property
    def mask_form(self) -> MaskForm:
        return self.masks or _IN_PLACE[self.layout]


@dataclass(frozen=True, slots=True)
class Output:
    """One file of the derived set.

    Args:
        name: relative to its folder, with ``/``.
        source: what it is made of.
        key: changes with all that it follows from.
        make: writes it to the path that it is given.
    """

    name: str
    source: Path
    key: str
    make: Callable[[Path], None]


@dataclass
class ExportPlan:
    """
    Args:
        folder: of the derived set.
        outputs: files to be written.
        current: files that an earlier export wrote, and that would be the same.
        foreign: files that would be overwritten, and that no export wrote, or that were changed
            since.
        stale: files of an earlier export that no image has any more; they stay.
        skipped: what cannot be exported.
        renamed: images under another name, since their own is another image's there, as
            (source, name in the set).
        images: how many the set has.
        notes: of earlier exports, by file.
    """

    folder: Path
    outputs: list[Output] = field(default_factory=list)
    current: int = 0
    foreign: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    skipped: list[Problem] = field(default_factory=list)
    renamed: list[tuple[Path, str]] = field(default_factory=list)
    images: int = 0
    notes: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)

    def carry_out(self, observer: Observer = ignore, controls: Controls | None = None) -> int:
        """Write the outputs over all cores; what cannot be made is added to ``skipped``.

        Returns:
            how many were written.

        Raises:
            Stopped: by ``controls``; what is done is kept, and the next export goes on from there.
            RunError: the folder cannot be written to.
        """
        controls = controls or Controls()
        lock, written = Lock(), 0
        check_writable(self.folder)
        cut_off = _is_cut_off(self.folder / NOTES)
        with open(self.folder / NOTES, "a", encoding="utf-8") as notes:
            notes.write("\n" if cut_off else "")

            def note(**values: Any) -> None:
                with lock:
                    notes.write(json.dumps(values, ensure_ascii=False) + "\n")
                    notes.flush()

            def write(output: Output) -> list[Problem]:
                controls.check("stopped; what is exported stays, and the next export goes on")
                path = self.folder / output.name
                # First that it is ours: a kill between the two leaves what may be overwritten.
                note(file=output.name)
                try:
                    with decode_memory.scope(), atomic_path(path) as temporary:
                        output.make(temporary)
                except DatasetError as error:
                    return error.problems
                note(file=output.name, key=output.key, stamp=_stamp(path))
                return []

            pool = ThreadPoolExecutor(os.cpu_count() or 1)
            try:
                for done, problems in enumerate(pool.map(write, self.outputs), 1):
                    self.skipped += problems
                    written += not problems
                    observer(Progress("exporting", done, len(self.outputs)))
            finally:
                pool.shutdown(cancel_futures=True)
        return written


def plan_export(
    collection: Collection,
    images: Sequence[CollectionImage],
    folder: Path,
    rule: ExportRule,
    *,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> ExportPlan:
    """What a derived set would be, beside what of it is there. Images of one name, such as
    ``a.png`` and ``a.jpg`` with one caption, get names of their own: ``a``, ``a_2``.

    Raises:
        DatasetError: the folder lies in the source.
        Stopped: by ``controls``.
    """
    controls = controls or Controls()
    folder = Path(os.path.abspath(folder))
    _refuse_within(folder, collection)
    plan = ExportPlan(folder, notes=_read_notes(folder / NOTES))
    facts = collection.measure(images, observer, controls)
    in_tables = _captions_in_tables(images)
    outputs: list[Output] = []
    rows: list[dict[str, str]] = []
    names = _Names(f"{_folder_of(image, rule)}{image.path.stem}" for image in images)
    for image in images:
        controls.check("stopped; nothing was exported")
        if problem := facts[image.path].problem:
            plan.skipped.append(Problem(str(image.path), problem))
            continue
        try:
            text = image.caption or in_tables.get(image.path, "")
            caption = _caption(text, rule) if text or rule.layout == "imagefolder" else ""
            mask = collection.masks.get(image.path)
            stem = names.free_stem(f"{_folder_of(image, rule)}{image.path.stem}")
            own = _outputs_of(image, mask, caption, rule, stem)
            _refuse_long(image, own)
        except DatasetError as error:
            plan.skipped += error.problems
            continue
        names.take(stem)
        outputs += own
        plan.images += 1
        if PurePosixPath(stem).name != image.path.stem:
            plan.renamed.append((image.path, own[0].name))
        if rule.layout == "imagefolder":
            rows.append({"file_name": own[0].name, "text": caption})
    if rows:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        outputs.append(_text_output(METADATA, collection.root, text))
    for output in outputs:
        _sort_in(plan, output)
    written = {output.name for output in outputs}
    plan.stale = sorted(
        name for name, note in plan.notes.items() if name not in written and _is_ours(folder, note)
    )
    return plan


class _Names:
    """Of images in the set, without endings: trainers tell captions and caches apart by these."""

    def __init__(self, stems: Iterable[str]) -> None:
        self._own = set(map(folded, stems))
        self._taken: set[str] = set()
        self._next: dict[str, int] = {}

    def free_stem(self, stem: str) -> str:
        """That name, or the first of name_2, name_3 … that no image has; with its folders."""
        free, key = stem, folded(stem)
        while (plain := folded(free)) in self._taken or (plain != key and plain in self._own):
            self._next[key] = self._next.get(key, 1) + 1
            free = f"{stem}_{self._next[key]}"
        return free

    def take(self, stem: str) -> None:
        self._taken.add(folded(stem))


def _refuse_long(image: CollectionImage, outputs: Sequence[Output]) -> None:
    for output in outputs:
        length = len(os.fsencode(PurePosixPath(output.name).name))
        if length > LONGEST_NAME:
            name = quoted(PurePosixPath(output.name).name)
            what = f"{name} would have {length} bytes; a name has {LONGEST_NAME} at most"
            raise DatasetError.of(image.path, what, "give it a shorter name")


def _outputs_of(
    image: CollectionImage, mask: Path | None, caption: str, rule: ExportRule, name: str
) -> list[Output]:
    """The files of one image, the image itself first.

    Args:
        name: in the set, with its folders and without its ending.
    """
    header = still(image)
    odd = oddities(image.path)
    size = (header.width, header.height)
    record = record_of(image, size)
    region = record[1] if record is not None else Region((0, 0, *size), size)
    placement = _placement(region.shape, rule)
    form = rule.mask_form if mask is not None else "off"
    ending = _ending(image, odd.format, rule, alpha=form == "alpha")
    changed = (
        bool(odd.reasons)
        or region.shape != size
        or placement is not None
        or form == "alpha"
        or (odd.alpha and (rule.background is not None or ending in (".jpg", ".jpeg", ".bmp")))
        or format_of(Path(f"a{ending}")) != odd.format
    )
    alpha = mask if form == "alpha" else None

    def make(temporary: Path) -> None:
        if changed:
            _write_image(image.path, region, placement, alpha, rule, temporary, ending)
        else:
            _copy(image.path, temporary)

    facts = [asdict(region), placement and asdict(placement), rule.quality, rule.background]
    sources = [image.path, *([alpha] if alpha else [])]
    outputs = [Output(f"{name}{ending}", image.path, _key(sources, facts), make)]
    if rule.layout != "imagefolder" and (image.caption_path is not None or caption):
        outputs.append(_text_output(f"{name}{rule.extension}", image.path, f"{caption}\n"))
    if mask is not None and form in ("beside", "folder"):
        mask_name = f"{name}-masklabel.png"
        if form == "folder":
            mask_name = f"mask/{name.removeprefix('img/')}.png"
        source = mask
        outputs.append(
            Output(
                mask_name,
                source,
                _key([source], facts[:2]),
                lambda temporary: _mask(source, region, placement).save(temporary, format="PNG"),
            )
        )
    return outputs


def _captions_in_tables(images: Sequence[CollectionImage]) -> dict[Path, str]:
    """Captions of images that have no file of their own, where a table beside them has one."""
    captions: dict[Path, str] = {}
    for folder in dict.fromkeys(image.path.parent for image in images):
        without = [i.path for i in images if i.path.parent == folder and not i.caption]
        if without:
            files = [
                path
                for path in entries_of(folder)
                if path.suffix.lower() not in SUFFIXES and not is_crop_record(path)
            ]
            tables = read_tables(FolderSpec(folder), without, files)
            captions |= {path: text for path, (text, _) in tables.captions.items()}
    return captions


def _folder_of(image: CollectionImage, rule: ExportRule) -> str:
    """With its ``/``; "" at the top."""
    place = image.folder.removeprefix("img/") if image.folder.startswith("img/") else image.folder
    place = "" if place == "img" else place
    if rule.layout != "kohya":
        return f"{place}/" if place else ""
    last = Path(place or image.path.parent.name).name
    numbered = last.partition("_")[0].isdecimal() and "_" in last
    folder = last if numbered else f"{rule.repeats}_{'_'.join(Path(place or last).parts)}"
    return f"img/{folder}/"


def _placement(shape: Size, rule: ExportRule) -> Placement | None:
    if rule.buckets is None:
        return None
    placement = place(*shape, rule.buckets)
    if placement.bucket == shape or (placement.scale > 1 and not rule.upscale):
        return None
    return placement


def _ending(image: CollectionImage, name: str, rule: ExportRule, *, alpha: bool) -> str:
    if rule.format is not None:
        ending = suffix_of(rule.format)
        return ".png" if alpha and rule.format in ("jpg", "bmp") else ending
    own = image.path.suffix
    if format_of(image.path) != name:  # a JPEG that is called .png
        own = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "AVIF": ".avif"}.get(name, ".png")
    return ".png" if alpha and format_of(Path(f"a{own}")) in ("JPEG", "BMP") else own


def _write_image(
    source: Path,
    region: Region,
    placement: Placement | None,
    mask: Path | None,
    rule: ExportRule,
    temporary: Path,
    ending: str,
) -> None:
    file = read_image_file(source)
    ground = rule.background
    if format_of(Path(f"a{ending}")) in ("JPEG", "BMP") or mask is not None:
        ground = ground or (255, 255, 255)
    plain = normalised(file, ground)
    image = _shaped(plain.image, region, placement)
    if mask is not None:
        levels = _mask(mask, region, placement)
        if levels.size != image.size:
            levels = levels.resize(image.size, Image.Resampling.BICUBIC)
        image.putalpha(levels)
    write_image_file(plain.with_image(image), temporary, rule.quality, ending=ending)


def _mask(path: Path, region: Region, placement: Placement | None) -> Image.Image:
    """A mask as its image is used, mode "L"."""
    with decode_memory.scope():
        return _shaped(load_image(path, "black").convert("L"), region, placement)


def _shaped(image: Image.Image, region: Region, placement: Placement | None) -> Image.Image:
    """As training sees it: the part that is used, scaled to cover its bucket, and cropped."""
    box = region.within(image.size)
    part = image.crop(box) if box != (0, 0, *image.size) else image
    if placement is None:
        return part
    return resized(part, placement.resized).crop(placement.crop)


def _caption(text: str, rule: ExportRule) -> str:
    lines = text.splitlines() or [""]
    framed = (" ".join(filter(None, (rule.prefix, line, rule.suffix))) for line in lines)
    return "\n".join(framed)


def _text_output(name: str, source: Path, text: str) -> Output:
    data = text.encode()

    def make(temporary: Path) -> None:
        temporary.write_bytes(data)

    return Output(name, source, blake2b(data, digest_size=16).hexdigest(), make)


def _copy(source: Path, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise write_error(target, error) from error


def _key(sources: Iterable[Path], facts: Sequence[Any]) -> str:
    text = json.dumps([_RECIPE, *(_stamp(path) for path in sources), *facts])
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _stamp(path: Path) -> list[int]:
    try:
        status = path.stat()
    except OSError as error:
        raise DatasetError.of(path, f"cannot be read: {error.strerror}", "mend it") from error
    return [status.st_size, status.st_mtime_ns]


def _read_notes(path: Path) -> dict[str, dict[str, Any]]:
    """What earlier exports say of each file; lines cut off by a kill say nothing."""
    notes: dict[str, dict[str, Any]] = {}
    with suppress(OSError, UnicodeDecodeError):
        for line in path.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):
                value = parse_json(line)
                if isinstance(value, dict) and isinstance(value.get("file"), str):
                    notes[value["file"]] = value
    return notes


def _is_cut_off(path: Path) -> bool:
    """Whether a kill left half a line at the end."""
    with suppress(OSError):
        return not path.read_bytes().endswith(b"\n")
    return False


def _sort_in(plan: ExportPlan, output: Output) -> None:
    """New, the same as before, or somebody else's."""
    path, note = plan.folder / output.name, plan.notes.get(output.name)
    if os.path.lexists(path):
        if note is None or not _is_ours(plan.folder, note):
            plan.foreign.append(output.name)
        elif note.get("key") == output.key:
            plan.current += 1
            return
    plan.outputs.append(output)


def _is_ours(folder: Path, note: dict[str, Any]) -> bool:
    """Whether a file is there as an export left it, or as a killed one might have."""
    path = folder / note["file"]
    if not path.is_file():
        return False
    return "stamp" not in note or note["stamp"] == _stamp(path)


def _refuse_within(folder: Path, collection: Collection) -> None:
    for source in collection.folders:
        if folder.is_relative_to(Path(os.path.abspath(source))):
            what = f"lies in {source}, which is to be exported"
            raise DatasetError.of(folder, what, "choose a folder beside it")
