"""What the types of adapters can be asked for beside rank and alpha."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AdapterOptions:
    """Options of all types together; a type reads those that it has.

    Args:
        rs_lora: scale by ``alpha / sqrt(rank)`` instead of ``alpha / rank`` (Kalajdzievski 2023).
            Files store ``alpha * sqrt(rank)``, so that every reader comes to the same scale.
        tucker: convolutions larger than 1 x 1 have the kernel in a core tensor of rank x rank
            (LyCORIS' use_tucker, formerly use_cp); other layers are not changed by it.
        weight_decompose: learn the lengths of the weight apart from its directions (DoRA, Liu et
            al. 2024).
        decompose_on_output: these are the lengths of each output's weights, as in LyCORIS and peft;
            otherwise of each input's, as in the paper, which every web UI applies exactly.
        factor: LoKr: size wished for the first Kronecker factor; -1 takes the sides' square roots.
        full_matrix: LoKr: the second Kronecker factor is a full matrix at any rank.
        decompose_both: LoKr: the first Kronecker factor is low-rank too, where that is smaller.
        on_input: (IA)^3: scale the layer's inputs (True) or outputs (False); None as LyCORIS does.
        unit: DyLoRA: how many ranks are trained together.
        constraint: OFT and BOFT: the largest norm of a rotation, in units of the weight's outputs;
            0 is none.
        rescaled: OFT and BOFT: a factor per output is trained beside the rotation.
    """

    rs_lora: bool = False
    tucker: bool = False
    weight_decompose: bool = False
    decompose_on_output: bool = False
    factor: int = -1
    full_matrix: bool = False
    decompose_both: bool = False
    on_input: bool | None = None
    unit: int = 1
    constraint: float = 0.0
    rescaled: bool = False
