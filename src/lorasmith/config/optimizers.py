"""What the settings know of each optimizer, without importing it: its arguments and its manners."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OptimizerFacts:
    """
    Args:
        summary: what it is and when to take it, one line.
        args: the names that ``optimizer.args`` may have for it.
        adaptive: it finds the size of its own steps; ``lr`` is then a factor of about 1, the same
            for all parts.
    """

    summary: str
    args: tuple[str, ...]
    adaptive: bool = False


ADAM_ARGS = ("betas", "eps", "weight_decay", "amsgrad")

OPTIMIZERS: dict[str, OptimizerFacts] = {
    "AdamW": OptimizerFacts("the standard; its lr is the one that guides speak of", ADAM_ARGS),
    "AdamW8bit": OptimizerFacts(
        "AdamW with its state in 8 bits: less memory, needs bitsandbytes",
        (*ADAM_ARGS, "min_8bit_size", "is_paged"),
    ),
    "Prodigy": OptimizerFacts(
        "finds its own learning rate; set lr = 1 and a constant schedule",
        (
            "betas", "beta3", "eps", "weight_decay", "decouple", "use_bias_correction",
            "safeguard_warmup", "d0", "d_coef", "growth_rate", "slice_p",
        ),
        adaptive=True,
    ),
}  # fmt: skip
