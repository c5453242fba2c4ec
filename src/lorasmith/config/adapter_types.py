"""The table of adapter types: all that is known of each, without importing it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

AdapterType = Literal[
    "lora", "c3lier", "locon", "loha", "lokr", "ia3", "dylora", "tlora", "dora", "oft", "boft"
]


LYCORIS = "lycoris.kohya"


@dataclass(frozen=True, slots=True)
class AdapterFacts:
    """
    Args:
        cls: the class that is made for each layer, below ``lorasmith.adapters.types``.
        summary: what it is and when to take it, one line.
        options: the settings of ``[adapter]`` that only some types have and this one has.
        conv: 3x3 convolutions get an adapter too when ``conv_rank`` does not say otherwise.
        targets: layers that the type has of its own, which take the place of the usual ones.
        fixed: options that make the type what it is, whatever was asked for.
        module: ``ss_network_module`` of its files.
        algo: LyCORIS' name of it in ``ss_network_args``.
    """

    cls: str
    summary: str
    options: tuple[str, ...] = ()
    conv: bool = False
    targets: str | None = None
    fixed: Mapping[str, Any] = field(default_factory=dict)
    module: str = LYCORIS
    algo: str | None = None


# Settings of [adapter] that not every type has.
_SIZE = ("rank", "alpha", "conv_rank", "conv_alpha")
_DROPOUTS = ("dropout", "rank_dropout", "module_dropout")
_COMMON = (*_SIZE, *_DROPOUTS, "scale_weight_norms")
_DIRECTION = ("rs_lora", "weight_decompose", "decompose_on_output")

ADAPTERS: dict[str, AdapterFacts] = {
    "lora": AdapterFacts(
        "lora.LoRA",
        "LoRA-LierLa: attention and feed-forward layers; read by every program",
        (*_COMMON, *_DIRECTION),
        module="networks.lora",
    ),
    "c3lier": AdapterFacts(
        "lora.LoRA",
        "LoRA-C3Lier: the 3x3 convolutions as well; for styles and textures",
        (*_COMMON, *_DIRECTION),
        conv=True,
        module="networks.lora",
    ),
    "locon": AdapterFacts(
        "lora.LoRA",
        "LyCORIS' LoCon: as c3lier, and its convolutions can be in Tucker form",
        (*_COMMON, *_DIRECTION, "tucker"),
        conv=True,
        algo="locon",
    ),
    "loha": AdapterFacts(
        "loha.LoHa",
        "product of two LoRAs, element by element: rank r reaches r², so r of 4 to 16 is enough",
        (*_COMMON, *_DIRECTION, "tucker"),
        conv=True,
        algo="loha",
    ),
    "lokr": AdapterFacts(
        "lokr.LoKr",
        "Kronecker product: the smallest files; factor decides how small",
        (*_COMMON, *_DIRECTION, "tucker", "factor", "full_matrix", "decompose_both"),
        conv=True,
        algo="lokr",
    ),
    "ia3": AdapterFacts(
        "ia3.IA3",
        "(IA)^3: one factor per channel, a few hundred KiB; wants a high learning rate",
        (*_DROPOUTS, "train_on_input"),
        targets="ia3",
        algo="ia3",
    ),
    "dylora": AdapterFacts(
        "dylora.DyLoRA",
        "LoRA whose file can be cut to any smaller rank; learns slower",
        (*_COMMON, "unit"),
        module="networks.dylora",
    ),
    "tlora": AdapterFacts(
        "tlora.TLoRA",
        "T-LoRA: fewer ranks learn the higher the noise is; for one to six images",
        (*_SIZE, *_DROPOUTS, "min_rank", "rank_power", "orthogonal"),
        module="networks.lora",
    ),
    "dora": AdapterFacts(
        "lora.LoRA",
        "LoRA that learns the weights' lengths apart; better at low ranks, slower",
        (*_COMMON, *_DIRECTION),
        fixed={"weight_decompose": True},
        algo="locon",
    ),
    "oft": AdapterFacts(
        "oft.OFT",
        "rotations of the outputs in blocks: keeps what the model knows",
        ("rank", "conv_rank", *_DROPOUTS, "constraint", "rescaled"),
        conv=True,
        algo="diag-oft",
    ),
    "boft": AdapterFacts(
        "boft.BOFT",
        "rotations in a butterfly of blocks: as oft with fewer numbers",
        ("rank", "conv_rank", *_DROPOUTS, "constraint", "rescaled"),
        conv=True,
        algo="boft",
    ),
}


def having(option: str) -> list[str]:
    """The types that have a setting."""
    return [name for name, facts in ADAPTERS.items() if option in facts.options]
