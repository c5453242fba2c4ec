"""The layers of a model from its weights' names and shapes alone.

Tools that work on files need to know which layers there are, what blocks they lie in and what
LoRA files call them; none of them runs a layer. Modules here are empty, on the meta device, and
have the names of diffusers' and transformers' classes without being those: neither library is
imported, which would take longer than most of the work.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from torch import nn

from lorasmith.formats.adapter_roots import AdapterRoot
from lorasmith.models.families.base import DENOISER, Shapes
from lorasmith.models.families.table import Architecture
from lorasmith.models.layout import canonical_shape
from lorasmith.models.open import OpenedCheckpoint

# The classes of modules that adapters are chosen by, from the ends of module paths:
# the denoiser's are its kind's.
Classes = Sequence[tuple[str, str]]
TEXT_CLASSES: Classes = ((r"\.self_attn$", "CLIPAttention"), (r"\.mlp$", "CLIPMLP"))


def skeleton_roots(architecture: Architecture, shapes: Mapping[str, Shapes]) -> list[AdapterRoot]:
    """Where adapters attach in a model whose weights have these canonical names and shapes.

    Args:
        shapes: ``{part: {canonical name: shape}}``, see :func:`stored_shapes`.
    """
    parts = architecture.family.parts[2:]
    encoders = {part: skeleton(shapes[part], TEXT_CLASSES) for part in parts}
    denoiser = skeleton(shapes[DENOISER], architecture.family.denoiser.classes)
    return architecture.adapter_roots(denoiser, encoders)


def stored_shapes(checkpoint: OpenedCheckpoint) -> dict[str, dict[str, tuple[int, ...]]]:
    """The shapes of a checkpoint's weights, as modules want them."""
    return {
        part: {
            name: canonical_shape(part, name, weight.file.shapes[weight.place.name], weight.place)
            for name, weight in weights.items()
        }
        for part, weights in checkpoint.weights.items()
    }


def skeleton(shapes: Shapes, classes: Classes) -> nn.Module:
    """Modules for every Linear (O, I), Conv2d (O, I, kh, kw) and norm (C,) weight, at its path.

    All norms are GroupNorm, which a CLIP's are not: only their sizes are asked for.
    """
    root = nn.Module()
    modules: dict[str, nn.Module] = {"": root}
    for name, shape in shapes.items():
        path, _, leaf = name.rpartition(".")
        if leaf != "weight" or len(shape) not in (1, 2, 4) or "embeddings." in name:
            continue
        parent, _, attribute = path.rpartition(".")
        layer = _layer(shape, f"{path}.bias" in shapes)
        _module(modules, parent, classes).add_module(attribute, layer)
    return root


def _layer(shape: tuple[int, ...], bias: bool) -> nn.Module:
    if len(shape) == 1:
        return nn.GroupNorm(1, *shape, device="meta")
    outputs, inputs, *kernel = shape
    if not kernel:
        return nn.Linear(inputs, outputs, bias, device="meta")
    padding = tuple(side // 2 for side in kernel)
    return nn.Conv2d(inputs, outputs, tuple(kernel), padding=padding, bias=bias, device="meta")  # type: ignore[arg-type]


def _module(modules: dict[str, nn.Module], path: str, classes: Classes) -> nn.Module:
    """The module at ``path``, made with its parents if it is not there."""
    if path not in modules:
        parent, _, attribute = path.rpartition(".")
        modules[path] = _class_at(path, classes)()
        _module(modules, parent, classes).add_module(attribute, modules[path])
    return modules[path]


def _class_at(path: str, classes: Classes) -> type[nn.Module]:
    matching: Iterable[str] = (name for end, name in classes if re.search(end, path))
    name = next(iter(matching), None)
    return nn.Module if name is None else type(name, (nn.Module,), {})
