"""What LoRAs change in the tensors of a checkpoint's files.

Where a layer's weight is stored is the checkpoint's affair (one tensor of OpenCLIP holds three
layers), what an adapter does to it the adapter's: nothing is changed here but a float32 copy of the
stored tensor. Several LoRAs add up, each as it would change the base model by itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from lorasmith.adapters.additive import AdditiveAdapter
from lorasmith.adapters.base import Adapter, Layer, Norm
from lorasmith.adapters.from_file import (
    READ_TYPES,
    UnknownType,
    belongs_nowhere,
    build_adapter,
    match_names,
    twice,
)
from lorasmith.adapters.targets import Target
from lorasmith.adapters.types.differences import BIASES, Difference
from lorasmith.adapters.types.lora import LoRA, whole_down
from lorasmith.core.errors import LoraFileError, Problem, shortened
from lorasmith.formats.adapter_roots import AdapterRoot
from lorasmith.formats.block_weights import BlockMap
from lorasmith.formats.embedding_keys import words_in
from lorasmith.lora_tools.checkpoint_writer import Change
from lorasmith.lora_tools.convert.cloneofsimo import read_lora
from lorasmith.lora_tools.inputs import LoraSource
from lorasmith.lora_tools.linalg.low_rank import NotFinite, check_finite
from lorasmith.models.layout import canonical_shape
from lorasmith.models.open import OpenedCheckpoint, WeightInFile
from lorasmith.models.skeleton import skeleton_roots, stored_shapes
from lorasmith.models.weights import placed

_KNOWN = f"leave this file out; {READ_TYPES}"


@dataclass(frozen=True, slots=True)
class AppliedLora:
    """What one LoRA changes.

    Args:
        modules: by part, how many layers.
        unmatched: tensors that belong to no layer of the model and have no effect.
        silent: modules whose strength is 0.
        words: names of embeddings that the file carries, which no checkpoint can hold.
    """

    source: LoraSource
    metadata: dict[str, str]
    modules: dict[str, int]
    unmatched: tuple[str, ...]
    silent: int
    words: tuple[str, ...] = ()


@dataclass(slots=True)
class AddedWeights:
    """``changes[file][stored name]`` changes that tensor."""

    loras: list[AppliedLora] = field(default_factory=list)
    changes: dict[Path, dict[str, Change]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Module:
    target: Target
    tensors: dict[str, Tensor]
    strength: float


@dataclass(frozen=True, slots=True)
class _Layer:
    """A weight within a stored tensor, and what is to be added to it."""

    part: str
    name: str
    stored: WeightInFile
    modules: list[_Module] = field(default_factory=list)

    def change(self, values: Tensor) -> None:
        place = self.stored.place
        shape = canonical_shape(self.part, self.name, tuple(values.shape), place)
        weight = placed(values, place).view(shape)
        if self.name.endswith(".bias"):
            for module in self.modules:
                change = next(module.tensors[name] for name in BIASES if name in module.tensors)
                weight.add_(change.float().flatten(), alpha=module.strength)
        else:
            _add(weight, self.modules)


def added_weights(opened: OpenedCheckpoint, sources: Sequence[LoraSource]) -> AddedWeights:
    """Read the LoRAs and find the tensor of each of their layers.

    Raises:
        LoraFileError: a file cannot be read, is no LoRA for this model, or has a module that is
            malformed, holds NaN or is of a type that is not known; every problem.
    """
    roots = skeleton_roots(opened.architecture, stored_shapes(opened))
    blocks = opened.architecture.blocks
    added = AddedWeights()
    layers: dict[tuple[str, str], _Layer] = {}
    problems: list[Problem] = []
    for source in sources:
        try:
            baked, modules = _read(source, roots, blocks)
        except LoraFileError as error:
            problems += error.problems
            continue
        added.loras.append(baked)
        for module in modules:
            for leaf in _leaves(module):
                part, name = module.target.root.folder, f"{module.target.path}.{leaf}"
                if name not in opened.weights[part]:
                    what = f"{module.target.key} changes a {leaf} that the layer has not"
                    problems.append(Problem(str(source.path), what, "choose another LoRA"))
                    continue
                layer = _Layer(part, name, opened.weights[part][name])
                layers.setdefault((part, name), layer).modules.append(module)
    if problems:
        raise LoraFileError(problems)
    parts: dict[tuple[Path, str], list[_Layer]] = {}
    for layer in layers.values():
        where = layer.stored.file.path, layer.stored.place.name
        parts.setdefault(where, []).append(layer)
    for (path, name), group in parts.items():
        added.changes.setdefault(path, {})[name] = partial(_change_all, group)
    return added


def _change_all(layers: Sequence[_Layer], values: Tensor) -> None:
    for layer in layers:
        layer.change(values)


def _leaves(module: _Module) -> list[str]:
    """Which of the layer's tensors it changes."""
    names = module.tensors.keys() - {"alpha"}
    bias = names & set(BIASES)
    return ["weight"] * bool(names - bias) + ["bias"] * bool(bias)


def _read(
    source: LoraSource, roots: Sequence[AdapterRoot], blocks: BlockMap
) -> tuple[AppliedLora, list[_Module]]:
    file = read_lora(source.path)
    matches = match_names(file.tensors, roots)
    modules: list[_Module] = []
    problems = twice(matches, str(source.path))
    counts: dict[str, int] = {}
    silent = 0
    for key, tensors in matches.modules.items():
        target = matches.layers[key]
        try:
            build_adapter(target, tensors)  # on the meta device: nothing is read but alpha
            check_finite(*tensors.values())
        except NotFinite as error:
            hint = "make or download it again"
            problems.append(Problem(str(source.path), f"{key}: {error}", hint))
            continue
        except UnknownType as error:
            problems.append(Problem(str(source.path), f"{key}: {error}", _KNOWN))
            continue
        except ValueError as error:
            hint = "use a LoRA of the base model's family"
            problems.append(Problem(str(source.path), f"{key}: {error}", hint))
            continue
        part = target.root.folder
        strength = source.weight(part, blocks.block(target))
        counts[part] = counts.get(part, 0) + 1
        if strength == 0.0:
            silent += 1
        else:
            modules.append(_Module(target, tensors, strength))
    if not counts and not problems:
        problems.append(belongs_nowhere(str(source.path), file.tensors))
    if problems:
        raise LoraFileError(shortened(problems, 5, "modules do not fit"))
    unmatched = tuple(matches.unmatched)
    words = tuple(words_in(file.tensors))
    return AppliedLora(source, file.metadata, counts, unmatched, silent, words), modules


@torch.no_grad()
def _add(weight: Tensor, modules: Sequence[_Module]) -> None:
    """Add to ``weight``, float32 and in its layer's shape, in place."""
    original = weight
    if len(modules) > 1 and not all(_is_plain(module) for module in modules):
        original = weight.clone()
    for module in modules:
        tensors = {n: t for n, t in module.tensors.items() if n not in BIASES}
        with _layer_with(module.target, original) as layer:
            adapter = build_adapter(module.target, tensors)
            _add_adapter(weight, original, adapter, layer, module.strength)


@contextlib.contextmanager
def _layer_with(target: Target, weight: Tensor) -> Iterator[Layer | Norm]:
    """The target's layer, which is empty, with a weight while the block runs."""
    layer, empty = target.module, target.module.weight
    layer.weight = nn.Parameter(weight, requires_grad=False)
    try:
        yield layer
    finally:
        layer.weight = empty


def _add_adapter(
    weight: Tensor, original: Tensor, adapter: Adapter, layer: Layer | Norm, strength: float
) -> None:
    if isinstance(adapter, Difference):
        assert adapter.change is not None
        weight.add_(adapter.change, alpha=strength)
        return
    assert not isinstance(layer, Norm)
    if isinstance(adapter, AdditiveAdapter) and adapter.dora_scale is None:
        if isinstance(adapter, LoRA) and weight.is_contiguous():
            mid = None if adapter.lora_mid is None else adapter.lora_mid.weight
            down = whole_down(adapter.lora_down.weight, mid).flatten(1)
            up = adapter.lora_up.weight.flatten(1)
            weight.flatten(1).addmm_(up, down, alpha=adapter.scale * strength)
        else:
            weight.add_(adapter.added(), alpha=strength)
        return
    weight.add_(adapter.merged_weight(layer, strength).sub_(original))


def _is_plain(module: _Module) -> bool:
    """Whether its change does not depend on the layer's weight."""
    names = module.tensors.keys()
    plain = ("lora_", "hada_", "lok", "diff", "w_norm")
    return "dora_scale" not in names and any(name.startswith(plain) for name in names)
