"""Checks of optimizer, learning rates and schedule."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import TYPE_CHECKING

from lorasmith.config.check import Check, is_given, trained_rates
from lorasmith.config.optimizers import OPTIMIZERS
from lorasmith.errors import Problem

if TYPE_CHECKING:
    from lorasmith.config.schema import TrainSettings

USUAL_LR = 1e-4
HIGH_LR = 0.01  # A hundred times what guides take; beyond it AdamW gives noise.
LOW_ADAPTIVE_LR = 0.1  # Below this, sd-scripts too warns about adaptive optimizers.


def _optimizer_takes_args(s: TrainSettings) -> Iterator[Problem]:
    known = OPTIMIZERS[s.optimizer.name].args
    for name in s.optimizer.args:
        if name in known:
            continue
        close = get_close_matches(name, known, n=1)
        todo = f"did you mean {close[0]}?" if close else f"it takes {', '.join(known)}"
        if name == "lr":
            todo = "set optimizer.lr"
        yield Problem("optimizer.args", f"{s.optimizer.name} has no argument {name}", todo)


def _warmup_ends(s: TrainSettings) -> Iterator[Problem]:
    warmup, steps = s.schedule.warmup, s.train.steps
    if steps is not None and warmup >= steps:
        yield Problem(
            "schedule.warmup",
            f"{warmup} steps of warm-up do not end within the {steps} steps of train.steps",
            'make it shorter, for example "5%"',
        )


def _learning_rates(s: TrainSettings) -> Iterator[Problem]:
    rates = trained_rates(s)
    for part in ("unet", "text_encoder"):
        if part not in rates and getattr(s.optimizer, f"{part}_lr") is not None:
            yield Problem(
                f"optimizer.{part}_lr", f"has no effect while adapter.{part} is false", "remove it"
            )
        elif rates.get(part) == 0 and any(rates.values()):
            yield Problem(
                f"optimizer.{part}_lr",
                f"is 0: the {part.replace('_', ' ')} is not trained",
                f"set adapter.{part} to false to say so",
            )
    if OPTIMIZERS[s.optimizer.name].adaptive:
        return
    if (highest := max(rates.values(), default=0)) > HIGH_LR:
        yield Problem(
            "optimizer.lr",
            f"{highest:g} with {s.optimizer.name} is about {round(highest / USUAL_LR)} times what "
            "is usual: pictures turn into noise",
            f"take {USUAL_LR:g}",
        )
    if rates.get("text_encoder", 0) > 2 * rates.get("unet", float("inf")):
        yield Problem(
            "optimizer.text_encoder_lr",
            f"{rates['text_encoder']:g} is much higher than the UNet's {rates['unet']:g}; words "
            "lose their old meaning before pictures change",
            "half of the UNet's is usual",
        )


def _adaptive_optimizer(s: TrainSettings) -> Iterator[Problem]:
    name, rates = s.optimizer.name, trained_rates(s)
    if not OPTIMIZERS[name].adaptive or not rates:
        return
    if (low := min(rates.values())) < LOW_ADAPTIVE_LR:
        yield Problem(
            "optimizer.lr",
            f"{low:g} with {name}, which finds the size of its steps itself and takes lr as a "
            "factor on it: it would hardly learn",
            "set lr to 1",
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
    if name == "Prodigy" and s.schedule.warmup and not s.optimizer.args.get("safeguard_warmup"):
        yield Problem(
            "optimizer.args",
            "Prodigy misjudges its step size during a warm-up without safeguard_warmup",
            "add safeguard_warmup=True, or set schedule.warmup to 0",
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


CONTRADICTIONS: tuple[Check, ...] = (
    _optimizer_takes_args,
    _warmup_ends,
)

ODDITIES: tuple[Check, ...] = (
    _learning_rates,
    _adaptive_optimizer,
    _schedule,
)
