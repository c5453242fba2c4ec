"""Files of every form of adapter at a published model's size, and what they do to its weights.

The base model is a checkpoint with a header alone; the numbers of a weight are drawn from its name,
so that every program that is compared has the same without 2 to 7 GB of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lorasmith.adapters.additive import AdditiveAdapter
from lorasmith.adapters.base import Adapter, AdapterOptions, Layer
from lorasmith.adapters.registry import adapter_class, fixed_options
from lorasmith.adapters.targets import Target, targets_of
from lorasmith.adapters.types.lokr import factorization
from lorasmith.lora_tools.bake.apply import added_weights
from lorasmith.lora_tools.inputs import parse_sources
from lorasmith.models.layout import canonical_shape
from lorasmith.models.open import OpenedCheckpoint, open_checkpoint
from lorasmith.models.skeleton import skeleton_roots, stored_shapes
from lorasmith.models.weights import placed
from tests.peers.base_model import base_values
from tests.published import PUBLISHED, write_hole

FAMILIES = {"sd1": "sd15", "sdxl": "sdxl"}
RANK, ALPHA = 2, 3.0
LARGEST_PAIR = 1 << 20

Make = Callable[[Layer, torch.Generator], dict[str, Tensor] | None]


@dataclass(frozen=True)
class BaseModel:
    """
    Args:
        shapes: by stored name.
        places: (part, canonical name of the weight) -> stored name, how it lies there.
        few: the layers that are compared: of each kind the first and last of its smallest size.
    """

    family: str
    opened: OpenedCheckpoint
    shapes: dict[str, tuple[int, ...]]
    targets: list[Target]
    few: list[Target]

    @classmethod
    def written_to(cls, family: str, path: Path) -> BaseModel:
        shapes = write_hole(path, PUBLISHED[FAMILIES[family]])
        opened = open_checkpoint(path)
        roots = skeleton_roots(opened.architecture, stored_shapes(opened))
        targets = [target for root in roots for target in targets_of(root, conv=True)]
        kinds: dict[object, list[Target]] = {}
        for target in targets:
            words = [re.sub(r"^\d+$", "#", word) for word in target.path.split(".")[-3:]]
            kinds.setdefault((target.root.folder, *words), []).append(target)
        few = {target.key: target for kind in kinds.values() for target in _small(kind)}
        return cls(family, opened, shapes, targets, list(few.values()))

    def stored(self, target: Target) -> str:
        return self.opened.weights[target.root.folder][f"{target.path}.weight"].place.name

    def layer(self, target: Target) -> Layer:
        """The layer with its weight; of those that are not compared, one of ones."""
        part, name = target.root.folder, f"{target.path}.weight"
        place = self.opened.weights[part][name].place
        shape = self.shapes[place.name]
        is_few = any(target is each for each in self.few)
        stored = base_values(place.name, shape) if is_few else torch.ones(()).expand(shape)
        shape = canonical_shape(part, name, tuple(stored.shape), place)
        weight = placed(stored, place).reshape(shape)
        outputs, inputs, *kernel = shape
        with torch.device("meta"):
            layer: Layer = (
                nn.Conv2d(inputs, outputs, tuple(kernel))  # type: ignore[arg-type]
                if kernel
                else nn.Linear(inputs, outputs)
            )
        layer.weight = nn.Parameter(weight, requires_grad=False)
        return layer


def _small(kind: list[Target]) -> list[Target]:
    least = min(target.layer.weight.numel() for target in kind)
    small = [target for target in kind if target.layer.weight.numel() == least]
    return [small[0], small[-1]] if least <= LARGEST_PAIR else small[:1]


def shaken(adapter: Adapter, layer: Layer, generator: torch.Generator) -> dict[str, Tensor]:
    """The tensors of an adapter whose change is about as large as a third of the weight."""
    with torch.no_grad():
        for name, p in adapter.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if name == "dora_scale":
                p.mul_(1 + 0.2 * noise)
            elif name == "rescale":
                p.add_(0.2 * noise)
            else:
                p.copy_(0.3 * noise)
        if isinstance(adapter, AdditiveAdapter):
            wanted = 0.3 * layer.weight.norm() / adapter.norm()
            adapter.shrink(wanted)
    return {name: tensor.detach().clone() for name, tensor in adapter.state_dict().items()}


def of(
    algorithm: str, *, only_3x3: bool = False, only_linear: bool = False, **options: Any
) -> Make:
    """Adapters as training begins them, shaken."""
    chosen = fixed_options(algorithm, AdapterOptions(**options))
    boft = algorithm == "boft"

    def make(layer: Layer, generator: torch.Generator) -> dict[str, Tensor] | None:
        kernel = layer.weight.shape[2:]
        if (only_3x3 and math.prod(kernel) == 1) or (only_linear and kernel):
            return None
        rank = {"oft": 8, "boft": 10}.get(algorithm, RANK)
        if boft:
            from lorasmith.adapters.types.boft import BOFT

            if len(BOFT.block_shape(layer.weight.shape[0], rank)) != 4:
                return None
        adapter = adapter_class(algorithm).create(
            layer, rank=rank, alpha=ALPHA, generator=generator, options=chosen
        )
        return shaken(adapter, layer, generator)

    return make


def lokr_first_pair(layer: Layer, generator: torch.Generator) -> dict[str, Tensor]:
    """w1 low-rank beside a whole w2, which LyCORIS makes where w2 is the smaller."""
    outputs, inputs, *kernel = layer.weight.shape
    (a, c), (b, d) = (factorization(side, -1) for side in (outputs, inputs))
    size = 0.3 / math.sqrt(math.prod(layer.weight.shape[1:]))
    shapes = {"lokr_w1_a": (c, RANK), "lokr_w1_b": (RANK, d), "lokr_w2": (a, b, *kernel)}
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    tensors["lokr_w2"] *= size
    return {**tensors, "alpha": torch.tensor(ALPHA)}


def whole(*, bias: bool) -> Make:
    def make(layer: Layer, generator: torch.Generator) -> dict[str, Tensor] | None:
        shape = layer.weight.shape
        if math.prod(shape) > 1280 * 1280 * 4 or (bias and not layer.has_bias):  # type: ignore[union-attr]
            return None
        size = 0.3 / math.sqrt(math.prod(shape[1:]))
        tensors = {"diff": torch.randn(shape, generator=generator) * size}
        if bias:
            tensors["diff_b"] = torch.randn(shape[0], generator=generator) * 0.1
        return tensors

    return make


def constrained(algorithm: str, rescaled: bool, *, binds: bool) -> Make:
    """Rotations with a constraint that lets a tenth of them through, or is out of everyone's reach.

    LyCORIS' unit of it is the number of outputs, ComfyUI's is 1.
    """

    def make(layer: Layer, generator: torch.Generator) -> dict[str, Tensor] | None:
        tensors = of(algorithm, rescaled=rescaled)(layer, generator)
        if tensors is not None:
            norm = (tensors["oft_blocks"] - tensors["oft_blocks"].mT).norm()
            tensors["alpha"] = norm * 0.1 / layer.weight.shape[0] if binds else norm * 2
        return tensors

    return make


_SIDES = {
    "": {},
    " dora in": {"weight_decompose": True},
    " dora out": {"weight_decompose": True, "decompose_on_output": True},
}
_FEW_SIDES = ("lokr full", "lokr both", "loha tucker")
_ADDED: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("lora", {}),
    "loha": ("loha", {}),
    "lokr": ("lokr", {}),
    "lokr full": ("lokr", {"full_matrix": True, "factor": 8}),
    "lokr both": ("lokr", {"decompose_both": True}),
    "lora tucker": ("locon", {"tucker": True, "only_3x3": True}),
    "loha tucker": ("loha", {"tucker": True, "only_3x3": True}),
    "lokr tucker": ("lokr", {"tucker": True, "only_3x3": True}),
}
FORMS: dict[str, Make] = {
    f"{form}{side}": of(algorithm, **options, **side_options)
    for side, side_options in _SIDES.items()
    for form, (algorithm, options) in _ADDED.items()
    if not side or form not in _FEW_SIDES
} | {
    "lora rs": of("lora", rs_lora=True),
    "lokr w1 pair": lokr_first_pair,
    "ia3 out": of("ia3", train_on_input=False, only_linear=True),
    "ia3 in": of("ia3", train_on_input=True, only_linear=True),
    "full": whole(bias=False),
    "full bias": whole(bias=True),
    **{
        f"{algorithm}{bound}{' rescaled' if rescaled else ''}": make
        for algorithm in ("oft", "boft")
        for rescaled in (False, True)
        for bound, make in (
            ("", of(algorithm, rescaled=rescaled)),
            (" loose", constrained(algorithm, rescaled, binds=False)),
            (" bound", constrained(algorithm, rescaled, binds=True)),
        )
    },
}  # fmt: skip
EVERY_LAYER = ("lora",)
"""Of these all layers are in the file; of others, those that are compared."""


def write_forms(family: str, folder: Path, forms: Iterable[str]) -> None:
    """``FORM.safetensors`` and ``FORM.pt``: the names of weights that it changes, the new ones."""
    base = BaseModel.written_to(family, folder / "base.safetensors")
    torch.save({"shapes": base.shapes, "few": [base.stored(t) for t in base.few],
                "names": _names(base)}, folder / "base.pt")  # fmt: skip
    for form in forms:
        tensors: dict[str, Tensor] = {}
        for number, target in enumerate(base.targets if form in EVERY_LAYER else base.few):
            generator = torch.Generator().manual_seed(number)
            layer = base.layer(target)
            layer.has_bias = f"{target.path}.bias" in base.opened.weights[target.root.folder]  # type: ignore[assignment]
            own = FORMS[form](layer, generator)
            tensors |= {f"{target.key}.{name}": t.contiguous() for name, t in (own or {}).items()}
        path = folder / f"{form}.safetensors"
        save_file(tensors, path)
        torch.save(merged(base, path), folder / f"{form}.pt")


def merged(base: BaseModel, path: Path) -> dict[str, Any]:
    """What `lorasmith bake` makes of the compared weights, and the names of all that it changes."""
    changes: Mapping[str, Any] = next(
        iter(added_weights(base.opened, parse_sources([str(path)])).changes.values())
    )
    compared = {base.stored(target) for target in base.few}
    compared |= {name.removesuffix("weight") + "bias" for name in compared}
    new = {}
    for name in sorted(compared & changes.keys()):
        new[name] = base_values(name, base.shapes[name])
        changes[name](new[name])
    return {"changed": sorted(changes), "new": new}


def _names(base: BaseModel) -> dict[str, list[tuple[str, str]]]:
    names: dict[str, list[tuple[str, str]]] = {}
    for part, weights in base.opened.weights.items():
        for name, weight in weights.items():
            names.setdefault(weight.place.name, []).append((part, name))
    return names
