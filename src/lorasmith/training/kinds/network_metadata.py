"""``ss_network_*`` of a LoRA: the module, size and arguments that would make the file elsewhere.

``networks.lora`` and ``networks.dylora`` are sd-scripts', with its names for blocks;
``lycoris.kohya`` is LyCORIS', whose ``algo`` tells the type. Arguments are texts, as on a command
line.
"""

from __future__ import annotations

from collections import Counter

from lorasmith.adapters.additive import AdditiveAdapter, is_by_input
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.adapters.registry import adapter_class
from lorasmith.config.adapter_types import ADAPTERS, LYCORIS, AdapterFacts
from lorasmith.config.sections.adapter import AdapterSettings
from lorasmith.formats.block_weights import (
    INPUTS,
    MIDDLE,
    OUTPUTS,
    UNET_BLOCKS,
    format_number,
    sizes,
)
from lorasmith.training.kinds.kind import NetworkFacts

# Our settings -> LyCORIS' arguments, where a type has them and they are not as by default.
_OPTIONS = {
    "rs_lora": "rs_lora",
    "weight_decompose": "dora_wd",
    "tucker": "use_tucker",
    "factor": "factor",
    "full_matrix": "full_matrix",
    "decompose_both": "decompose_both",
    "train_on_input": "train_on_input",
    "constraint": "constraint",
    "rescaled": "rescaled",
}


def network_facts(
    adapter: AdapterSettings, network: AdapterNetwork, loraplus_ratio: float = 1.0
) -> NetworkFacts:
    """Facts of a network that was made, or gone on with, by these settings."""
    row = _row(adapter, network)
    options = _options(adapter, network)
    module = LYCORIS if options and row.module == "networks.lora" else row.module
    args = {}
    if module == LYCORIS:
        args["algo"] = row.algo or "locon"
        # LyCORIS has convolutions in "full" alone, with a few layers that ours leaves out.
        usual = "full" if adapter.effective_conv_rank else "attn-mlp"
        args["preset"] = ",".join(adapter.targets or [row.targets or usual])
        args |= options
    elif adapter.type == "dylora":
        args["unit"] = str(adapter.unit)
    # A T-LoRA's file holds what it started from as well.
    each = 2 if adapter.type == "tlora" and adapter.orthogonal else 1
    if adapter.effective_conv_rank:
        args["conv_dim"] = str(each * adapter.effective_conv_rank)
        args["conv_alpha"] = format_number(each * adapter.effective_conv_alpha)
    args |= _block_args(adapter, each)
    for name in ("rank_dropout", "module_dropout"):
        if getattr(adapter, name):
            args[name] = format_number(getattr(adapter, name))
    if loraplus_ratio != 1.0:
        args["loraplus_lr_ratio"] = format_number(loraplus_ratio)
    if adapter.init_from is None:
        return NetworkFacts(module, each * adapter.rank, each * adapter.effective_alpha, args)
    rank_counts = Counter((one.rank, float(one.alpha)) for one in network.adapters.values())
    ((rank, alpha), _), *_ = rank_counts.most_common(1)
    return NetworkFacts(module, rank, alpha, args)


def _row(adapter: AdapterSettings, network: AdapterNetwork) -> AdapterFacts:
    """The type that was asked for, or that of most modules of a file that was gone on with."""
    requested = ADAPTERS[adapter.type]
    kinds = Counter(type(one) for one in network.adapters.values())
    if not kinds or adapter_class(adapter.type) in kinds:
        return requested
    ((usual, _),) = kinds.most_common(1)
    return next(row for name, row in ADAPTERS.items() if adapter_class(name) is usual)


def _options(adapter: AdapterSettings, network: AdapterNetwork) -> dict[str, str]:
    """LyCORIS' arguments that the settings, or a file that was gone on with, call for."""
    plain = type(adapter)()
    options = {
        theirs: str(value)
        for ours, theirs in _OPTIONS.items()
        if (value := getattr(adapter, ours)) != getattr(plain, ours)
    }
    by_input = [
        is_by_input(scale, one.outputs)
        for one in network.adapters.values()
        if isinstance(one, AdditiveAdapter) and (scale := one.dora_scale) is not None
    ]
    if by_input:
        options |= {"dora_wd": "True", "wd_on_output": str(2 * sum(by_input) <= len(by_input))}
    return options


def _block_args(adapter: AdapterSettings, each: int) -> dict[str, str]:
    """sd-scripts' names for ranks and alphas, ``each`` times as large, and learning rates by
    block."""
    args: dict[str, str] = {}
    if adapter.blocks is not None:
        weights = adapter.block_weights
        for name, blocks in (("down", INPUTS), ("mid", (MIDDLE,)), ("up", OUTPUTS)):
            args[f"{name}_lr_weight"] = _listed([weights[block] for block in blocks])
    if adapter.block_lr_zero_threshold:
        args["block_lr_zero_threshold"] = format_number(adapter.block_lr_zero_threshold)
    conv_rank, conv_alpha = adapter.effective_conv_rank, adapter.effective_conv_alpha
    for name, sizes_by_block, usual in (
        ("block_dims", adapter.block_ranks, adapter.rank),
        ("block_alphas", adapter.block_alphas, adapter.effective_alpha),
        ("conv_block_dims", adapter.conv_block_ranks, conv_rank),
        ("conv_block_alphas", adapter.conv_block_alphas, conv_alpha),
    ):
        if sizes_by_block is not None:
            by_block = sizes(sizes_by_block, whole=name.endswith("dims"))
            numbers = [by_block.get(block, float(usual)) for block in UNET_BLOCKS]
            args[name] = _listed([each * number for number in numbers])
    return args


def _listed(numbers: list[float]) -> str:
    return ",".join(format_number(number) for number in numbers)
