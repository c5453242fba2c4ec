"""What ``--network_args`` may hold for each ``--network_module``, and what becomes of it.

Sources: ``networks/lora.py`` and ``networks/dylora.py`` of sd-scripts, ``lycoris/kohya.py`` of
LyCORIS. Those ignore names that they do not know; here that is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lorasmith.importers.sd_scripts.argument import Kind

Module = Literal["networks.lora", "networks.dylora", "lycoris.kohya"]

MODULES: dict[str, Module] = {
    "networks.lora": "networks.lora",
    "networks.dylora": "networks.dylora",
    "lycoris.kohya": "lycoris.kohya",
    "locon.locon_kohya": "lycoris.kohya",  # LyCORIS before it had that name.
}

ALGOS = {
    "lora": "locon", "locon": "locon", "loha": "loha", "lokr": "lokr", "ia3": "ia3",
    "dylora": "dylora", "diag-oft": "oft", "boft": "boft",
}  # fmt: skip
"""LyCORIS' names of what can be trained here."""

PRESETS: dict[str, tuple[tuple[str, ...] | None, bool]] = {
    "full": (("full",), True),
    "full-lin": (("full",), False),
    "attn-mlp": (("attn-mlp",), False),
    "attn-only": (("attn",), False),
    "unet-transformer-only": (("attn-mlp", "unet-only"), False),
    "ia3": (("ia3",), False),
}
"""LyCORIS' presets: the layers, as ``adapter.targets``, and whether convolutions are among them."""


@dataclass(frozen=True, slots=True)
class NetworkArgument:
    """
    Args:
        modules: whose it is.
        here: the setting that it becomes, or the reason for refusing or dropping it.
        fate: ``setting`` (by a rule), ``refused`` where it is on, or ``dropped``.
    """

    name: str
    kind: Kind
    modules: tuple[Module, ...]
    here: str
    fate: Literal["setting", "refused", "dropped"] = "setting"


_LORA: tuple[Module, ...] = ("networks.lora",)
_KOHYA: tuple[Module, ...] = ("networks.lora", "networks.dylora")
_LYCORIS: tuple[Module, ...] = ("lycoris.kohya",)
_ALL: tuple[Module, ...] = (*_KOHYA, *_LYCORIS)

_ROWS = (
    NetworkArgument("conv_dim", "whole", _ALL, "adapter.conv_rank"),
    NetworkArgument("conv_alpha", "number", _ALL, "adapter.conv_alpha"),
    NetworkArgument("block_dims", "text", _LORA, "adapter.block_ranks"),
    NetworkArgument("block_alphas", "text", _LORA, "adapter.block_alphas"),
    NetworkArgument("conv_block_dims", "text", _LORA, "adapter.conv_block_ranks"),
    NetworkArgument("conv_block_alphas", "text", _LORA, "adapter.conv_block_alphas"),
    NetworkArgument("down_lr_weight", "text", _LORA, "adapter.blocks"),
    NetworkArgument("mid_lr_weight", "text", _LORA, "adapter.blocks"),
    NetworkArgument("up_lr_weight", "text", _LORA, "adapter.blocks"),
    NetworkArgument(
        "block_lr_zero_threshold", "number", _LORA, "adapter.block_lr_zero_threshold"
    ),
    NetworkArgument("dropout", "number", _LYCORIS, "adapter.dropout"),
    NetworkArgument("rank_dropout", "number", (*_LORA, *_LYCORIS), "adapter.rank_dropout"),
    NetworkArgument("module_dropout", "number", _ALL, "adapter.module_dropout"),
    NetworkArgument("loraplus_lr_ratio", "number", _ALL, "optimizer.loraplus_ratio"),
    NetworkArgument("loraplus_unet_lr_ratio", "number", _ALL, "optimizer.loraplus_ratio"),
    NetworkArgument("loraplus_text_encoder_lr_ratio", "number", _ALL, "optimizer.loraplus_ratio"),
    NetworkArgument("unit", "whole", ("networks.dylora",), "adapter.unit"),
    NetworkArgument("algo", "text", _LYCORIS, "adapter.type"),
    NetworkArgument("preset", "text", _LYCORIS, "adapter.targets"),
    NetworkArgument("block_size", "whole", _LYCORIS, "adapter.unit"),
    NetworkArgument("factor", "whole", _LYCORIS, "adapter.factor"),
    NetworkArgument("decompose_both", "flag", _LYCORIS, "adapter.decompose_both"),
    NetworkArgument("full_matrix", "flag", _LYCORIS, "adapter.full_matrix"),
    NetworkArgument("use_tucker", "flag", _LYCORIS, "adapter.tucker"),
    NetworkArgument("use_cp", "flag", _LYCORIS, "adapter.tucker"),
    NetworkArgument("use_conv_cp", "flag", _LYCORIS, "adapter.tucker"),
    NetworkArgument("disable_conv_cp", "flag", _LYCORIS, "use_tucker decides", "dropped"),
    NetworkArgument("dora_wd", "flag", _LYCORIS, "adapter.weight_decompose"),
    NetworkArgument("rs_lora", "flag", _LYCORIS, "adapter.rs_lora"),
    NetworkArgument("constraint", "number", _LYCORIS, "adapter.constraint"),
    NetworkArgument("constrain", "number", _LYCORIS, "adapter.constraint"),
    NetworkArgument("rescaled", "flag", _LYCORIS, "adapter.rescaled"),
    NetworkArgument(
        "train_on_input", "flag", _LYCORIS, "LyCORIS goes by the layer, and so does ia3 here",
        "dropped",
    ),
    NetworkArgument(
        "bypass_mode", "flag", _LYCORIS, "it is about how a layer is computed, not what", "dropped"
    ),
    NetworkArgument(
        "rank_dropout_scale", "flag", _LYCORIS, "what rank dropout leaves is always scaled up",
        "dropped",
    ),
    NetworkArgument("use_scalar", "flag", _LYCORIS, "no scalar is learned beside", "refused"),
    NetworkArgument("train_norm", "flag", _LYCORIS, "norms are not trained", "refused"),
    NetworkArgument(
        "unbalanced_factorization", "flag", _LYCORIS, "factors are balanced", "refused"
    ),
    NetworkArgument("train_t5xxl", "flag", _LYCORIS, "there is no T5 here", "refused"),
    NetworkArgument("train_llm_adapter", "flag", _LYCORIS, "there is none here", "refused"),
    NetworkArgument("wd_on_output", "flag", _LYCORIS, "adapter.decompose_on_output"),
)  # fmt: skip

NETWORK_ARGUMENTS: dict[str, NetworkArgument] = {row.name: row for row in _ROWS}
