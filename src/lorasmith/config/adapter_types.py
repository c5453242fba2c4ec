"""What the settings know of each adapter type, without importing it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

AdapterType = Literal[
    "lora", "c3lier", "locon", "loha", "lokr", "ia3", "dylora", "dora", "oft", "boft"
]


@dataclass(frozen=True, slots=True)
class AdapterFacts:
    """
    Args:
        summary: what it is and when to take it, one line.
        options: the settings of ``[adapter]`` that only some types have and this one has.
        conv: 3x3 convolutions get an adapter too when ``conv_rank`` does not say otherwise.
        targets: layers that the type has of its own, which take the place of the usual ones.
    """

    summary: str
    options: tuple[str, ...] = ()
    conv: bool = False
    targets: str | None = None


# Settings of [adapter] that not every type has.
_SIZE = ("rank", "alpha", "conv_rank", "conv_alpha")
_DROPOUTS = ("dropout", "rank_dropout", "module_dropout")
_COMMON = (*_SIZE, *_DROPOUTS, "scale_weight_norms")
_DIRECTION = ("rs_lora", "weight_decompose", "decompose_on_output")

ADAPTERS: dict[str, AdapterFacts] = {
    "lora": AdapterFacts(
        "LoRA-LierLa: attention and feed-forward layers; read by every program",
        (*_COMMON, *_DIRECTION),
    ),
    "c3lier": AdapterFacts(
        "LoRA-C3Lier: the 3x3 convolutions as well; for styles and textures",
        (*_COMMON, *_DIRECTION),
        conv=True,
    ),
    "locon": AdapterFacts(
        "LyCORIS' LoCon: as c3lier, and its convolutions can be in Tucker form",
        (*_COMMON, *_DIRECTION, "tucker"),
        conv=True,
    ),
    "loha": AdapterFacts(
        "product of two LoRAs, element by element: rank r reaches r², so r of 4 to 16 is enough",
        (*_COMMON, *_DIRECTION, "tucker"),
        conv=True,
    ),
    "lokr": AdapterFacts(
        "Kronecker product: the smallest files; factor decides how small",
        (*_COMMON, *_DIRECTION, "tucker", "factor", "full_matrix", "decompose_both"),
        conv=True,
    ),
    "ia3": AdapterFacts(
        "(IA)^3: one factor per channel, a few hundred KiB; wants a high learning rate",
        (*_DROPOUTS, "train_on_input"),
        targets="ia3",
    ),
    "dylora": AdapterFacts(
        "LoRA whose file can be cut to any smaller rank; learns slower",
        (*_COMMON, "unit"),
    ),
    "dora": AdapterFacts(
        "LoRA that learns the weights' lengths apart; better at low ranks, slower",
        (*_COMMON, *_DIRECTION),
    ),
    "oft": AdapterFacts(
        "rotations of the outputs in blocks: keeps what the model knows",
        ("rank", "conv_rank", *_DROPOUTS, "constraint", "rescaled"),
        conv=True,
    ),
    "boft": AdapterFacts(
        "rotations in a butterfly of blocks: as oft with fewer numbers",
        ("rank", "conv_rank", *_DROPOUTS, "constraint", "rescaled"),
        conv=True,
    ),
}


def having(option: str) -> list[str]:
    """The types that have a setting."""
    return [name for name, facts in ADAPTERS.items() if option in facts.options]
