"""From the tensors of a file to adapters, with everything that does not fit named at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lorasmith.adapters.base import Adapter, Norm
from lorasmith.adapters.registry import adapter_class, algorithm_of
from lorasmith.adapters.targets import Target, modules_of, targets_of
from lorasmith.adapters.types.differences import BIAS, Difference, WithBias
from lorasmith.config.adapter_types import ADAPTERS
from lorasmith.core.errors import LoraFileError, Problem
from lorasmith.formats.adapter_roots import AdapterRoot
from lorasmith.formats.embedding_keys import split_bundle
from lorasmith.formats.layer_names import describe, read_name

# A LoRA of another family misses hundreds of layers; a few say as much.
_SHOWN_PROBLEMS = 5


@dataclass(slots=True)
class NamedTensors:
    """A file's tensors by the layer that they belong to.

    Args:
        modules: layer's key -> declared name -> tensor.
        layers: layer's key -> the layer.
        unmatched: names in the file that belong to no layer of the model.
        twice: names of tensors that the file holds under another name too.
    """

    modules: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    layers: dict[str, Target] = field(default_factory=dict)
    unmatched: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)


def match_names(tensors: Mapping[str, Tensor], roots: Sequence[AdapterRoot]) -> NamedTensors:
    """Find the layer of each tensor. Names of several styles may stand side by side."""
    layers: dict[tuple[str, str], Target] = {}
    for root in roots:
        for target in modules_of(root):
            for path in root.paths(target.path):
                layers.setdefault((root.folder or root.part, path.replace(".", "_")), target)
    matches = NamedTensors()
    for name, tensor in split_bundle(tensors)[0].items():
        parsed = read_name(name)
        layer = layers.get((parsed.part, parsed.path)) if parsed is not None else None
        if parsed is None or layer is None:
            matches.unmatched.append(name)
            continue
        if ".lora_magnitude_vector" in name:
            tensor = tensor.flatten()  # (1, O, 1, 1) of a convolution is per output all the same
        matches.layers[layer.key] = layer
        module_tensors = matches.modules.setdefault(layer.key, {})
        if parsed.tensor in module_tensors:
            matches.twice.append(name)
        module_tensors[parsed.tensor] = tensor
    return matches


def twice(matches: NamedTensors, where: str) -> list[Problem]:
    """That a file holds the same tensor under names of two styles."""
    what = "is of a layer that has such a tensor under another name too"
    hint = "keep one of the two"
    return [Problem(where, f"{name} {what}", hint) for name in matches.twice]


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What did not fit when a file was loaded; all empty for a complete file of this family.

    Args:
        unmatched: names in the file that belong to no layer of the model.
        missing: keys of layers that kohya's LoRA adapts and the file does not, in the parts
            that the file adapts at all.
    """

    unmatched: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def build_adapters(
    tensors: Mapping[str, Tensor],
    roots: Sequence[AdapterRoot],
    where: str,
    algorithm: str | None = None,
) -> tuple[list[tuple[Target, Adapter]], LoadReport]:
    """The adapters that a file holds, in the order of the model's layers.

    Args:
        algorithm: a key of :data:`ADAPTERS`, for modules whose tensors several types have.

    Raises:
        LoraFileError: see :meth:`AdapterNetwork.load`.
    """
    matches = match_names(tensors, roots)
    problems = twice(matches, where)
    modules: list[tuple[Target, Adapter]] = []
    for target in (target for root in roots for target in modules_of(root)):
        if target.key not in matches.modules:
            continue
        try:
            modules.append((target, build_adapter(target, matches.modules[target.key], algorithm)))
        except UnknownType as error:
            problems.append(Problem(where, f"{target.key}: {error}", READ_TYPES))
        except ValueError as error:
            hint = "use a LoRA of the base model's family"
            problems.append(Problem(where, f"{target.key}: {error}", hint))
    if not modules and not problems:
        problems.append(belongs_nowhere(where, tensors))
    if problems:
        raise LoraFileError(_shortened(problems, where))
    return modules, LoadReport(tuple(matches.unmatched), _missing(matches, roots))


def belongs_nowhere(where: str, names: Collection[str]) -> Problem:
    """That no tensor of a file is of the model, and what the file is, where its names tell."""
    if kind := describe(names):
        what = f"is {kind}, which is not for this model ({next(iter(names))}, …)"
    else:
        first = next(iter(names), "nothing")
        what = f"none of its tensors ({len(names)}) belongs to this model (the first is {first})"
    return Problem(where, what, "use a LoRA of the base model's family")


class UnknownType(ValueError):
    """A module's tensors are those of a type that is not read here."""


# Tensors that betray types which are not read.
_UNREAD = {
    "bm.weight": "GLoRA with a core",
    "oft_diag": "OFT of LyCORIS before 3.0, whose blocks are finished rotations",
    "oft_R": "OFT of peft and OneTrainer, which turns the layer's inputs",
    "boft_R": "BOFT of peft, which turns the layer's inputs",
    "bias_values": "LoCon with sparse biases, of its first versions",
    "lora_B.bias": "LoRA of peft with a bias of its own",
    "set_weight": "a weight to be set (ComfyUI)",
    "reshape_weight": "a LoRA that makes the layer larger (ComfyUI)",
    "scalar": "of LyCORIS' first versions, with a scalar beside its factors",
}
READ_TYPES = "read are " + ", ".join((*ADAPTERS, "glora", "LyCORIS' full", "trained norms"))


def unread_type(tensors: Collection[str]) -> str:
    """What a module is that no type here claims, by its tensors' declared names."""
    kind = next((kind for name, kind in _UNREAD.items() if name in tensors), "of no known type")
    return f"{kind} ({', '.join(sorted(tensors))})"


def build_adapter(
    target: Target, tensors: Mapping[str, Tensor], algorithm: str | None = None
) -> Adapter:
    """The adapter that a module's tensors, by declared name, are for a layer.

    Raises:
        UnknownType: they are of no type that is read.
        ValueError: their shapes do not fit the layer.
    """
    if "ia3_l" in tensors:
        tensors = _from_peft_ia3(target, tensors["ia3_l"])
    if BIAS in tensors and not Difference.claims(tensors):
        others = {name: tensor for name, tensor in tensors.items() if name != BIAS}
        inner = build_adapter(target, others, algorithm)
        return WithBias.of(inner, target.layer, tensors)
    requested = None if algorithm is None else adapter_class(algorithm)
    kind = (
        requested if requested is not None and requested.claims(tensors) else algorithm_of(tensors)
    )
    if kind is None:
        raise UnknownType(f"is {unread_type(tensors)}")
    if isinstance(target.module, Norm) and kind is not Difference:
        raise ValueError(f"a norm cannot be changed by {', '.join(sorted(tensors))}")
    return kind.from_tensors(target.module, tensors)  # type: ignore[arg-type]


def _from_peft_ia3(target: Target, factors: Tensor) -> dict[str, Tensor]:
    """peft's factors, (O, 1) or (1, I), start from 1; it scales the bias with the outputs.

    Raises:
        UnknownType: they do more than LyCORIS' can.
    """
    if isinstance(target.layer, nn.Conv2d):
        raise UnknownType("is (IA)^3 of a convolution by peft, which does not say its side")
    on_input = factors.shape[0] == 1
    if not on_input and target.layer.bias is not None:
        raise UnknownType("is (IA)^3 by peft, which scales this layer's bias too")
    return {"weight": factors.float().flatten() - 1.0, "on_input": torch.tensor(int(on_input))}


def _missing(matches: NamedTensors, roots: Sequence[AdapterRoot]) -> tuple[str, ...]:
    parts = {target.part for target in matches.layers.values()}
    usual = [target for root in roots if root.part in parts for target in targets_of(root)]
    return tuple(target.key for target in usual if target.key not in matches.modules)


def _shortened(problems: list[Problem], where: str) -> list[Problem]:
    rest = len(problems) - _SHOWN_PROBLEMS
    if rest <= 0:
        return problems
    return [*problems[:_SHOWN_PROBLEMS], Problem(where, f"{rest} more modules do not fit")]
