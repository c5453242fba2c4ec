"""Arguments of the network: its module, its sizes and what ``--network_args`` may hold.

Sources: ``networks/lora.py`` and ``networks/dylora.py`` of sd-scripts, ``lycoris/kohya.py`` of
LyCORIS. Those ignore names that they do not know; here that is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lorasmith.config.adapter_types import ADAPTERS
from lorasmith.core.text import did_you_mean
from lorasmith.importers.sd_scripts.argument import (
    MISSING,
    ConversionBuilder,
    always,
    by,
    dropped,
    refused,
    same,
)
from lorasmith.importers.sd_scripts.values import Kind, read_value

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
        fate: ``setting`` by a rule; ``option``: a setting that takes the value, where the type has
            it; ``refused`` where it is on; or ``dropped``.
    """

    name: str
    kind: Kind
    modules: tuple[Module, ...]
    here: str
    fate: Literal["setting", "option", "refused", "dropped"] = "setting"


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
    NetworkArgument("factor", "whole", _LYCORIS, "adapter.factor", "option"),
    NetworkArgument("decompose_both", "flag", _LYCORIS, "adapter.decompose_both", "option"),
    NetworkArgument("full_matrix", "flag", _LYCORIS, "adapter.full_matrix", "option"),
    NetworkArgument("use_tucker", "flag", _LYCORIS, "adapter.tucker", "option"),
    NetworkArgument("use_cp", "flag", _LYCORIS, "adapter.tucker", "option"),
    NetworkArgument("use_conv_cp", "flag", _LYCORIS, "adapter.tucker", "option"),
    NetworkArgument("disable_conv_cp", "flag", _LYCORIS, "use_tucker decides", "dropped"),
    NetworkArgument("dora_wd", "flag", _LYCORIS, "adapter.weight_decompose", "option"),
    NetworkArgument("rs_lora", "flag", _LYCORIS, "adapter.rs_lora", "option"),
    NetworkArgument("constraint", "number", _LYCORIS, "adapter.constraint", "option"),
    NetworkArgument("constrain", "number", _LYCORIS, "adapter.constraint", "option"),
    NetworkArgument("rescaled", "flag", _LYCORIS, "adapter.rescaled", "option"),
    NetworkArgument(
        "train_on_input", "flag", _LYCORIS, "LyCORIS goes by the layer, and so does ia3 here",
        "dropped",
    ),
    NetworkArgument(
        "bypass_mode", "flag", _LYCORIS, "it is about how a layer is computed, not what", "dropped"
    ),
    NetworkArgument("rank_dropout_scale", "flag", _LYCORIS, "adapter.rank_dropout"),
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

LARGEST_RANK = 1024
"""Above it LyCORIS' LoKr is meant to be of full matrices."""

SMALLEST_FACTOR = 5
"""From it on, as with -1, LARGEST_RANK is at least half of what any layer's side leaves (10240 is
the longest), so LoKr's matrices are full."""

OTHERS = {
    "networks.lora_fa": "take networks.lora",
    "networks.oft": "take lycoris.kohya with --network_args algo=diag-oft",
    "networks.loha": "take lycoris.kohya with --network_args algo=loha preset=attn-mlp",
    "networks.lokr": "take lycoris.kohya with --network_args algo=lokr preset=attn-mlp",
}

_ARGS = "network_args"


def network(m: ConversionBuilder) -> None:
    written = str(m.value("network_module") or "")
    module = MODULES.get(written)
    if not written:
        m.refuse("network_module", MISSING, "add --network_module networks.lora")
        return
    if module is None:
        hint = did_you_mean(written, MODULES.keys(), f"there are {', '.join(MODULES)}")
        m.refuse("network_module", f"{written!r} is not known here", OTHERS.get(written, hint))
        return
    args = _args(m, module)
    if module == "lycoris.kohya":
        _lycoris(m, args)
    else:
        _kohya(m, args, module)
    _dropouts(m, args, module)
    _loraplus(m, args)
    _without_effect(m)


def _args(m: ConversionBuilder, module: Module) -> dict[str, Any]:
    """The arguments that are meant to have an effect; the others are said."""
    args: dict[str, Any] = {}
    for item in m.value(_ARGS) or []:
        name, equals, raw = item.partition("=")
        name = name.strip()
        row = NETWORK_ARGUMENTS.get(name)
        if not equals:
            m.refuse(_ARGS, f"{item!r} has no '='", "write it as key=value")
        elif row is None or module not in row.modules:
            names = [each.name for each in NETWORK_ARGUMENTS.values() if module in each.modules]
            near = did_you_mean(name, names, f"it has {', '.join(names)}", most=2)
            m.note(f"--network_args {item}", f"{module} has no {name} and ignores it; {near}")
        else:
            try:
                value = read_value(row.kind, raw.strip("\"' "))
            except ValueError as error:
                m.refuse(_ARGS, f"{name}: {error}", "correct it")
                continue
            if row.fate == "dropped":
                m.note(f"--network_args {item}", row.here)
            elif row.fate == "refused" and value:
                m.refuse(_ARGS, f"{item}: {row.here}", f"leave {name} out")
            elif value is not None:
                args[name] = value
    return args


def _size(m: ConversionBuilder, *, scaled: bool = True) -> None:
    m.take("network_dim")
    if scaled:
        m.take("network_alpha", m.value("network_alpha") or None)


def _kohya(m: ConversionBuilder, args: Mapping[str, Any], module: Module) -> None:
    conv = args.get("conv_dim")
    if module == "networks.dylora":
        m.take("network_module", "dylora")
        _size(m)
        m.put("adapter.unit", args.get("unit", 1), _ARGS)
        if conv and conv != m.value("network_dim"):
            m.refuse(
                _ARGS,
                f"conv_dim={conv} is not --network_dim, as networks.dylora wants it",
                f"write conv_dim={m.value('network_dim')}",
            )
        if conv:
            m.put("adapter.conv_rank", conv, _ARGS)
            m.put(
                "adapter.conv_alpha",
                m.value("network_alpha") or None,
                "network_alpha",
                note="networks.dylora has one alpha",
            )
        elif "conv_alpha" in args:
            m.note("--network_args conv_alpha", "it does nothing without conv_dim")
        return
    blocks = _block_weights(m, args)
    per_block = "block_dims" in args or blocks
    adapts_conv = bool(conv) or bool(per_block and "conv_block_dims" in args)
    m.take("network_module", "c3lier" if adapts_conv else "lora", _ARGS)
    _size(m)
    if conv:
        m.put("adapter.conv_rank", conv, _ARGS)
    if adapts_conv:
        m.put("adapter.conv_alpha", args.get("conv_alpha", 1.0) or None, _ARGS)
    elif "conv_alpha" in args:
        m.note("--network_args conv_alpha", "it does nothing without conv_dim")
    if per_block:
        _block_sizes(m, args)
    else:
        for name in ("block_alphas", "conv_block_dims", "conv_block_alphas"):
            if name in args:
                m.note(
                    f"--network_args {name}",
                    "it does nothing without block_dims or "
                    "down_lr_weight, mid_lr_weight, up_lr_weight; so it is in sd-scripts",
                )


def _block_weights(m: ConversionBuilder, args: Mapping[str, Any]) -> bool:
    names = [name for name in ("down_lr_weight", "mid_lr_weight", "up_lr_weight") if name in args]
    if not names:
        if "block_lr_zero_threshold" in args:
            m.note("--network_args block_lr_zero_threshold", "it does nothing without weights")
        return False
    longest, parts = (9 if m.sdxl else 12), []
    for name in names:
        numbers = str(args[name]).split(",")
        most = 1 if name.startswith("mid") else longest
        if len(numbers) > most and not (name.startswith("mid") and m.sdxl):
            m.note(
                f"--network_args {name}",
                f"has {len(numbers)} values; the first {most} count, as in sd-scripts",
            )
        if name.startswith("mid") and len({number.strip() for number in numbers}) > 1 and m.sdxl:
            m.refuse(
                _ARGS, "mid_lr_weight: the middle block has one weight here", "give one number"
            )
        parts.append(f"{name}={','.join(numbers[:most])}")
    m.put("adapter.blocks", " ".join(parts), _ARGS)
    if args.get("block_lr_zero_threshold"):
        m.put("adapter.block_lr_zero_threshold", args["block_lr_zero_threshold"], _ARGS)
    return True


def _block_sizes(m: ConversionBuilder, args: Mapping[str, Any]) -> None:
    for name, setting in (
        ("block_dims", "block_ranks"),
        ("block_alphas", "block_alphas"),
        ("conv_block_dims", "conv_block_ranks"),
        ("conv_block_alphas", "conv_block_alphas"),
    ):
        if name not in args:
            continue
        count, blocks = len(str(args[name]).split(",")), 23 if m.sdxl else 25
        if m.sdxl:
            m.refuse(
                _ARGS,
                f"{name}: SDXL's 23 numbers have no counterpart here",
                "write adapter.block_ranks by name, see docs/blocks.md",
            )
        elif count != blocks:
            m.refuse(_ARGS, f"{name} has {count} numbers; expected {blocks}", "give them all")
        else:
            m.put(f"adapter.{setting}", args[name], _ARGS)


def _lycoris(m: ConversionBuilder, args: Mapping[str, Any]) -> None:
    algo = str(args.get("algo", "lora")).lower()
    kind = ALGOS.get(algo)
    if kind is None:
        near = did_you_mean(algo, ALGOS.keys(), f"there is {', '.join(ALGOS)}")
        m.refuse(_ARGS, f"algo={algo} is not trained here", near)
        return
    m.take("network_module", kind, _ARGS)
    if kind == "ia3":
        m.drop("network_dim", "ia3 has no rank")
        m.drop("network_alpha", "ia3 has no alpha")
    elif kind == "lokr" and m.value("network_dim") > LARGEST_RANK:
        _full_lokr(m, args)
    else:
        _size(m, scaled=kind not in ("oft", "boft"))
        if kind in ("oft", "boft"):
            m.drop("network_alpha", f"{algo} has no alpha")
    _targets(m, args, kind)
    if kind == "dylora":
        m.put("adapter.unit", args.get("block_size", 4), _ARGS)
    _lycoris_flags(m, args, kind)


def _full_lokr(m: ConversionBuilder, args: Mapping[str, Any]) -> None:
    """Full matrices; LyCORIS goes by ``conv_dim`` for the 3x3 convolutions, which may have none."""
    m.drop("network_alpha", "no rank scales full matrices")
    conv, factor = args.get("conv_dim"), args.get("factor", -1)
    _, adapts_conv = PRESETS.get(str(args.get("preset", "full")), (None, False))
    low_rank = adapts_conv and conv and conv <= LARGEST_RANK and not args.get("full_matrix")
    if not low_rank:
        m.put("adapter.full_matrix", True, "network_dim", note="a rank above any layer's")
    elif 0 < factor < SMALLEST_FACTOR:
        m.refuse(
            _ARGS,
            f"conv_dim={conv} beside --network_dim {m.value('network_dim')}: with factor={factor} "
            f"no rank up to {LARGEST_RANK} gives full matrices everywhere but in convolutions",
            f"take factor={SMALLEST_FACTOR} or more, or leave conv_dim out for full matrices in "
            "convolutions too",
        )
    else:
        note = "gives full matrices; the 3x3 convolutions have conv_rank"
        m.take("network_dim", LARGEST_RANK, note=note)


def _targets(m: ConversionBuilder, args: Mapping[str, Any], kind: str) -> None:
    preset = str(args.get("preset", "full"))
    if preset not in PRESETS:
        near = did_you_mean(preset, PRESETS.keys(), f"there is {', '.join(PRESETS)}")
        m.refuse(_ARGS, f"preset={preset} is not known here", near)
        return
    targets, conv = PRESETS[preset]
    if not (kind == "ia3" and preset == "ia3"):
        note = "" if "preset" in args else "LyCORIS' own choice"
        m.put("adapter.targets", list(targets or ()), _ARGS, note=note)
    if kind == "ia3":
        return
    if not conv:
        m.put("adapter.conv_rank", 0, _ARGS, note=f"preset {preset} leaves convolutions alone")
        return
    full = "adapter.full_matrix" in m.result.settings
    conv_rank = args.get("conv_dim", m.value("network_dim"))
    if kind == "dylora" or ("conv_dim" in args and not (full and conv_rank > LARGEST_RANK)):
        m.put("adapter.conv_rank", conv_rank, _ARGS)
    if kind not in ("oft", "boft") and not full and conv_rank:
        alpha = args.get("conv_alpha", m.value("network_alpha")) or None
        m.put("adapter.conv_alpha", alpha, _ARGS, "network_alpha")


def _lycoris_flags(m: ConversionBuilder, args: Mapping[str, Any], kind: str) -> None:
    if args.get("dora_wd") and "weight_decompose" in ADAPTERS[kind].options:
        if args.get("wd_on_output", True):
            why = "as in LyCORIS; AUTOMATIC1111 misreads these, not wd_on_output=False"
            m.put("adapter.decompose_on_output", True, _ARGS, note=why)
    elif "wd_on_output" in args:
        m.note("--network_args wd_on_output", "says nothing without dora_wd")
    for name, row in NETWORK_ARGUMENTS.items():
        if row.fate != "option" or not args.get(name):
            continue
        if row.here.removeprefix("adapter.") in ADAPTERS[kind].options:
            m.put(row.here, args[name], _ARGS)
        else:
            m.note(f"--network_args {name}={args[name]}", f"{kind} has no such thing")


def _dropouts(m: ConversionBuilder, args: Mapping[str, Any], module: Module) -> None:
    for name in ("dropout", "rank_dropout", "module_dropout"):
        if args.get(name):
            m.put(f"adapter.{name}", args[name], _ARGS)
    scaled, rank_dropout = args.get("rank_dropout_scale"), args.get("rank_dropout")
    if rank_dropout and module == "lycoris.kohya" and not scaled:
        m.note(
            f"--network_args rank_dropout={rank_dropout:g}",
            "what is left is scaled up by 1 / (1 - rank_dropout), as in networks.lora; LyCORIS "
            "does that with rank_dropout_scale=True alone",
        )
    elif scaled and not rank_dropout:
        m.note("--network_args rank_dropout_scale", "it does nothing without rank_dropout")


def _loraplus(m: ConversionBuilder, args: Mapping[str, Any]) -> None:
    shared = args.get("loraplus_lr_ratio")
    ratios = {
        "unet": args.get("loraplus_unet_lr_ratio", shared),
        "text_encoder": args.get("loraplus_text_encoder_lr_ratio", shared),
    }
    off = [part for part in ratios if f"adapter.{part}" in m.result.settings]
    used = {part: ratio or 1.0 for part, ratio in ratios.items() if part not in off}
    if len(set(used.values())) > 1:
        m.refuse(
            _ARGS, "UNet and text encoder have one LoRA+ ratio here", "give loraplus_lr_ratio alone"
        )
    elif used and next(iter(used.values())) != 1.0:
        m.put("optimizer.loraplus_ratio", next(iter(used.values())), _ARGS)


def _without_effect(m: ConversionBuilder) -> None:
    """Take back what the type does not have; it does nothing in LyCORIS either."""
    kind = m.result.values.get("adapter.type")
    norms = m.result.settings.get("adapter.scale_weight_norms")
    if kind and norms and "scale_weight_norms" not in ADAPTERS[kind].options:
        del m.result.settings["adapter.scale_weight_norms"]
        m.note(norms.source, f"{kind} has no such thing")


NETWORK = (
    by(network, "network_module", "text", None, "adapter.type"),
    by(network, "network_dim", "whole", 4, "adapter.rank"),
    by(network, "network_alpha", "number", 1.0, "adapter.alpha"),
    same("network_dropout", "number", None, "adapter.dropout"),
    by(network, "network_args", "texts", None, "adapter.* (see below)", "optimizer.loraplus_ratio"),
    same("network_weights", "text", None, "adapter.init_from"),
    same("scale_weight_norms", "number", None, "adapter.scale_weight_norms"),
    always(
        "dim_from_weights", "flag", False,
        "training that goes on from a file (adapter.init_from) keeps its types and ranks",
    ),
    refused(
        "base_weights", "texts", None, "LoRAs are not merged into the model before training",
        "merge them into the checkpoint first",
    ),
    dropped(
        "base_weights_multiplier", "numbers", None, "it is of --base_weights, which is not used"
    ),
)  # fmt: skip
