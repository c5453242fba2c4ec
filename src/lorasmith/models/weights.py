"""Tensors out of weight files: one after the other so that a model is never in memory twice, or,
for tools that need a weight or two at a time, mapped and in any order."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorasmith.core.errors import CheckpointError
from lorasmith.core.text import quantity
from lorasmith.formats.pickle_header import PICKLE_ERRORS, state_dict_of, stubs
from lorasmith.models.layout import Place, WeightFile, canonical_shape
from lorasmith.models.open import AGAIN, WeightInFile
from lorasmith.tensors.files import load_torch_file

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip
OTHER_DTYPES = {
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


def read_weights(
    part: str, weights: dict[str, WeightInFile], dtype: torch.dtype, device: torch.device | str
) -> Iterator[tuple[str, Tensor]]:
    """Each weight of a part by its canonical name, in ``dtype`` on ``device``, in file order.

    Raises:
        CheckpointError: a file is damaged, stores weights in a type that is no number we know,
            or holds NaN or infinity (all such weights are named).
    """
    by_file: dict[Path, tuple[WeightFile, list[str]]] = {}
    for name, weight in weights.items():
        by_file.setdefault(weight.file.path, (weight.file, []))[1].append(name)
    broken: list[str] = []
    for file, names in by_file.values():
        reader = _at_offsets if file.tensors is not None else _pickled
        order: dict[str, list[str]] = {}
        for name in names:
            order.setdefault(weights[name].place.name, []).append(name)
        for stored_name, raw in reader(file, order, dtype):
            # Always a copy of what is mapped, so that the map can be let go of.
            converted = raw.to(dtype, copy=file.tensors is None)
            if not is_finite(converted):
                broken.append(f"{stored_name} ({_why_not_finite(raw, dtype)})")
            for name in order[stored_name]:
                place = weights[name].place
                tensor = placed(converted, place)
                if tensor is not converted:  # so that the rest can be let go of
                    tensor = tensor.clone(memory_format=torch.contiguous_format)
                shape = canonical_shape(part, name, tuple(raw.shape), place)
                yield name, tensor.reshape(shape).to(device)
        if broken:
            some = ", ".join(broken[:3])
            what = f"{quantity(len(broken), 'weight', 'is')} not usable numbers: {some}"
            hint = "the file is broken, or made for higher precision: get another version of it"
            raise CheckpointError.of(file.path, what, hint)


def is_finite(tensor: Tensor) -> bool:
    """Whether a tensor has neither NaN nor infinity, in one pass and without a mask."""
    if tensor.numel() == 0:
        return True
    low, high = torch.aminmax(tensor)
    return bool(torch.isfinite(low) & torch.isfinite(high))


def _why_not_finite(tensor: Tensor, dtype: torch.dtype) -> str:
    values = tensor.float()
    if is_finite(values):
        return f"up to {values.abs().max().item():.3g}, too large for {str(dtype)[6:]}"
    return "NaN" if bool(values.isnan().any()) else "infinity"


def _at_offsets(
    file: WeightFile, names: Iterable[str], dtype: torch.dtype
) -> Iterator[tuple[str, Tensor]]:
    """Read at its offset rather than mapped: no page of the file then counts as our memory, and
    replacing the file while a run goes on cannot change the model.

    A tensor that is not of ``dtype`` already is only good until the next one: they share memory.
    """
    assert file.tensors is not None
    shared = torch.empty(0, dtype=torch.uint8)
    infos = sorted(((file.tensors[name], name) for name in names), key=lambda item: item[0].begin)
    with said_plainly(file.path), open(file.path, "rb") as handle:
        for info, name in infos:
            if info.dtype not in DTYPES:
                raise CheckpointError.of(
                    file.path,
                    f"{name} is stored as {info.dtype}, which is not a kind of weight known here",
                    "choose a float32, float16, bfloat16 or float8 version",
                )
            size = info.end - info.begin
            if DTYPES[info.dtype] == dtype:
                data = torch.empty(size, dtype=torch.uint8)
            else:
                if shared.numel() < size:
                    shared = torch.empty(size, dtype=torch.uint8)
                data = shared[:size]
            handle.seek(info.begin)
            if size and handle.readinto(data.numpy().data) != size:
                raise CheckpointError.of(file.path, f"cut short at {name}", AGAIN)
            yield name, data.view(DTYPES[info.dtype]).reshape(info.shape)


def _pickled(
    file: WeightFile, names: Iterable[str], dtype: torch.dtype
) -> Iterator[tuple[str, Tensor]]:
    state = load_state(file)
    for name in names:
        tensor = state[name]
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            raise CheckpointError.of(file.path, f"{name} is not a tensor of weights", AGAIN)
        yield name, tensor.detach()


def load_state(file: WeightFile) -> dict[str, Any]:
    """The state dict of a torch file, through torch's own safe reader, which builds tensors and
    calls nothing; memory-mapped where the file's format can be.

    Raises:
        CheckpointError: it cannot be read.
    """
    assert file.pickle is not None
    assert not file.pickle.dangerous
    hint = f"{AGAIN}, or get the .safetensors version of this model"
    with said_plainly(file.path, hint):
        value = load_torch_file(file.path, mapped=True, known=stubs(file.pickle))
    return state_dict_of(value)


@contextlib.contextmanager
def said_plainly(path: Path, hint: str = AGAIN) -> Iterator[None]:
    """What goes wrong while ``path`` is read becomes a CheckpointError."""
    try:
        yield
    except (OSError, RuntimeError, *PICKLE_ERRORS) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError.of(path, f"cannot be read: {reason}", hint) from error


def placed(tensor: Tensor, place: Place) -> Tensor:
    """The part of a stored tensor that ``place`` means, a view of it."""
    if place.third is not None:
        return tensor.chunk(3)[place.third]
    return tensor.t() if place.transposed else tensor


class MappedFile:
    """A weights file, mapped: a tensor is a view of the file until something is computed from it,
    and the pages that were read can be given back.

    Nothing is written to it: the map is a private one because torch wants memory that it could
    write to.

    Raises:
        CheckpointError: the file cannot be read.
    """

    def __init__(self, file: WeightFile) -> None:
        self.file = file
        self._map: mmap.mmap | None = None
        self._state: dict[str, Any] = {}
        if file.tensors is None:
            self._state = load_state(file)
            return
        with said_plainly(file.path), open(file.path, "rb") as handle:
            self._map = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_COPY)

    def tensor(self, name: str) -> Tensor:
        """The tensor as stored; a view of the file.

        Raises:
            CheckpointError: it is stored in a type that is not known here.
        """
        if self.file.tensors is None:
            value = self._state.get(name)
            if not isinstance(value, Tensor):
                raise CheckpointError.of(self.file.path, f"{name} is not a tensor", AGAIN)
            return value.detach()
        info = self.file.tensors[name]
        dtype = {**DTYPES, **OTHER_DTYPES}.get(info.dtype)
        if dtype is None:
            what = f"{name} is stored as {info.dtype}, which is not a kind of number known here"
            hint = "choose a float32, float16, bfloat16 or float8 version"
            raise CheckpointError.of(self.file.path, what, hint)
        if info.begin == info.end:
            return torch.empty(info.shape, dtype=dtype)
        assert self._map is not None
        raw = torch.frombuffer(
            self._map, dtype=torch.uint8, count=info.end - info.begin, offset=info.begin
        )
        return raw.view(dtype).reshape(info.shape)

    def release(self, begin: int, end: int) -> None:
        """Give back the pages of these bytes; reading them again maps them again."""
        if self._map is None or not hasattr(self._map, "madvise"):
            return
        page = mmap.PAGESIZE
        first, last = -(-begin // page) * page, end // page * page
        if last > first:
            self._map.madvise(mmap.MADV_DONTNEED, first, last - first)


class MappedWeights:
    """The weights of a checkpoint by where they are stored; each file is mapped once."""

    def __init__(self) -> None:
        self._files: dict[Path, MappedFile] = {}

    def file(self, file: WeightFile) -> MappedFile:
        if file.path not in self._files:
            self._files[file.path] = MappedFile(file)
        return self._files[file.path]

    def read(self, part: str, name: str, weight: WeightInFile) -> Tensor:
        """The weight in its module's shape and its own type; a view of the file where it can be.

        Raises:
            CheckpointError: the file cannot be read, or the weight is no floating-point number.
        """
        tensor = self.file(weight.file).tensor(weight.place.name)
        if not tensor.is_floating_point():
            what = f"{weight.place.name} is stored as {str(tensor.dtype)[6:]}, not as a weight"
            raise CheckpointError.of(weight.file.path, what, AGAIN)
        shape = canonical_shape(part, name, tuple(tensor.shape), weight.place)
        return placed(tensor, weight.place).reshape(shape)

    def release(self, weight: WeightInFile) -> None:
        """Give back the pages that :meth:`read` has read; the weight must not be used after."""
        if weight.file.tensors is not None:
            info = weight.file.tensors[weight.place.name]
            self.file(weight.file).release(info.begin, info.end)
