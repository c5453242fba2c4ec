"""Checks of full fine-tuning: what goes together, and what has no effect on a base's weights."""

from __future__ import annotations

from collections.abc import Iterator

from lorasmith.config.checks.base import Check, is_given, trained_rates
from lorasmith.config.optimizers import optimizer_facts
from lorasmith.config.schema import TrainSettings
from lorasmith.core.errors import Problem

HIGH_LR = 1e-4
"""diffusers' examples take 5e-6 (DreamBooth) and 1e-5 with AdamW."""


def _something_is_trained(s: TrainSettings) -> Iterator[Problem]:
    rates = trained_rates(s)
    if not rates:
        what = "unet and text_encoder are both false: there is nothing to train"
        yield Problem("full", what, "set at least one of them to true")
    elif not any(rates.values()):
        what = "the learning rate of everything that is trained is 0: nothing would change"
        yield Problem("optimizer.lr", what, "give a learning rate, such as 5e-6")


def _rate_is_a_number(s: TrainSettings) -> Iterator[Problem]:
    if s.optimizer.seeks_lr and s.full.weights == "bf16":
        what = "is find, which measures steps so small that bfloat16 weights cannot hold them"
        yield Problem("optimizer.lr", what, "give a number; 5e-6 is usual")


def _weights_in_bf16(s: TrainSettings) -> Iterator[Problem]:
    if s.full.weights == "bf16" and s.train.precision != "bf16":
        what = (
            f"bf16 is what the model then computes in, and train.precision is {s.train.precision}"
        )
        yield Problem("full.weights", what, "set train.precision = bf16")


def _tensor_by_tensor(s: TrainSettings) -> Iterator[Problem]:
    """Optimizers that see all tensors together cannot step one by itself."""
    one_by_one = {
        "full.weights": s.full.weights == "bf16",
        "full.fused_backward": s.full.fused_backward,
    }
    facts = optimizer_facts(s.optimizer.name)
    for setting in (name for name, is_set in one_by_one.items() if is_set):
        why = ""
        if facts.adaptive:
            why = "finds one step size for all weights"
        elif facts.schedule_free:
            why = "keeps the weights that it is worth apart from those that it trains"
        if why:
            value = "bf16 steps" if setting == "full.weights" else "steps"
            what = f"{value} each weight by itself, and {s.optimizer.name} {why}"
            yield Problem(setting, what, "choose AdamW8bit, AdaFactor or AdamW")


def _fused_backward(s: TrainSettings) -> Iterator[Problem]:
    if not s.full.fused_backward:
        return
    where = "full.fused_backward"
    if s.train.accumulation > 1:
        what = f"forgets gradients at once, and train.accumulation sums {s.train.accumulation}"
        yield Problem(where, what, "set train.accumulation = 1, or train.batch higher")
    if s.preservation.enabled is True:
        what = "has one backward pass a step, and preservation adds a second"
        yield Problem(where, what, "use regularisation pictures (--reg), or leave one of them out")
    if s.train.precision == "fp16":
        what = "steps before it is known whether a gradient overflows, as fp16 has them do"
        yield Problem(where, what, "set train.precision to bf16 or fp32")


def _weights_are_at_hand(s: TrainSettings) -> Iterator[Problem]:
    if not s.full.unet:
        return
    for setting, is_set in (
        ("train.base_precision", s.train.base_precision != "auto"),
        ("performance.offload_blocks", s.performance.offload_blocks > 0),
    ):
        if is_set:
            what = "is for weights that stay as they are, and the UNet's are trained"
            yield Problem(setting, what, "leave it out; full.weights = bf16 saves memory")


def _saved_as_the_base(s: TrainSettings) -> Iterator[Problem]:
    if is_given(s, "save", "precision"):
        what = "is for LoRA files: a checkpoint is saved in the base's own number formats"
        hint = "leave it out; `lorasmith convert --precision` rounds the checkpoint afterwards"
        yield Problem("save.precision", what, hint)


def _clipped_by_itself(s: TrainSettings) -> Iterator[Problem]:
    if s.full.fused_backward and s.optimizer.max_grad_norm:
        what = f"{s.optimizer.max_grad_norm:g} is then the limit of each weight's gradient by "
        what += "itself: the norm of all is known only when they are gone"
        yield Problem("full.fused_backward", what, "0 is off")


def _high_rate(s: TrainSettings) -> Iterator[Problem]:
    facts = optimizer_facts(s.optimizer.name)
    highest = 0.0 if s.optimizer.seeks_lr else max(trained_rates(s).values(), default=0.0)
    if facts.lr == 1e-4 and not facts.sets_its_own_lr(s.optimizer.args) and highest > HIGH_LR:
        what = f"{highest:g} is a LoRA's: a base's own weights take a tenth of it or less"
        yield Problem("optimizer.lr", what, "5e-6 to 1e-5 is usual")


CONTRADICTIONS: tuple[Check, ...] = (
    *(_something_is_trained, _rate_is_a_number, _weights_in_bf16, _tensor_by_tensor),
    *(_fused_backward, _weights_are_at_hand, _saved_as_the_base),
)

ODDITIES: tuple[Check, ...] = (_clipped_by_itself, _high_rate)
