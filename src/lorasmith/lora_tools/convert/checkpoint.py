"""A whole checkpoint as ``.safetensors``, tensor by tensor, so that little memory is needed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from lorasmith.core.errors import CheckpointError, Problem, UserError
from lorasmith.core.events import Controls, Observer, Progress, ignore
from lorasmith.core.files import DTYPE_BYTES, MAX_HEADER_BYTES, safetensors_start, write_chunks
from lorasmith.formats.pickle_header import stubs
from lorasmith.lora_tools.convert.result import Conversion, until_stopped
from lorasmith.lora_tools.inspect.thumbnail import KEY as PREVIEW_KEY
from lorasmith.lora_tools.outputs import check_space
from lorasmith.models.layout import WeightFile
from lorasmith.models.open import read_header
from lorasmith.models.weights import is_finite, load_state, said_plainly
from lorasmith.tensors.files import DTYPE_NAMES, raw_bytes

_TORCH = {name: dtype for dtype, name in DTYPE_NAMES.items()}
_FLOATS = ("F64", "F32", "F16", "BF16")


def convert_checkpoint(
    source: Path,
    out: Path,
    *,
    dtype: torch.dtype | None = None,
    preview: str | None = None,
    dry_run: bool = False,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> Conversion:
    """Write a torch file's tensors, or a safetensors file's in another precision.

    Names, shapes and what is no floating-point number stay as they are. What a torch file holds
    beside its state dict (the training program's state) is left out.

    Args:
        dtype: round floating-point numbers to this; 8-bit ones stay.
        preview: a data URL to embed.
        dry_run: write nothing, and read the header alone.

    Raises:
        CheckpointError: it cannot be read, wants code to run, or holds numbers beyond ``dtype``.
        RunError: the disk is full.
        Stopped: asked to stop; nothing is written.
    """
    file = read_header(source)
    if file.pickle is None and dtype is None and preview is None:
        hint = "say --precision for another one"
        raise UserError.of(source, "is a .safetensors checkpoint already", hint)
    stored = _stored(file)
    shapes = {
        name: (DTYPE_NAMES[dtype] if dtype is not None and kind in _FLOATS else kind, shape)
        for name, (kind, shape) in stored.items()
    }
    metadata = {"format": "pt", **file.metadata}
    if preview is not None:
        metadata[PREVIEW_KEY] = preview
    start, order = safetensors_start(shapes, metadata)
    size = len(start) + sum(math.prod(shape) * DTYPE_BYTES[kind] for kind, shape in shapes.values())
    problems = check_space(out, size)
    if problems:
        raise UserError(problems)
    assert len(start) < MAX_HEADER_BYTES

    def chunks() -> Iterator[bytes | memoryview]:
        yield start
        with said_plainly(source):
            read = _Reader(file)
            for number, name in enumerate(order):
                observer(Progress("converting", number, len(order)))
                yield raw_bytes(_converted(read(name), _TORCH[shapes[name][0]], name, source))
        observer(Progress("converting", len(order), len(order)))

    if not dry_run:
        write_chunks(out, until_stopped(chunks(), controls))
    before = "safetensors" if file.pickle is None else "pickle"
    notes = () if file.pickle is None else _left_out(file)
    return Conversion(out, "checkpoint", before, "safetensors", len(order), size, notes)


def _stored(file: WeightFile) -> dict[str, tuple[str, tuple[int, ...]]]:
    """(safetensors' name of the dtype, shape) of every tensor.

    Raises:
        CheckpointError: there are none, or one is of a kind that safetensors does not know.
    """
    tensors = file.tensors if file.pickle is None else file.pickle.tensors
    assert tensors is not None
    stored = {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
    odd = [name for name, (kind, _) in stored.items() if kind not in _TORCH]
    if odd:
        what = f"{odd[0]} is stored as {stored[odd[0]][0]}, which cannot be written"
        raise CheckpointError.of(file.path, what, "get another version of this file")
    if not stored:
        what = "holds no tensors by name, so it is no checkpoint"
        raise CheckpointError.of(file.path, what, "give a checkpoint or a LoRA")
    return stored


class _Reader:
    """One tensor at a time, at its place in the file where that is known."""

    def __init__(self, file: WeightFile) -> None:
        self._file = file
        self._state = load_state(file) if file.tensors is None else None

    def __call__(self, name: str) -> Tensor:
        if self._state is not None:
            tensor: Tensor = self._state[name].detach()
            return tensor
        assert self._file.tensors is not None
        info = self._file.tensors[name]
        data = torch.empty(info.end - info.begin, dtype=torch.uint8)
        with open(self._file.path, "rb") as handle:
            handle.seek(info.begin)
            if handle.readinto(data.numpy().data) != len(data):
                raise ValueError(f"cut short at {name}")
        return data.view(_TORCH[info.dtype]).reshape(info.shape)


def _converted(tensor: Tensor, dtype: torch.dtype, name: str, source: Path) -> Tensor:
    """
    Raises:
        CheckpointError: a number is too large for ``dtype``.
    """
    if tensor.dtype == dtype:
        return tensor
    rounded = tensor.to(dtype)
    if not is_finite(rounded) and is_finite(tensor):
        largest = tensor.abs().max().item()
        what = f"{name}: {largest:.3g} is beyond {str(dtype).removeprefix('torch.')}"
        raise CheckpointError(Problem(str(source), what, "choose bf16 or fp32"))
    return rounded


def _left_out(file: WeightFile) -> tuple[str, ...]:
    assert file.pickle is not None
    wanted = stubs(file.pickle)
    return ("the training program's own state is left out",) if wanted else ()
