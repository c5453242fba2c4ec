"""``inspect``: what a file is, what it changes, how it was trained, and who reads it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from lorasmith.adapters.file import load_lora
from lorasmith.adapters.from_file import unread_type
from lorasmith.core.errors import CheckpointError, LoraFileError, Problem
from lorasmith.core.files import read_safetensors_header
from lorasmith.formats.block_weights import BLOCKS
from lorasmith.formats.embedding_header import read_embedding_header
from lorasmith.formats.hashes import hash_file
from lorasmith.formats.key_styles import style_of
from lorasmith.formats.unet_layers import GROUPS, family_layers
from lorasmith.lora_tools.convert.cloneofsimo import is_cloneofsimo, is_lora, read_cloneofsimo
from lorasmith.lora_tools.family import LoraFamily, lora_family
from lorasmith.lora_tools.inspect.checkpoint import inspect_checkpoint
from lorasmith.lora_tools.inspect.compatibility import form_of, readers
from lorasmith.lora_tools.inspect.report import (
    Coverage,
    EmbeddingReport,
    LoraReport,
    ModuleReport,
    Report,
)
from lorasmith.lora_tools.inspect.thumbnail import read_preview
from lorasmith.lora_tools.inspect.training_summary import training_words, trigger_words
from lorasmith.lora_tools.linalg.factorize import change_of
from lorasmith.lora_tools.lora_file import (
    TYPES,
    LoraModule,
    LoraModules,
    group_modules,
    lora_modules,
    no_module,
)
from lorasmith.models.embedding_file import load_embedding
from lorasmith.models.open import locate
from lorasmith.tensors.files import DTYPE_NAMES, all_finite, fingerprint

_FAMILIES: dict[tuple[int, ...], str] = {
    (768,): "Stable Diffusion 1",
    (1024,): "Stable Diffusion 2",
    (768, 1280): "Stable Diffusion XL",
}


def inspect(path: str | Path) -> Report:
    """Everything that can be told of a LoRA, an embedding or a checkpoint by itself.

    Args:
        path: a file, a diffusers folder, or "demo" for the model inside the package.

    Raises:
        UserError: it is neither, is damaged, or wants code to run; says what it is.
    """
    path = locate(Path(path))
    if path.is_dir():
        return inspect_checkpoint(path)
    # A web UI's own pickle names what no LoRA's or checkpoint's may.
    if read_embedding_header(path).is_embedding:
        return inspect_embedding(path)
    return inspect_lora(path) if is_lora(path) else inspect_checkpoint(path)


def inspect_lora(path: Path) -> LoraReport:
    """
    Raises:
        LoraFileError: the file is no LoRA, or is damaged.
    """
    file, style, one_as_first = _read(path)
    try:
        hashes, size = hash_file(path), path.stat().st_size
    except OSError as error:
        raise LoraFileError(Problem(str(path), f"cannot be read: {error.strerror}")) from error
    family = lora_family(file.modules, file.unmatched, file.metadata)
    groups = {key: group for key, (_, group) in family_layers(family.name or "sd1").items()}
    modules = tuple(_module(module, groups) for module in file.modules.values())
    tensors = {
        f"{module.key}.{name}": tensor
        for module in file.modules.values()
        for name, tensor in module.tensors.items()
    }
    types = Counter(module.algorithm for module in modules)
    sizes = Counter((m.rank, m.alpha) for m in modules if m.rank and m.alpha is not None)
    forms = {form_of(module.algorithm, module.tensors) for module in file.modules.values()}
    return LoraReport(
        path=path,
        size=size,
        container="safetensors" if hashes.autov3 else "pickle",
        style=style,
        family=family,
        types=dict(types.most_common()),
        sizes=tuple((rank, alpha or 0.0, n) for (rank, alpha), n in sizes.most_common()),
        coverage=_coverage(family, file),
        blocks=_blocks(modules),
        norm=_total(module.norm for module in modules),
        precision=_precision(tensors.values()),
        dead=tuple(module.key for module in modules if module.dead),
        not_finite=tuple(module.key for module in modules if not module.finite),
        unmatched=(*file.unmatched, *(key for word in file.words.values() for key in word)),
        problems=tuple(str(problem.what) for problem in file.problems),
        unread=tuple(
            f"{module.key}: {unread_type(module.tensors)}"
            for module in file.modules.values()
            if module.algorithm == "unknown"
        ),
        words=trigger_words(file.metadata),
        training=training_words(file.metadata),
        read_by=readers(
            style,
            forms,
            unmatched=bool(file.unmatched),
            words=bool(file.words),
            one_as_first=one_as_first,
        ),
        hashes=hashes,
        tensor_hash=fingerprint(tensors.items()),
        preview=read_preview(file.metadata) is not None,
        modules=modules,
        metadata=file.metadata,
        embeddings={
            name: vector_count(next(iter(word.values()))) for name, word in file.words.items()
        },
    )


def vector_count(tensor: Tensor) -> int:
    """How many vectors an embedding's tensor has, (n, width), or (width,) of one."""
    return tensor.shape[0] if tensor.ndim > 1 else 1


def inspect_embedding(path: Path) -> EmbeddingReport:
    """
    Raises:
        UserError: the file is damaged, or no embedding.
    """
    header = read_embedding_header(path)
    tensors = {name: load_embedding(path, name) for name in header.bundled or ("",)}
    widths = {key: one.shape[1] for key, one in sorted(next(iter(tensors.values())).items())}
    sizes = tuple(sorted(widths.values()))
    other = f"a model whose text encoder is {sizes[0]} wide"
    try:
        hashes, size = hash_file(path), path.stat().st_size
    except OSError as error:
        raise CheckpointError.of(path, f"cannot be read: {error.strerror}") from error
    return EmbeddingReport(
        path=path,
        size=size,
        family=_FAMILIES.get(sizes, other),
        embeddings={n or path.stem: len(next(iter(one.values()))) for n, one in tensors.items()},
        word=header.word,
        widths=widths,
        hashes=hashes,
        metadata=dict(read_safetensors_header(path).metadata) if hashes.autov3 else {},
    )


def _read(path: Path) -> tuple[LoraModules, str, bool]:
    """The file's modules, malformed ones told apart, whose names it has, and whether it calls the
    model's only text encoder the first."""
    numbered = is_cloneofsimo(path)
    file = read_cloneofsimo(path)[0] if numbered else load_lora(path, finite=False)
    modules, unmatched, problems = group_modules(file.tensors, str(path), file.metadata)
    if not modules and not problems:
        raise LoraFileError(no_module(path, file.tensors))
    lora = lora_modules(path, file.tensors, file.metadata, modules, unmatched, problems)
    one_as_first = any(key.startswith("lora_te_") for key in modules) and any(
        name.startswith("lora_te1_") for name in file.tensors
    )
    return lora, "cloneofsimo" if numbered else style_of(file.tensors), one_as_first


def _module(module: LoraModule, groups: dict[str, str]) -> ModuleReport:
    tensors = module.tensors.values()
    finite = all(all_finite(tensor) for tensor in tensors)
    norm = _norm(module) if finite else None
    return ModuleReport(
        key=module.key,
        part=module.part,
        block=module.block,
        group=groups.get(module.key, "other"),
        algorithm=module.algorithm,
        rank=module.rank,
        alpha=module.alpha if math.isfinite(module.alpha) else None,
        norm=norm,
        precision=" ".join(sorted({DTYPE_NAMES[t.dtype] for t in tensors if t.numel() > 1})),
        numbers=module.numel,
        dead=_is_dead(module),
        finite=finite,
    )


def _norm(module: LoraModule) -> float | None:
    """Of the change at strength 1; None where the base model's weight decides it."""
    try:
        norm = change_of(module).norm()
    except ValueError:
        return None  # Shapes that do not fit are told as the layer's problem when it is used.
    return norm if math.isfinite(norm) else None


def _is_dead(module: LoraModule) -> bool:
    names = TYPES[module.algorithm].zeros
    there = [module.tensors[name] for name in names if name in module.tensors]
    return bool(there) and not any(bool((tensor != 0).any()) for tensor in there)


def _coverage(family: LoraFamily, file: LoraModules) -> tuple[Coverage, ...]:
    if family.name is None:
        return ()
    layers = family_layers(family.name)
    totals = Counter(layers.values())
    counts = Counter(layers[key] for key in file.modules if key in layers)
    order = sorted(totals, key=lambda each: (each[0] != "unet", each[0], GROUPS.index(each[1])))
    return tuple(Coverage(*each, counts[each], totals[each]) for each in order)


def _blocks(modules: tuple[ModuleReport, ...]) -> dict[str, float]:
    present = {module.block for module in modules}
    return {
        block: _total(module.norm for module in modules if module.block == block)
        for block in BLOCKS
        if block in present
    }


def _total(norms: Iterable[float | None]) -> float:
    """The norm of all changes together: layers are apart from each other, so squares add up."""
    return math.sqrt(sum(norm**2 for norm in norms if norm is not None))


def _precision(tensors: Iterable[Tensor]) -> dict[str, int]:
    counts = Counter[str]()
    for tensor in tensors:
        counts[DTYPE_NAMES[tensor.dtype]] += tensor.numel() * tensor.element_size()
    return dict(counts.most_common())
