"""From what the user names (a file, a folder, a hub id, "demo") to where every weight lies.

Only headers are read here, and nothing of torch is imported, so that planning is quick. A
checkpoint's numbers are read by :mod:`lorasmith.models.load`.
"""

from __future__ import annotations

import dataclasses
import functools
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lorasmith.core.errors import CheckpointError, Problem, UserError
from lorasmith.core.files import ASSETS, read_safetensors_header, user_path
from lorasmith.core.text import did_you_mean, quantity
from lorasmith.formats.pickle_header import locate_tensors, read_pickle_header
from lorasmith.models.architecture import architecture_of_parts
from lorasmith.models.diffusers_folder import (
    PART_FOLDERS,
    folder_overrides,
    read_config,
    weight_files,
)
from lorasmith.models.families.base import Config, Family
from lorasmith.models.families.table import (
    BASE_HINT,
    Architecture,
    Overrides,
    detect,
    parse_overrides,
    pick_allowed,
)
from lorasmith.models.hub import fetch, is_hub_id
from lorasmith.models.layout import (
    FileLayout,
    Place,
    WeightFile,
    canonical_shapes,
    diffusers_layout,
    single_file_layout,
    vae_layout,
)
from lorasmith.models.reference import ModelReference

DEMO = ASSETS / "demo_base.safetensors"
AGAIN = "download it again"
MODEL_SUFFIXES = (".safetensors", ".ckpt", ".pt")
# An empty tensor of this name is how some checkpoints say that they predict v.
V_PREDICTION_MARK = "v_pred"
# And so that their noise schedule ends in nothing but noise.
ZERO_SNR_MARK = "ztsnr"
# Settings of training that suit the model, as JSON.
DEFAULTS_KEY = "lorasmith.defaults"
MISSING_PART = {"unet": BASE_HINT, "vae": "give a VAE file as model.vae"}

NUMPY_TYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16}

GIVE = "give a checkpoint"

# First bytes of things that end up under a checkpoint's name.
SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "run `git lfs pull`"),
    (b"<!doctype html", "a web page, not a checkpoint", "download the file, not its page"),
    (b"<html", "a web page, not a checkpoint", "download the file, not its page"),
    (b"gguf", "a GGUF file, which holds quantised weights", "choose the .safetensors version"),
    *((start, "a picture", GIVE) for start in (b"\x89png", b"\xff\xd8\xff", b"gif8", b"riff")),
    (b"rar!", "an archive", "unpack it first"),
    (b"7z\xbc\xaf", "an archive", "unpack it first"),
    (b"\x1f\x8b", "an archive", "unpack it first"),
)


@dataclass(frozen=True, slots=True)
class WeightInFile:
    """Where a weight lies: at ``place`` in ``file``."""

    file: WeightFile
    place: Place


@dataclass(frozen=True, slots=True)
class OpenedCheckpoint:
    """A checkpoint whose headers have been read and understood.

    Args:
        weights: ``{part: {canonical name: where}}``.
        unknown: tensors inside a part that no such model has, as ``(file, name)``.
        notes: what the user should know (tensors that are not used).
        defaults: what the model's file says under :data:`DEFAULTS_KEY` of settings that suit it.
    """

    reference: ModelReference
    architecture: Architecture
    weights: dict[str, dict[str, WeightInFile]]
    unknown: tuple[tuple[Path, str], ...]
    notes: tuple[str, ...]
    defaults: str = ""

    @property
    def source(self) -> str:
        """What the user named, for messages."""
        return str(self.reference.path)


def read_architecture(model: str | Path | ModelReference) -> Architecture:
    """What a model is, from headers alone: no weights are read and torch is not imported.

    Raises:
        CheckpointError: see :func:`open_checkpoint`.
    """
    return open_checkpoint(model).architecture


def open_checkpoint(model: str | Path | ModelReference) -> OpenedCheckpoint:
    """Read the headers of a checkpoint (and of a VAE of the user's own).

    Raises:
        CheckpointError: nothing is there, it cannot be read safely, or it is no model of a family
            that we know; says what it is.
    """
    reference = ModelReference.of(model)
    path = locate(reference.path)
    if path.is_dir():
        family, pieces, overrides = _open_folder(path, reference.family)
    else:
        file = read_header(path)
        family = detect(file.shapes, path, reference.family)
        pieces = [(file, single_file_layout(file.shapes, family, path))]
        overrides = parse_overrides(file.metadata, path)
        overrides = _with_marks(overrides, file)
    notes = []
    texts = (file.metadata.get(DEFAULTS_KEY, "") for file, _ in pieces)
    defaults = next(filter(None, texts), "")
    if reference.vae is not None:
        for _, layout in pieces:
            layout.parts.pop("vae", None)
        piece, vae_overrides = _open_vae(locate(reference.vae, vae=True))
        pieces.append(piece)
        # A VAE that says nothing of itself is the family's, whatever the model's own one was.
        overrides = dataclasses.replace(overrides, vae=vae_overrides)
        notes += _note_other_scale(family, vae_overrides, reference.vae)
    if reference.prediction != "auto":
        overrides = dataclasses.replace(overrides, prediction=reference.prediction)
    elif overrides.prediction is None and family.v_prediction_marker:
        guess, why = guess_prediction(family, pieces)
        overrides = dataclasses.replace(overrides, prediction=guess)
        notes.append(why)
    if (to_noise := reference.zero_terminal_snr) != "auto":
        overrides = dataclasses.replace(overrides, zero_terminal_snr=to_noise)
    checkpoint = _assemble(reference, path, family, pieces, overrides, notes)
    return dataclasses.replace(checkpoint, defaults=defaults)


def open_unchanged(reference: ModelReference) -> OpenedCheckpoint:
    """As :func:`open_checkpoint`; of files that did not change since, as the last time.

    Raises:
        CheckpointError: as :func:`open_checkpoint`.
    """
    files = [_file_state(path) for path in (reference.path, reference.vae) if path is not None]
    if None in files:  # A folder, a hub id, a file that is missing.
        return open_checkpoint(reference)
    return _opened_files(reference, tuple(files))


@functools.lru_cache(maxsize=2)
def _opened_files(reference: ModelReference, files: tuple[object, ...]) -> OpenedCheckpoint:
    return open_checkpoint(reference)


def _file_state(path: str | Path) -> tuple[int, ...] | None:
    """What changes with a file; ``None`` where there is none."""
    try:
        status = (DEMO if str(path) == "demo" else user_path(path)).stat()
    except OSError:
        return None
    is_file = stat.S_ISREG(status.st_mode)
    return (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size) if is_file else None


def _with_marks(overrides: Overrides, file: WeightFile) -> Overrides:
    """With what a single file says by empty tensors, where its header does not say it."""
    if overrides.prediction is None and V_PREDICTION_MARK in file.shapes:
        overrides = dataclasses.replace(overrides, prediction="v")
    if overrides.zero_terminal_snr is None and ZERO_SNR_MARK in file.shapes:
        overrides = dataclasses.replace(overrides, zero_terminal_snr=True)
    return overrides


def _assemble(
    reference: ModelReference,
    path: Path,
    family: Family,
    pieces: list[FileLayout],
    overrides: Overrides,
    notes: list[str],
) -> OpenedCheckpoint:
    weights: dict[str, dict[str, WeightInFile]] = {}
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    unknown: list[tuple[Path, str]] = []
    for file, layout in pieces:
        for part, names in layout.parts.items():
            where = {new: WeightInFile(file, place) for new, place in names.items()}
            weights.setdefault(part, {}).update(where)
        for part, part_shapes in canonical_shapes(layout, file.shapes).items():
            shapes.setdefault(part, {}).update(part_shapes)
        unknown += [(file.path, name) for name in layout.unknown]
        if layout.unused:
            some = ", ".join(layout.unused[:3])
            notes.append(
                f"{quantity(len(layout.unused), 'tensor')} of {file.path.name} not used: {some}"
            )
    problems = [
        Problem(
            str(path),
            f"there is no {part.replace('_', ' ')} in it",
            MISSING_PART.get(part, "give a whole checkpoint"),
        )
        for part in family.parts
        if part not in weights
    ]
    if problems:
        raise CheckpointError(problems)
    architecture = architecture_of_parts(shapes, family, overrides, path)
    return OpenedCheckpoint(reference, architecture, weights, tuple(unknown), tuple(notes))


def _note_other_scale(family: Family, vae_overrides: Config, vae: object) -> list[str]:
    usual = family.vae["scaling_factor"]
    scale = vae_overrides.get("scaling_factor", usual)
    if scale == usual:
        return []
    what = f"its latents are scaled by {scale}, this family's by {usual}"
    return [f"{vae}: {what}: a VAE of another family?"]


def guess_prediction(family: Family, pieces: Sequence[FileLayout]) -> tuple[str, str]:
    """What a model of this family predicts, and how that was told.

    One small weight is read; a file from which it cannot be read so (a pickle, an 8-bit file)
    is taken for what is usual in the family.
    """
    assert family.v_prediction_marker is not None
    name, limit = family.v_prediction_marker
    ask = "if that is wrong, set model.prediction"
    for file, layout in pieces:
        place = layout.parts.get("unet", {}).get(name)
        values = _read_small(file, place.name) if place else None
        if values is not None:
            prediction = "v" if float(values.std()) > limit else "epsilon"
            return prediction, f"it predicts {prediction}, as one of its weights tells; {ask}"
    return family.prediction, f"taken to predict {family.prediction}, as is usual; {ask}"


def _read_small(file: WeightFile, name: str) -> np.ndarray | None:
    info = file.tensors[name] if file.tensors is not None else None
    if info is None or info.dtype not in (*NUMPY_TYPES, "BF16"):
        return None
    with open(file.path, "rb") as handle:
        handle.seek(info.begin)
        data = handle.read(info.end - info.begin)
    if info.dtype == "BF16":  # The upper half of a float32.
        return (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(data, NUMPY_TYPES[info.dtype]).astype(np.float32)


def locate(source: str | Path, *, vae: bool = False) -> Path:
    """The file or folder that the user named, downloaded from the hub if it is a hub id.

    Raises:
        CheckpointError: there is no such thing.
    """
    if str(source) == "demo":
        return DEMO
    path = user_path(source)
    try:
        if path.exists():
            return path
        if path.is_symlink():
            raise CheckpointError.of(source, "this is a link that leads nowhere", "mend the link")
    except OSError as error:  # a folder that may not be entered, a name that is too long
        raise CheckpointError.of(source, f"cannot be read: {error.strerror}") from error
    if isinstance(source, str) and is_hub_id(source):
        return fetch(source, vae=vae)
    near = {p.name: str(p) for p in path.parent.iterdir()} if path.parent.is_dir() else {}
    hint = did_you_mean(path.name, near, "check the path")
    raise CheckpointError.of(source, "there is no such file or folder", hint)


def read_header(path: Path) -> WeightFile:
    """Names, shapes and metadata of a weights file, told by its content, not its ending.

    Raises:
        CheckpointError: it cannot be read, is damaged, is something else, or wants code to run.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(512)
        if not start:
            raise CheckpointError.of(path, "this file is empty (0 bytes)", AGAIN)
        if start[8:9] == b"{":
            return _read_safetensors(path)
        if start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
            return _read_pickle(path)
    except OSError as error:
        raise CheckpointError.of(path, f"cannot be read: {error.strerror}") from error
    for signature, what, hint in SIGNATURES:
        if start.lower().startswith(signature):
            raise CheckpointError.of(path, f"this is {what}", hint)
    what = "a text file" if _is_text(start) else "neither safetensors nor a torch file"
    raise CheckpointError.of(path, f"this is {what}, not a checkpoint", GIVE)


def _is_text(start: bytes) -> bool:
    return all(byte >= 32 or byte in b"\t\r\n\f" for byte in start)


def _read_safetensors(path: Path) -> WeightFile:
    try:
        header = read_safetensors_header(path)
    except ValueError as error:
        raise CheckpointError.of(path, f"damaged: {error}", AGAIN) from error
    shapes = {name: info.shape for name, info in header.tensors.items()}
    return WeightFile(path, shapes, header.metadata, tensors=header.tensors)


def _read_pickle(path: Path) -> WeightFile:
    try:
        header = read_pickle_header(path)
        tensors = locate_tensors(header) if not header.dangerous else None
    except ValueError as error:
        what = f"cannot be read as a torch file: {error}"
        raise CheckpointError.of(path, what, AGAIN) from error
    if header.dangerous:
        what = (
            f"refused: this pickle wants to run code ({', '.join(header.dangerous[:3])}), "
            "which a model never needs; nothing of it was run"
        )
        raise CheckpointError.of(path, what, "get the .safetensors version of this model")
    shapes = {name: tensor.shape for name, tensor in header.tensors.items()}
    return WeightFile(path, shapes, {}, tensors=tensors, pickle=header)


def _open_folder(folder: Path, family_name: str) -> tuple[Family, list[FileLayout], Overrides]:
    files = {part: weight_files(part, folder / part) for part in PART_FOLDERS}
    if not files["unet"]:
        raise _no_unet(folder)
    headers = {part: [read_header(path) for path in paths] for part, paths in files.items()}
    # Raw names with their part in front, so that one detection serves files and folders.
    raw = {
        f"{part}.{name}": shape
        for part, part_files in headers.items()
        for file in part_files
        for name, shape in file.shapes.items()
    }
    family = detect(raw, folder, family_name)
    pieces = [
        (file, diffusers_layout(part, file.shapes))
        for part, part_files in headers.items()
        if part in family.parts
        for file in part_files
    ]
    return family, pieces, folder_overrides(folder)


def _no_unet(folder: Path) -> UserError:
    pipeline = read_config(folder / "model_index.json").get("_class_name")
    if pipeline:
        what = f"this is the folder of a {pipeline} without a UNet that can be read"
        return CheckpointError.of(folder, what, BASE_HINT)
    names = sorted(p.name for p in folder.iterdir() if p.suffix in MODEL_SUFFIXES)
    if names:
        what = "this folder is not a diffusers model, but there are checkpoints in it"
        return CheckpointError.of(folder, what, f"name the file: {folder / names[0]}")
    what = "no model in this folder: no unet/diffusion_pytorch_model.safetensors"
    return CheckpointError.of(folder, what, "give a checkpoint file or a diffusers folder")


def _open_vae(path: Path) -> tuple[FileLayout, Config]:
    config: Config = {}
    if path.is_dir():
        folder = path / "vae" if (path / "vae").is_dir() else path
        files = weight_files("vae", folder)
        if not files:
            what = "no VAE in this folder: no diffusion_pytorch_model.safetensors"
            raise CheckpointError.of(path, what, "give a VAE file or folder as model.vae")
        config = pick_allowed("vae", read_config(folder / "config.json"))
        path = files[0]
    file = read_header(path)
    config = config or parse_overrides(file.metadata, path).vae
    return (file, vae_layout(file.shapes, path)), config
