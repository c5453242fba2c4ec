"""Checks that need more than one setting: contradictions stop a run, oddities are shown.

Each check is a generator over the settings tree that yields a :class:`Problem` per finding; the
tables at the end say which there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import TYPE_CHECKING

from lorasmith.config.optimizers import OPTIMIZERS
from lorasmith.errors import Problem

if TYPE_CHECKING:
    from lorasmith.config.schema import TrainSettings

Check = Callable[["TrainSettings"], Iterator[Problem]]

USUAL_LR = 1e-4
HIGH_LR = 0.01  # A hundred times what guides take; beyond it AdamW gives noise.
LOW_ADAPTIVE_LR = 0.1  # Below this, sd-scripts too warns about adaptive optimizers.
HIGH_NOISE_OFFSET = 0.2


def contradictions(settings: TrainSettings) -> list[Problem]:
    """What cannot be meant: settings that exclude each other."""
    return [problem for check in CONTRADICTIONS for problem in check(settings)]


def oddities(settings: TrainSettings) -> list[Problem]:
    """What is allowed but odd, with the reason."""
    return [problem for check in ODDITIES for problem in check(settings)]


def missing_data(settings: TrainSettings) -> list[Problem]:
    """A run needs pictures; settings that are only looked at do not."""
    if settings.data.path is not None or settings.data.folders:
        return []
    return [
        Problem(
            "data.path", "no training pictures are named", "add --data DIR, or path under [data]"
        )
    ]


def _is_given(settings: TrainSettings, section: str, *names: str) -> bool:
    """Whether one of the settings was said to be something other than its default."""
    values = getattr(settings, section)
    fields = type(values).model_fields
    return any(getattr(values, name) != fields[name].get_default() for name in names)


# Contradictions


def _something_is_trained(s: TrainSettings) -> Iterator[Problem]:
    parts = {"unet": s.adapter.unet, "text_encoder": s.adapter.text_encoder}
    if not any(parts.values()):
        yield Problem(
            "adapter",
            "unet and text_encoder are both false: there is nothing to train",
            "set at least one of them to true",
        )
    elif not any(s.optimizer.lrs[part] for part, wanted in parts.items() if wanted):
        yield Problem(
            "optimizer.lr",
            "the learning rate of everything that is trained is 0: nothing would change",
            "give a learning rate, such as 1e-4",
        )


def _data_is_named_once(s: TrainSettings) -> Iterator[Problem]:
    if s.data.path is not None and s.data.folders:
        yield Problem(
            "data",
            f"both path ({s.data.path}) and {len(s.data.folders)} [[data.folders]] are given",
            "use one of them; a folder can be added as one more [[data.folders]] table",
        )
    if s.data.folders and all(folder.reg for folder in s.data.folders):
        yield Problem(
            "data.folders",
            "all of them are regularisation folders (reg = true): there is nothing to learn",
            "leave reg out of the folders with training pictures",
        )


def _buckets_fit(s: TrainSettings) -> Iterator[Problem]:
    low, high, size = s.buckets.min, s.buckets.max, s.data.resolution
    if low is not None and high is not None and low > high:
        yield Problem(
            "buckets", f"min ({low}) is larger than max ({high})", "exchange them or drop one"
        )
    elif size is not None and s.buckets.enabled:
        sides = (size, size) if isinstance(size, int) else size
        if low is not None and low > min(sides):
            yield Problem(
                "buckets.min", f"{low} is larger than the resolution {_size(size)}", "lower it"
            )
        if high is not None and high < max(sides):
            yield Problem(
                "buckets.max", f"{high} is smaller than the resolution {_size(size)}", "raise it"
            )


def _size(size: int | tuple[int, int]) -> str:
    return str(size) if isinstance(size, int) else f"{size[0]}x{size[1]}"


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


def _text_can_be_cached(s: TrainSettings) -> Iterator[Problem]:
    if s.performance.cache_text is not True:
        return
    if _trained_rates(s).get("text_encoder"):
        yield Problem(
            "performance.cache_text",
            "captions cannot be encoded once while the text encoder is trained",
            'leave it at "auto", or set adapter.text_encoder to false',
        )
    elif varying := _caption_changes(s):
        yield Problem(
            "performance.cache_text",
            f"captions cannot be encoded once while they vary ({', '.join(varying)})",
            'leave it at "auto"',
        )


def _caption_changes(s: TrainSettings) -> list[str]:
    names = ("shuffle", "dropout", "dropout_every_n_epochs", "tag_dropout", "wildcards")
    return [f"captions.{name}" for name in names if getattr(s.captions, name)]


def _no_fp16_on_cpu(s: TrainSettings) -> Iterator[Problem]:
    if s.performance.device == "cpu" and s.train.precision == "fp16":
        yield Problem(
            "train.precision",
            "fp16 does not train on a CPU: it is slower than fp32 there and overflows",
            'use "auto", "bf16" or "fp32"',
        )


# Oddities


def _alpha_over_rank(s: TrainSettings) -> Iterator[Problem]:
    pairs = (("rank", "alpha"), ("conv_rank", "conv_alpha"))
    for rank_name, alpha_name in pairs:
        rank, alpha = getattr(s.adapter, rank_name), getattr(s.adapter, alpha_name)
        if alpha is not None and rank and alpha > rank:
            yield Problem(
                f"adapter.{alpha_name}",
                f"{alpha:g} is larger than {rank_name} {rank}: every change counts "
                f"{alpha / rank:g} times, which tends to burn",
                "take the rank or half of it",
            )
    if s.adapter.conv_alpha is not None and not s.adapter.conv_rank:
        yield Problem(
            "adapter.conv_alpha", "has no effect while conv_rank is 0", "set adapter.conv_rank"
        )


def _adaptive_optimizer(s: TrainSettings) -> Iterator[Problem]:
    name, rates = s.optimizer.name, _trained_rates(s)
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


def _trained_rates(s: TrainSettings) -> dict[str, float]:
    wanted = {"unet": s.adapter.unet, "text_encoder": s.adapter.text_encoder}
    return {part: rate for part, rate in s.optimizer.lrs.items() if wanted[part]}


def _learning_rates(s: TrainSettings) -> Iterator[Problem]:
    rates = _trained_rates(s)
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


def _length(s: TrainSettings) -> Iterator[Problem]:
    if s.train.steps is not None and "epochs" in s.train.model_fields_set:
        yield Problem(
            "train",
            f"steps ({s.train.steps}) and epochs ({s.train.epochs}) are both given: steps decide",
            "remove one of them",
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
    if name != "cosine_with_restarts" and _is_given(s, "schedule", "cycles"):
        yield Problem("schedule.cycles", f"has no effect with {name}", "use cosine_with_restarts")
    if name.startswith("constant") and _is_given(s, "schedule", "min_ratio"):
        yield Problem("schedule.min_ratio", f"has no effect with {name}", "remove it")


def _loss(s: TrainSettings) -> Iterator[Problem]:
    if s.loss.noise_offset > HIGH_NOISE_OFFSET:
        yield Problem(
            "loss.noise_offset",
            f"{s.loss.noise_offset:g} is high: pictures look deep-fried",
            "0.05 to 0.1 is usual",
        )


def _captions(s: TrainSettings) -> Iterator[Problem]:
    c = s.captions
    if not (c.shuffle or c.tag_dropout):
        if c.keep_tokens or c.keep_tokens_separator:
            yield Problem(
                "captions.keep_tokens",
                "has no effect: tags are neither shuffled nor dropped",
                "set captions.shuffle to true",
            )
    elif c.keep_tokens and c.keep_tokens_separator:
        yield Problem(
            "captions.keep_tokens",
            f"captions with {c.keep_tokens_separator!r} are cut there, whatever keep_tokens says",
            "use one of them",
        )
    if c.dropout == 1 or c.dropout_every_n_epochs == 1:
        yield Problem(
            "captions.dropout",
            "every caption is dropped: no word will call the LoRA up",
            "lower it",
        )
    if s.model.clip_skip > 2:
        yield Problem(
            "model.clip_skip",
            f"{s.model.clip_skip} is unusual",
            "1 for realistic, 2 for anime models",
        )


def _buckets(s: TrainSettings) -> Iterator[Problem]:
    if not s.buckets.enabled and _is_given(s, "buckets", "min", "max"):
        yield Problem("buckets", "min and max have no effect: buckets are off", "remove them")
    elif not s.buckets.upscale and _is_given(s, "buckets", "min", "max"):
        yield Problem(
            "buckets", "min and max have no effect with upscale = false", "remove one or the other"
        )


CONTRADICTIONS: tuple[Check, ...] = (
    _something_is_trained,
    _data_is_named_once,
    _buckets_fit,
    _optimizer_takes_args,
    _warmup_ends,
    _text_can_be_cached,
    _no_fp16_on_cpu,
)

ODDITIES: tuple[Check, ...] = (
    _alpha_over_rank,
    _learning_rates,
    _adaptive_optimizer,
    _length,
    _schedule,
    _loss,
    _captions,
    _buckets,
)
