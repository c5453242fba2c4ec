"""A LoRA file in other programs' names, another precision, or with an image in it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorasmith.adapters.file import LoraFile, file_hashes, load_lora
from lorasmith.core.errors import LoraFileError, Problem, shortened
from lorasmith.core.files import TensorBytes, safetensors_chunks
from lorasmith.formats.key_styles import style_of, styled_name
from lorasmith.formats.kohya_keys import kohya_names
from lorasmith.lora_tools.convert import round_trip as round_trip
from lorasmith.lora_tools.convert.cloneofsimo import is_cloneofsimo, read_cloneofsimo
from lorasmith.lora_tools.convert.round_trip import RawFile, read_raw, record, restore
from lorasmith.lora_tools.family import lora_family, naming_family
from lorasmith.lora_tools.inspect.thumbnail import KEY as PREVIEW_KEY
from lorasmith.lora_tools.lora_file import LoraModule, group_modules
from lorasmith.lora_tools.outputs import carried_metadata
from lorasmith.tensors.files import all_finite, as_bytes

# Rounding these would change what the file does, and they are small.
_LENGTHS = ("dora_scale", "lora_magnitude_vector", "lora_magnitude_vector.weight")
_EXACT = ("alpha", *_LENGTHS)
_MOST_LEFT_OUT = 1 << 20
# The settings that diffusers keeps in a header: ranks and alphas of peft.
_PEFT_KEY = "lora_adapter_metadata"
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class ConvertedLora:
    """A converted file, not yet written: an earlier one as it was, or tensors and metadata.

    Args:
        before, after: styles of names, see :mod:`lorasmith.formats.key_styles`.
        notes: what the user should know.
    """

    before: str
    after: str
    notes: tuple[str, ...] = ()
    exact: RawFile | None = None
    content: Mapping[str, TensorBytes] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Of the file, in bytes."""
        return sum(len(chunk) for chunk in self.chunks())

    @property
    def count(self) -> int:
        return len(self.content if self.exact is None else self.exact.data)

    def chunks(self) -> Iterator[bytes | memoryview]:
        if self.exact is not None:
            yield from self.exact.chunks()
        else:
            yield from safetensors_chunks(self.content, self.metadata)


def convert_lora(
    source: Path,
    *,
    style: str | None = None,
    dtype: torch.dtype | None = None,
    preview: str | None = None,
) -> ConvertedLora:
    """``source`` in another style.

    Where nothing is lost, the new file keeps what is needed to write the old one again, byte for
    byte, and going back does so; see :mod:`lorasmith.lora_tools.convert.round_trip`.

    Args:
        style: one of :data:`lorasmith.formats.key_styles.WRITTEN`; None keeps the names.
        dtype: round to this; None keeps the numbers.
        preview: a data URL to embed.

    Raises:
        LoraFileError: the file is no LoRA, is damaged, holds numbers that cannot be written, or
            the style has no names for its layers or types.
    """
    raw, notes, before = None, list[str](), "cloneofsimo"
    if is_cloneofsimo(source):
        file, notes = read_cloneofsimo(source)
        style = style or "kohya"
    else:
        # Where names alone change, the way back is kept.
        raw = _raw(source) if dtype is None and preview is None else None
        file = load_lora(source)
        before = style_of(file.tensors)
        if raw is not None and (exact := _as_it_was(raw, style)) is not None:
            _check_sound(file, source)
            return ConvertedLora(style_of(raw.header.tensors), style_of(exact.data), exact=exact)
    if style is None and before in ("diffusers", "peft"):
        style = "diffusers"  # Its alphas are not among its tensors.
    new = _renamed(file, source, style)
    if raw is not None and all(old == now for old, now in new.names.items()):
        return ConvertedLora(before, before, exact=raw)
    metadata = {**carried_metadata(file.metadata), **new.metadata}
    if preview is not None:
        metadata[PREVIEW_KEY] = preview
    content = as_bytes(_rounded(new.tensors, dtype, source))
    hashes = file_hashes(content, metadata)
    metadata |= hashes
    if raw is not None and _holds(content, raw, new.names):
        metadata[round_trip.KEY] = record(raw, new.names, metadata, hashes["sshs_model_hash"])
    notes += new.notes
    return ConvertedLora(before, style or before, tuple(notes), None, content, metadata)


def _check_sound(file: LoraFile, source: Path) -> None:
    """
    Raises:
        LoraFileError: modules are malformed, or hold NaN or infinity.
    """
    problems = group_modules(file.tensors, str(source), file.metadata)[2]
    if problems:
        raise LoraFileError(shortened(problems, _SHOWN))
    _rounded(file.tensors, None, source)


def _raw(source: Path) -> RawFile | None:
    """The file's bytes, where it is a safetensors file that can be written again from them."""
    try:
        raw = read_raw(source)
    except (ValueError, OSError):
        return None  # A pickle, or damaged: reading it in earnest tells.
    size = 8 + len(raw.start) + sum(len(data) for data in raw.data.values())
    return raw if size == source.stat().st_size else None


def _as_it_was(raw: RawFile, style: str | None) -> RawFile | None:
    """The file itself, or one that it was made from, where that has the wanted style already."""
    file: RawFile | None = raw
    while file is not None:
        if style is None or _is_named_in(style, file):
            return file
        file = restore(file)
    return None


def _is_named_in(style: str, file: RawFile) -> bool:
    """Whether all names are what the style has, and not what some program also takes for it."""
    names = file.header.tensors
    if style_of(names) != style:
        return False
    if style == "comfy":
        return all(name.startswith(("diffusion_model.", "text_encoders.")) for name in names)
    keys = kohya_names(names, file.header.metadata) if style == "kohya" else {}
    return all(name == f"{key}.{declared}" for name, (key, declared) in keys.items())


@dataclass(frozen=True, slots=True)
class _Renamed:
    """
    Args:
        tensors: under their new names.
        names: old name -> new one, None for what is left out.
        metadata: what the style keeps there.
    """

    tensors: dict[str, Tensor]
    names: dict[str, str | None]
    metadata: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def _renamed(file: LoraFile, source: Path, style: str | None) -> _Renamed:
    """
    Raises:
        LoraFileError: modules are malformed, or the style has no names for them.
    """
    modules, unmatched, problems = group_modules(file.tensors, str(source), file.metadata)
    if problems:
        raise LoraFileError(shortened(problems, _SHOWN))
    if style is None:
        return _Renamed(dict(file.tensors), {name: name for name in file.tensors})
    lora_model = lora_family(modules, unmatched, file.metadata)
    family = naming_family(lora_model, modules, style) if modules else None
    if family is None:
        what = (
            f"is for {lora_model.title}: {lora_model.why}"
            if modules
            else "has no layer of a known name"
        )
        raise LoraFileError.of(
            source, what, f"no other names are known for it: leave out --to {style}"
        )
    keys = kohya_names(file.tensors, file.metadata)
    names = {
        name: styled_name(key, declared, style, family) for name, (key, declared) in keys.items()
    }
    _check_all_named(names, modules, source, style)
    tensors = {
        now: _shaped(file.tensors[name], keys[name][1], now, modules[keys[name][0]])
        for name, now in names.items()
        if now is not None
    }
    tensors |= {name: file.tensors[name] for name in unmatched}
    notes = []
    if unmatched:
        some = ", ".join(unmatched[:3])
        notes.append(f"{len(unmatched)} tensors belong to no layer and keep their names: {some}")
    metadata = _peft_config(modules.values(), family) if style == "diffusers" else {}
    return _Renamed(tensors, {**names, **{name: name for name in unmatched}}, metadata, notes)


def _peft_config(modules: Iterable[LoraModule], family: str) -> dict[str, str]:
    """The header entry for a file of these modules, all of them LoRA.

    diffusers reads it since 0.35; without it, alpha is taken to be the rank.
    """
    by_part: dict[str, list[tuple[str, LoraModule]]] = {}
    for module in modules:
        name = styled_name(module.key, "lora_down.weight", "diffusers", family)
        assert name is not None
        part, _, path = name.removesuffix(".lora_A.weight").partition(".")
        # Without transformers 4's text_model: peft compares the ends of paths.
        by_part.setdefault(part, []).append((path.removeprefix("text_model."), module))
    settings: dict[str, Any] = {}
    for part, layers in by_part.items():
        config = _peft_settings(layers)
        settings |= {f"{part}.{key}": value for key, value in config.items()}
    return {_PEFT_KEY: json.dumps(settings, sort_keys=True)}


def _peft_settings(layers: list[tuple[str, LoraModule]]) -> dict[str, Any]:
    """Arguments of peft's ``LoraConfig``."""
    rank = Counter(module.rank for _, module in layers).most_common(1)[0][0]
    alpha = Counter(module.alpha for _, module in layers).most_common(1)[0][0]
    return {
        "r": rank,
        "lora_alpha": _number(alpha),
        "rank_pattern": {path: m.rank for path, m in layers if m.rank != rank},
        "alpha_pattern": {path: _number(m.alpha) for path, m in layers if m.alpha != alpha},
        "target_modules": sorted(path for path, _ in layers),
        "use_dora": any(module.decomposed for _, module in layers),
        "peft_type": "LORA",
        "bias": "none",
    }


def _number(value: float) -> float | int:
    return int(value) if value.is_integer() else value


def _check_all_named(
    names: Mapping[str, str | None], modules: Mapping[str, LoraModule], source: Path, style: str
) -> None:
    """
    Raises:
        LoraFileError: the style has no names for a type that is among the modules.
    """
    inputs = [module.key for module in modules.values() if module.decomposed_by_input]
    if style == "diffusers" and inputs:
        what = (
            f"{inputs[0]}: its DoRA lengths are of the layer's inputs; diffusers knows those of "
            "outputs alone, and the ones cannot be made of the others exactly"
        )
        raise LoraFileError.of(
            source, what, "choose kohya or comfy, or bake it into the base model"
        )
    unnamed = [name for name, now in names.items() if now is None and not name.endswith(".alpha")]
    if not unnamed:
        return
    types = sorted({module.algorithm for module in modules.values()} - {"lora", "dora"})
    what = f"{style} has no name for {unnamed[0]}" + (f" ({', '.join(types)})" if types else "")
    hint = "choose kohya or comfy"
    if all(_has_low_rank(module) for module in modules.values()):
        hint = f"make a LoRA of it with `lorasmith resize`, or {hint}"
    raise LoraFileError.of(source, what, hint)


def _has_low_rank(module: LoraModule) -> bool:
    """Whether `lorasmith resize` takes it."""
    names = module.tensors.keys()
    is_full = module.algorithm == "full" and "diff_b" not in names
    return is_full or module.algorithm in ("lora", "dora", "loha", "lokr")


def _shaped(tensor: Tensor, declared: str, name: str, module: LoraModule) -> Tensor:
    """DoRA's lengths in the style's shape: peft has a vector of them for a Linear layer."""
    if declared != "dora_scale":
        return tensor
    lengths = module.tensors["dora_scale"]
    if name.endswith("dora_scale"):
        return lengths
    return lengths.reshape(1, -1, 1, 1) if lengths.ndim == 4 else lengths.flatten()


def _rounded(
    tensors: Mapping[str, Tensor], dtype: torch.dtype | None, source: Path
) -> dict[str, Tensor]:
    """
    Raises:
        LoraFileError: a number is NaN or infinite, or too large for ``dtype``.
    """
    new: dict[str, Tensor] = {}
    problems = []
    for name, tensor in tensors.items():
        rounds = dtype is not None and tensor.is_floating_point() and not name.endswith(_EXACT)
        new[name] = tensor.to(dtype) if rounds else tensor
        if not all_finite(new[name]):
            if all_finite(tensor):
                largest, kind = float(tensor.abs().max()), str(dtype).removeprefix("torch.")
                what, hint = f"{largest:.3g} is beyond {kind}", "choose bf16 or fp32"
            else:
                what, hint = "holds NaN or infinity", "the file is broken; get another version"
            problems.append(Problem(str(source), f"{name}: {what}", hint))
    if problems:
        raise LoraFileError(shortened(problems, _SHOWN, "tensors are so"))
    return new


def _holds(
    content: Mapping[str, TensorBytes], raw: RawFile, names: Mapping[str, str | None]
) -> bool:
    """Whether every byte of ``raw`` is in the converted file, or small enough to stand in its
    header."""
    left_out = sum(len(raw.data[n]) for n in raw.data if n in names and names[n] is None)
    return left_out <= _MOST_LEFT_OUT and all(
        name in names and ((now := names[name]) is None or content[now].data == data)
        for name, data in raw.data.items()
    )
