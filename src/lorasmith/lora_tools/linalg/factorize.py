"""The weight change of a LoRA file's module in the smallest exact form, without a base model.

LoRA is a product already, Tucker form's core being multiplied into down. LoHa's Hadamard product
of two products of rank r is one product of rank r²: row o of its left factor is the Kronecker
product of row o of the two left factors, and its right factor likewise by columns. LoKr stays a
Kronecker product. Whole differences are themselves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from lorasmith.adapters.from_file import unread_type
from lorasmith.adapters.types.lora import whole_down
from lorasmith.lora_tools.linalg.low_rank import Change, Kronecker, Product, whole
from lorasmith.lora_tools.lora_file import DOWN, MID, TYPES, UP, LoraModule, LoraModules

# Layers whose convolution is larger than 1 x 1, by the end of kohya's key.
_CONV_3X3 = re.compile(
    r"_(resnets_\d+_conv[12]|(down|up)samplers_0_conv|conv_in|conv_out)$"
    r"|_(in_layers_2|out_layers_3|0_op|[12]_conv|input_blocks_0_0|unet_out_2)$"
)
_CONV_1X1 = re.compile(r"_(conv_shortcut|skip_connection)$")
# Factors whose rows hold a kernel's numbers side by side.
_ROWS = ("hada_w1_b", "lokr_w2_b")
_PROJECTION = re.compile(r"_proj_(in|out)$")
# Width of the texts that SD2's cross-attention reads; its projections are Linear, as SDXL's.
_SD2_CONTEXT = 1024


class NotLowRank(ValueError):
    """A module's change cannot be told from its tensors, or has no form as a LoRA."""


def change_of(module: LoraModule) -> Change:
    """ΔW at strength 1, its scale included, of the weight alone: see ``module.vectors``.

    Raises:
        NotLowRank: it depends on the base model's weight, or is no change of a weight.
        ValueError: the shapes do not fit each other.
    """
    if module.decomposed:
        raise NotLowRank("DoRA sets the length of the base model's weight")
    return low_rank_part(module)


def alternative(module: LoraModule) -> str:
    """What else can be done with a module that has no form as a LoRA; "" if nothing is known."""
    if "bm.weight" in module.tensors:
        return ""  # Not read, so not baked either.
    if module.decomposed or TYPES[module.algorithm].needs_model:
        return ", or bake it into the model and extract a LoRA of that"
    return ""


def low_rank_part(module: LoraModule) -> Change:
    """As :func:`change_of`, but of a decomposed module the ΔW that is added before its lengths
    are set."""
    tensors, scale = module.tensors, module.scale
    if module.algorithm in ("lora", "dora"):
        down = whole_down(tensors[DOWN], tensors.get(MID))
        return Product(tensors[UP].flatten(1), down.flatten(1), scale)
    if module.algorithm == "loha":
        return _hadamard(_loha_half(tensors, 1), _loha_half(tensors, 2), scale)
    if module.algorithm == "lokr":
        return Kronecker(_lokr_first(tensors), _lokr_second(tensors).flatten(1), scale)
    if module.algorithm == "full" and "diff" in tensors and tensors["diff"].ndim > 1:
        return whole(tensors["diff"].flatten(1))
    if module.algorithm == "unknown":
        raise NotLowRank(f"it is {unread_type(tensors)}")
    raise NotLowRank(TYPES[module.algorithm].why_not)


def kernels_of(file: LoraModules) -> dict[str, tuple[int, ...]]:
    """Size of each layer's kernel by key, () for Linear; norms have none.

    From the shapes where they tell, and otherwise from the layer's name: LoHa and LoKr write
    their factors of a convolution as matrices.
    """
    reads = {
        tensor.shape[1]
        for key, module in file.modules.items()
        if key.endswith("_attn2_to_k") and (tensor := module.tensors.get(DOWN)) is not None
    }
    linear = file.sdxl or _SD2_CONTEXT in reads
    modules = ((key, module) for key, module in file.modules.items() if module.has_matrix)
    return {key: _kernel(module, linear) for key, module in modules}


def _kernel(module: LoraModule, linear_projections: bool) -> tuple[int, ...]:
    for name in (MID, "hada_t1", "lokr_t2", DOWN, "lokr_w2", "diff"):
        if name in module.tensors:
            return tuple(module.tensors[name].shape[2:])
    columns = next((module.tensors[n].shape[-1] for n in _ROWS if n in module.tensors), 0)
    if _CONV_3X3.search(module.key) and columns % 9 == 0:
        return (3, 3)
    is_1x1 = _CONV_1X1.search(module.key) or (
        not linear_projections and _PROJECTION.search(module.key)
    )
    return (1, 1) if is_1x1 and module.part == "unet" else ()


def _loha_half(tensors: Mapping[str, Tensor], number: int) -> Product:
    a, b = (tensors[f"hada_w{number}_{side}"] for side in "ab")
    core = tensors.get(f"hada_t{number}")
    if core is None:
        return Product(a, b)
    return Product(a.t(), whole_down(b, core).flatten(1))


def _hadamard(first: Product, second: Product, scale: float) -> Product:
    """The product, element by element, of two products, as one."""
    if first.shape != second.shape:
        raise ValueError(f"its halves are {first.shape} and {second.shape}")
    if first.rank * second.rank >= min(first.shape):
        return whole(first.dense() * second.dense() * scale)
    up = first.up.double()[:, :, None] * second.up.double()[:, None, :]
    down = first.down.double()[:, None, :] * second.down.double()[None, :, :]
    return Product(up.flatten(1), down.flatten(0, 1), scale)


def _lokr_first(tensors: Mapping[str, Tensor]) -> Tensor:
    if "lokr_w1" in tensors:
        return tensors["lokr_w1"]
    return tensors["lokr_w1_a"].double() @ tensors["lokr_w1_b"].double()


def _lokr_second(tensors: Mapping[str, Tensor]) -> Tensor:
    if "lokr_w2" in tensors:
        return tensors["lokr_w2"]
    a, b = tensors["lokr_w2_a"].double(), tensors["lokr_w2_b"].double()
    if "lokr_t2" in tensors:
        return a.t() @ whole_down(b, tensors["lokr_t2"].double()).flatten(1)
    return a @ b.flatten(1)
