"""What is known of each optimizer without importing it: where it lives, its arguments, its manners.

One table serves the settings' checks, the training, the estimates and the documentation.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorasmith.core.text import did_you_mean

CATALOGUE = "pytorch_optimizer"
"""The library whose optimizers may be named without its name."""

DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


@dataclass(frozen=True, slots=True)
class OptimizerFacts:
    """
    Args:
        path: module and class.
        package: what to ``pip install`` for it.
        summary: what it is and when to take it, one line.
        args: the names that ``optimizer.args`` may have for it; ``None``: those of the class.
        lr: the learning rate to start from; ``None`` where it depends.
        adaptive: it finds the size of its own steps; ``lr`` is then a factor of about 1, the same
            for all parts.
        sets_lr: an argument with which it sets its own lr and schedule; True unless it is given.
        schedule_free: it averages its weights in place of lowering lr.
        elementwise: it treats every number alike, so that all tensors may be given as one.
        values_per_weight: float32 numbers that it keeps for each trained one, for estimates.
        factored: of tensors with rows and columns it keeps one number for each of these alone.
        defaults: arguments that differ from the class's own defaults.
    """

    path: str
    package: str
    summary: str
    args: tuple[str, ...] | None = None
    lr: float | None = 1e-4
    adaptive: bool = False
    sets_lr: str = ""
    schedule_free: bool = False
    elementwise: bool = False
    values_per_weight: float = 2.0
    factored: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def values_for(self, shape: tuple[int, ...]) -> float:
        """Float32 numbers that it keeps for a trained tensor of that shape."""
        count = math.prod(shape)
        if not self.factored:
            return self.values_per_weight * count
        return count / shape[-1] + count / shape[-2] if len(shape) >= 2 else count

    def sets_its_own_lr(self, args: Mapping[str, Any]) -> bool:
        """Whether with ``args`` it takes neither ``lr`` nor the schedule from the settings."""
        return bool(self.sets_lr and args.get(self.sets_lr, True))


_ADAM = ("betas", "eps", "weight_decay")
_D = ("d0", "growth_rate")
_ADAN = ("betas", "eps", "weight_decay", "no_prox", *_D)
_NESTEROV = {"momentum": 0.9, "nesterov": True}  # As sd-scripts calls them.


def _facts(
    path: str, summary: str, args: tuple[str, ...], lr: float, values: float, **more: Any
) -> OptimizerFacts:
    """A row of the table; what is in it is elementwise unless it says otherwise."""
    package = {"lion_pytorch": "lion-pytorch"}.get(name := path.partition(".")[0], name)
    options = {"elementwise": True, **more}
    return OptimizerFacts(path, package, summary, args, lr, values_per_weight=values, **options)


OPTIMIZERS: dict[str, OptimizerFacts] = {
    # Fused: one kernel a group. The flat tensors make it so on the CPU as well.
    "AdamW": _facts(
        "torch.optim.AdamW", "the standard; its lr is the one that guides speak of",
        (*_ADAM, "amsgrad"), 1e-4, 2.0, defaults={"fused": True},
    ),
    "AdamW8bit": _facts(
        "bitsandbytes.optim.AdamW8bit", "AdamW with its state in 8 bits: a quarter of its memory",
        (*_ADAM, "min_8bit_size", "is_paged"), 1e-4, 0.51,
    ),
    "PagedAdamW8bit": _facts(
        "bitsandbytes.optim.PagedAdamW8bit",
        "AdamW8bit with a state that moves to the computer's memory when the card's is full",
        (*_ADAM, "min_8bit_size"), 1e-4, 0.51,
    ),
    "AdamWScheduleFree": _facts(
        "schedulefree.AdamWScheduleFree",
        "AdamW that averages its weights instead of lowering lr: no schedule to choose",
        (*_ADAM, "warmup_steps", "r", "weight_lr_power"), 5e-4, 2.0, schedule_free=True,
    ),
    "Lion": _facts(
        "lion_pytorch.Lion",
        "steps by the sign alone: half of AdamW's memory, an lr 3 to 10 times lower",
        ("betas", "weight_decay", "decoupled_weight_decay", "use_triton"), 2e-5, 1.0,
    ),
    "Lion8bit": _facts(
        "bitsandbytes.optim.Lion8bit", "Lion with its state in 8 bits",
        ("betas", "weight_decay", "min_8bit_size", "is_paged"), 2e-5, 0.26,
    ),
    "SGDNesterov": _facts(
        "torch.optim.SGD", "the gradient itself with momentum: needs a very high lr, learns slowly",
        ("momentum", "weight_decay"), 0.1, 1.0, defaults=_NESTEROV,
    ),
    "SGDNesterov8bit": _facts(
        "bitsandbytes.optim.SGD8bit",
        "SGDNesterov with its state in 8 bits; bitsandbytes does plain momentum in it",
        ("momentum", "weight_decay", "min_8bit_size"), 0.1, 0.26, defaults=_NESTEROV,
    ),
    "AdaFactor": _facts(
        "transformers.optimization.Adafactor",
        "almost no memory; sets its own lr and schedule unless relative_step is False",
        (
            "relative_step", "scale_parameter", "warmup_init", "eps", "clip_threshold",
            "decay_rate", "beta1", "weight_decay",
        ),
        1e-4, 0.2, elementwise=False, factored=True, sets_lr="relative_step",
    ),
    "DAdaptAdam": _facts(
        "dadaptation.DAdaptAdam",
        "Adam that finds its own learning rate; guides add decouple=True weight_decay=0.01 "
        "betas=0.9,0.99",
        (*_ADAM, "decouple", "use_bias_correction", *_D), 1.0, 3.0, adaptive=True,
    ),
    "DAdaptLion": _facts(
        "dadaptation.DAdaptLion", "Lion that finds its own learning rate",
        ("betas", "weight_decay", "d0"), 1.0, 2.0, adaptive=True,
    ),
    "DAdaptSGD": _facts(
        "dadaptation.DAdaptSGD", "SGD that finds its own learning rate",
        ("momentum", "weight_decay", *_D), 1.0, 3.0, adaptive=True,
    ),
    "DAdaptAdaGrad": _facts(
        "dadaptation.DAdaptAdaGrad", "AdaGrad that finds its own learning rate",
        ("momentum", "weight_decay", "eps", *_D), 1.0, 3.0, adaptive=True,
    ),
    "DAdaptAdan": _facts(
        "dadaptation.DAdaptAdan", "Adan that finds its own learning rate",
        _ADAN, 1.0, 5.0, adaptive=True,
    ),
    "DAdaptAdanIP": _facts(
        "dadaptation.experimental.dadapt_adan_ip.DAdaptAdanIP",
        "DAdaptAdan with an estimate by inner product, called experimental by its authors",
        _ADAN, 1.0, 5.0, adaptive=True,
    ),
    "Prodigy": _facts(
        "prodigyopt.Prodigy",
        "finds its own learning rate, quicker than D-Adaptation; guides add decouple=True "
        "weight_decay=0.01 d_coef=2 use_bias_correction=True safeguard_warmup=True",
        (
            *_ADAM, "beta3", "decouple", "use_bias_correction", "safeguard_warmup", "d_coef",
            "slice_p", *_D,
        ),
        1.0, 4.0, adaptive=True,
    ),
}  # fmt: skip

ALIASES = {
    "DAdaptation": "DAdaptAdam",  # Its name until the library had more than one.
    "SDGNesterov": "SGDNesterov",  # A slip that guides have copied from each other.
    "SDGNesterov8bit": "SGDNesterov8bit",
    # What sd-scripts knows by name and has no row here.
    "PagedAdamW": "bitsandbytes.optim.PagedAdamW",
    "PagedAdamW32bit": "bitsandbytes.optim.PagedAdamW32bit",
    "PagedLion8bit": "bitsandbytes.optim.PagedLion8bit",
    "RAdamScheduleFree": "schedulefree.RAdamScheduleFree",
    "SGDScheduleFree": "schedulefree.SGDScheduleFree",
    "DAdaptAdamPreprint": "dadaptation.experimental.dadapt_adam_preprint.DAdaptAdamPreprint",
}
"""Further names: of a row, or of a class by its path."""

# How classes that have no row are called.
_ADAPTIVE = re.compile(r"(?i)dadapt|prodigy")
_SCHEDULE_FREE = re.compile(r"(?i)schedule_?free")


def optimizer_name(value: Any) -> Any:
    """The one form of an optimizer's name: a row of the table, or ``module.Class``.

    Rows, old names and :data:`CATALOGUE`'s classes are found in any letters' case, with or without
    hyphens and underscores.

    Raises:
        ValueError: it is none of them; says what is near.
    """
    if not isinstance(value, str):
        return value
    text = value.strip()
    if DOTTED.fullmatch(text):
        return text
    by_key = {_key(name): name for name in OPTIMIZERS}
    by_key = {_key(name): f"{CATALOGUE}.{name}" for name in catalogue()} | by_key
    by_key |= {_key(name): right for name, right in ALIASES.items()}
    if (key := _key(text)) in by_key:
        return by_key[key]
    built_in = {_key(name): name for name in OPTIMIZERS}
    names = {k: path.rpartition(".")[2] for k, path in by_key.items()}
    hint = f"choose from {', '.join(OPTIMIZERS)}, or write a class as module.Class"
    hint = did_you_mean(key, built_in) or did_you_mean(key, names, hint, most=2)
    raise ValueError(f"{text!r} is no known optimizer; {hint}")


def _key(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def optimizer_facts(name: str) -> OptimizerFacts:
    """The row of ``name``; for a class by its path, what can be told from the path alone."""
    if name in OPTIMIZERS:
        return OPTIMIZERS[name]
    package, _, _ = name.partition(".")
    adaptive = bool(_ADAPTIVE.search(name.rpartition(".")[2]))
    return OptimizerFacts(
        name,
        package,
        "",
        lr=1.0 if adaptive else None,
        adaptive=adaptive,
        schedule_free=bool(_SCHEDULE_FREE.search(name)),
    )


@functools.cache
def catalogue() -> tuple[str, ...]:
    """Class names of :data:`CATALOGUE` as installed, empty without it.

    Read from its source: importing it would import torch.
    """
    spec = importlib.util.find_spec(CATALOGUE)
    if spec is None or spec.origin is None:
        return ()
    try:
        source = (Path(spec.origin).parent / "optimizer" / "__init__.py").read_text("utf-8")
        tree = ast.parse(source)
    except (OSError, SyntaxError, UnicodeDecodeError):
        return ()
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        value = getattr(node, "value", None)
        if getattr(target, "id", "") == "OPTIMIZER_LIST" and isinstance(value, ast.List):
            return tuple(item.id for item in value.elts if isinstance(item, ast.Name))
    return ()
