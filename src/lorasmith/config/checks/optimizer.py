"""Checks of optimizer, learning rates and schedule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lorasmith.config.checks.base import Check, is_given, trained_rates
from lorasmith.config.kinds import kind_facts
from lorasmith.config.optimizers import optimizer_facts
from lorasmith.config.schema import TrainSettings
from lorasmith.core.errors import Problem
from lorasmith.core.text import did_you_mean

# Times what guides take; beyond it AdamW gives noise.
HIGH = 100
LOW_ADAPTIVE_LR = 0.1  # Below this, sd-scripts too warns about adaptive optimizers.
HIGH_ADAPTIVE_LR = 2.0
D_COEF = (0.5, 10.0)  # What guides found to be of use.
# Above this, Adam's second average still rests at its start when the first steps are judged.
SLOW_BETA = 0.99
HIGH_LION_LR = 5e-5
LOW_SGD_LR = 0.01


def _optimizer_takes_args(s: TrainSettings) -> Iterator[Problem]:
    arguments = optimizer_facts(s.optimizer.name).args
    if arguments is None:
        return  # The class itself is asked once it may be imported.
    for name in s.optimizer.args:
        if name in arguments:
            continue
        hint = did_you_mean(name, arguments, f"it takes {', '.join(arguments)}")
        if name == "lr":
            hint = "set optimizer.lr"
        yield Problem("optimizer.args", f"{s.optimizer.name} has no argument {name}", hint)


def _adafactor_warms_up_its_own_steps(s: TrainSettings) -> Iterator[Problem]:
    args = s.optimizer.args
    if s.optimizer.name == "AdaFactor" and args.get("warmup_init") and not sets_its_own_lr(s):
        yield Problem(
            "optimizer.args",
            "warmup_init is the warm-up of relative_step, which is False",
            "remove warmup_init and set schedule.warmup, or set relative_step=True",
        )


def sets_its_own_lr(s: TrainSettings) -> bool:
    """Whether the optimizer takes neither ``lr`` nor the schedule from the settings."""
    return optimizer_facts(s.optimizer.name).sets_its_own_lr(s.optimizer.args)


def _rate_can_be_sought(s: TrainSettings) -> Iterator[Problem]:
    optimizer, parts = s.optimizer, trained_rates(s)
    if not optimizer.seeks_lr:
        return
    if optimizer_facts(optimizer.name).adaptive:
        what = f"is find, and {optimizer.name} finds the size of its steps by itself"
        yield Problem("optimizer.lr", what, "set optimizer.lr to 1, or choose AdamW")
    elif sets_its_own_lr(s):
        what = f"is find, and {optimizer.name} sets its own learning rate (relative_step)"
        hint = "remove it, or add relative_step=False scale_parameter=False warmup_init=False"
        yield Problem("optimizer.lr", what, hint)
    own = [part for part in parts if getattr(optimizer, f"{part}_lr") is not None]
    if own and len(own) < len(parts):
        other = next(part for part in parts if part not in own)
        what = f"is find, and only {own[0]}_lr is a number: their ratio is not known"
        yield Problem("optimizer.lr", what, f"give {other}_lr too, or remove {own[0]}_lr")


def _warmup_ends(s: TrainSettings) -> Iterator[Problem]:
    warmup, steps = s.schedule.warmup, s.train.steps
    if steps is not None and warmup >= steps:
        yield Problem(
            "schedule.warmup",
            f"{warmup} steps of warm-up do not end within the {steps} steps of train.steps",
            'make it shorter, for example "5%"',
        )


def _learning_rates(s: TrainSettings) -> Iterator[Problem]:
    rates, facts = trained_rates(s), kind_facts(s)
    section, can_be = facts.sections[0], facts.trains(s)
    for part in s.optimizer.lrs:
        if part not in rates and getattr(s.optimizer, f"{part}_lr") is not None:
            why = f"while {section}.{part} is false" if part in can_be else f"on {facts.title}"
            yield Problem(f"optimizer.{part}_lr", f"has no effect {why}", "remove it")
        elif rates.get(part) == 0 and any(rates.values()):
            yield Problem(
                f"optimizer.{part}_lr",
                f"is 0: the {part.replace('_', ' ')} is not trained",
                f"set {section}.{part} to false to say so",
            )
    if optimizer_facts(s.optimizer.name).adaptive or sets_its_own_lr(s):
        return
    yield from far_too_high(s)
    if rates.get("text_encoder", 0) > 2 * rates.get("unet", float("inf")):
        yield Problem(
            "optimizer.text_encoder_lr",
            f"{rates['text_encoder']:g} is much higher than the UNet's {rates['unet']:g}; words "
            "lose their old meaning before pictures change",
            "half of the UNet's is usual",
        )


def far_too_high(s: TrainSettings, usual: float | None = None) -> Iterator[Problem]:
    """A rate that makes noise of pictures.

    Args:
        usual: what would be taken, had nobody set it; ``None`` takes what guides do.
    """
    optimizer = optimizer_facts(s.optimizer.name)
    usual = usual or optimizer.lr
    if optimizer.adaptive or sets_its_own_lr(s) or s.optimizer.seeks_lr or usual is None:
        return
    # Vectors stand rates that make noise of weights.
    of_weights = [rate for part, rate in trained_rates(s).items() if part != "embedding"]
    highest = max(of_weights, default=0)
    if highest > usual * HIGH:
        yield Problem(
            "optimizer.lr",
            f"{highest:g} with {s.optimizer.name} is about {round(highest / usual)} times "
            "what is usual: pictures turn into noise",
            f"take {usual:g}",
        )


def _adaptive_optimizer(s: TrainSettings) -> Iterator[Problem]:
    name, rates = s.optimizer.name, trained_rates(s)
    if not optimizer_facts(name).adaptive or not rates or s.optimizer.seeks_lr:
        return
    if (low := min(rates.values())) < LOW_ADAPTIVE_LR:
        yield Problem(
            "optimizer.lr",
            f"{low:g} with {name}, which finds the size of its steps itself and takes lr as a "
            "factor on it: it would hardly learn",
            "set lr to 1",
        )
    if (high := max(rates.values())) > HIGH_ADAPTIVE_LR:
        yield Problem(
            "optimizer.lr",
            f"{high:g} with {name} makes steps {high:g} times as large as it has found to be right",
            "set lr to 1" + ("; d_coef=2 is the gentler way" if name == "Prodigy" else ""),
        )
    if len(set(rates.values())) > 1:
        yield Problem(
            "optimizer",
            f"{name} has one step size for all parts; different learning rates "
            f"({', '.join(f'{part} {rate:g}' for part, rate in rates.items())}) only set a ratio",
            "set lr alone",
        )
    if not s.schedule.name.startswith("constant"):
        yield Problem(
            "schedule.name",
            f"{s.schedule.name} lowers what {name} has found to be right; it may learn too little",
            "use constant",
        )


def _adaptive_args(s: TrainSettings) -> Iterator[Problem]:
    name, args = s.optimizer.name, s.optimizer.args
    if name not in ("DAdaptAdam", "Prodigy"):
        return
    if _second_beta(args) > SLOW_BETA and not args.get("use_bias_correction"):
        yield Problem(
            "optimizer.args",
            f"{name} as its library sets it overshoots: with a second beta of "
            f"{_second_beta(args):g} and no bias correction its first steps are too large, and on "
            "the demo model the loss explodes within 40 steps",
            "add betas=0.9,0.99 or use_bias_correction=True, as guides do",
        )
    decays = bool(args.get("weight_decay"))
    if decays and not args.get("decouple", name == "Prodigy"):
        yield Problem(
            "optimizer.args",
            f"weight_decay without decouple=True goes through the gradients, from which {name} "
            "also judges the size of its steps",
            "add decouple=True",
        )
    coefficient = args.get("d_coef", 1)
    if isinstance(coefficient, int | float) and not D_COEF[0] <= coefficient <= D_COEF[1]:
        yield Problem(
            "optimizer.args",
            f"d_coef of {coefficient:g} is outside the range in which it was found to be of use",
            "take 0.5 to 2, up to 10 for very low ranks and (IA)^3",
        )
    if name == "Prodigy" and s.schedule.warmup and not args.get("safeguard_warmup"):
        yield Problem(
            "optimizer.args",
            "Prodigy misjudges its step size during a warm-up without safeguard_warmup",
            "add safeguard_warmup=True, or set schedule.warmup to 0",
        )


def _second_beta(args: dict[str, Any]) -> float:
    betas = args.get("betas", ())
    is_pair = isinstance(betas, tuple) and len(betas) == 2 and isinstance(betas[1], int | float)
    return float(betas[1]) if is_pair else 0.999


def _lion_and_sgd(s: TrainSettings) -> Iterator[Problem]:
    name, highest = s.optimizer.name, max(trained_rates(s).values(), default=0)
    if s.optimizer.seeks_lr:
        return
    if name.startswith("Lion") and highest > HIGH_LION_LR:
        yield Problem(
            "optimizer.lr",
            f"{highest:g} is a rate for AdamW; every step of {name} has full size: it wants a lr 3 "
            "to 10 times lower, and as many times more weight_decay",
            "take 2e-5",
        )
    if name.startswith("SGDNesterov") and 0 < highest < LOW_SGD_LR:
        yield Problem(
            "optimizer.lr",
            f"{name} takes the gradients as they are, which are tiny: with {highest:g} it would "
            "hardly learn in any number of steps",
            "take 0.1 or more",
        )


def _adafactor(s: TrainSettings) -> Iterator[Problem]:
    if s.optimizer.name != "AdaFactor":
        return
    if not sets_its_own_lr(s):
        if s.optimizer.args.get("scale_parameter", True):
            yield Problem(
                "optimizer.args",
                "with scale_parameter (AdaFactor's default) lr is multiplied by the size of each "
                "tensor, which is 0.001 for those of an adapter that start at zero",
                "add scale_parameter=False to give a lr of your own",
            )
        return
    rates = ("lr", "unet_lr", "text_encoder_lr", "embedding_lr")
    for name in (name for name in rates if is_given(s, "optimizer", name)):
        yield Problem(
            f"optimizer.{name}",
            "has no effect: AdaFactor sets its own learning rate (relative_step)",
            "remove it, or add relative_step=False scale_parameter=False warmup_init=False",
        )
    if s.schedule.name != "constant" or s.schedule.warmup:
        yield Problem(
            "schedule",
            "has no effect: AdaFactor falls with the square root of the steps by itself "
            "(relative_step)",
            "set schedule.name to constant to say so; its warm-up is warmup_init=True",
        )


def _schedule_free(s: TrainSettings) -> Iterator[Problem]:
    name, schedule = s.optimizer.name, s.schedule.name
    if optimizer_facts(name).schedule_free and not schedule.startswith("constant"):
        yield Problem(
            "schedule.name",
            f"{name} averages its weights instead of lowering the learning rate; {schedule} does "
            "both, and it may learn too little",
            "use constant, or constant_with_warmup",
        )


def _schedule(s: TrainSettings) -> Iterator[Problem]:
    name, warmup = s.schedule.name, s.schedule.warmup
    if name == "constant" and warmup:
        yield Problem(
            "schedule.name",
            f"constant with a warm-up of {warmup} is done as constant_with_warmup",
            "write constant_with_warmup to say so",
        )
    if name == "constant_with_warmup" and not warmup:
        yield Problem("schedule.warmup", "is 0, so constant_with_warmup is constant", 'try "5%"')
    if name != "cosine_with_restarts" and is_given(s, "schedule", "cycles"):
        yield Problem("schedule.cycles", f"has no effect with {name}", "use cosine_with_restarts")
    if name.startswith("constant") and is_given(s, "schedule", "min_ratio"):
        yield Problem("schedule.min_ratio", f"has no effect with {name}", "remove it")
    if name != "polynomial" and is_given(s, "schedule", "power"):
        yield Problem("schedule.power", f"has no effect with {name}", "use polynomial")
    scaled = ("inverse_sqrt", "cosine_annealing")
    if name not in scaled and is_given(s, "schedule", "timescale"):
        hint = f"use {' or '.join(scaled)}"
        yield Problem("schedule.timescale", f"has no effect with {name}", hint)
    if name == "inverse_sqrt" and not warmup and s.schedule.timescale is None:
        yield Problem(
            "schedule",
            "inverse_sqrt without warm-up has a time scale of 10000 steps: a shorter run hardly "
            "falls at all",
            'set schedule.warmup to "5%", or schedule.timescale to about a tenth of the steps',
        )


def _up_matrices(s: TrainSettings) -> Iterator[Problem]:
    if s.optimizer.loraplus_ratio != 1.0 and "adapter" not in kind_facts(s).sections:
        what = f"has no effect: train.kind is {s.train.kind}, which has no up matrix"
        yield Problem("optimizer.loraplus_ratio", what, "remove it")


CONTRADICTIONS: tuple[Check, ...] = (
    _optimizer_takes_args,
    _adafactor_warms_up_its_own_steps,
    _rate_can_be_sought,
    _warmup_ends,
)

ODDITIES: tuple[Check, ...] = (
    _learning_rates,
    _adaptive_optimizer,
    _adaptive_args,
    _lion_and_sgd,
    _adafactor,
    _schedule_free,
    _schedule,
    _up_matrices,
)
