"""Settings of how it is learned: optimizer and learning-rate schedule."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from lorasmith.config.fields import Section, setting
from lorasmith.config.optimizers import optimizer_facts, optimizer_name
from lorasmith.config.values import Args, Warmup

USUAL_LR = 1e-4
OptimizerName = Annotated[str, BeforeValidator(optimizer_name)]
ScheduleName = Literal[
    "constant",
    "constant_with_warmup",
    "linear",
    "cosine",
    "cosine_with_restarts",
    "cosine_annealing",
    "polynomial",
    "inverse_sqrt",
    "rex",
]


class OptimizerSettings(Section):
    """What turns gradients into changes, and how large these are."""

    name: OptimizerName = setting(
        "AdamW",
        "optimizer: one of the table below, a class of pytorch_optimizer where that is installed, "
        "or any class as module.Class; those that find their own learning rate want lr = 1 and a "
        "constant schedule",
        why="the best understood; lr means what guides say",
        kind="name of an optimizer",
    )
    lr: Annotated[float, Field(ge=0, le=100)] | Literal["find"] = setting(
        USUAL_LR,
        "learning rate of the parts that have none of their own; find looks for it on the run's "
        "own pictures before the first step, and keeps the ratio of unet_lr and text_encoder_lr",
        why="what guides call the standard value for the UNet",
        kind="number or find",
    )
    unet_lr: float | None = setting(
        None, "learning rate of the UNet's part", why="lr", kind="number", ge=0, le=100
    )
    text_encoder_lr: float | None = setting(
        None,
        "learning rate of the text encoder's part; guides take half of the UNet's",
        why="lr",
        kind="number",
        ge=0,
        le=100,
    )
    embedding_lr: float | None = setting(
        None,
        "learning rate of the vectors of your own words (`train.kind`)",
        why="lr",
        kind="number",
        ge=0,
        le=100,
    )
    loraplus_ratio: float = setting(
        1.0,
        "learning rate of the up matrices, which start at zero, relative to the others' (LoRA+); "
        "16 is the paper's",
        why="alike, as everywhere else",
        gt=0,
        le=1000,
    )
    args: Args = setting(
        {},
        'further arguments of the optimizer: a table, or texts as in ["weight_decay=0.01", '
        '"betas=0.9,0.99"]',
        why="the optimizer's own defaults",
        kind="table or list of key=value",
    )
    max_grad_norm: float = setting(
        1.0,
        "gradients with a larger norm are scaled down to it; 0 is off",
        why="one strange batch then cannot spoil a run",
        ge=0,
        le=1e6,
    )

    @property
    def seeks_lr(self) -> bool:
        """Whether the learning rate is looked for when the run begins."""
        return self.lr == "find"

    @property
    def full_lr(self) -> float:
        """``lr``; while it is still to be looked for, what is usual for the optimizer."""
        if self.lr == "find":
            return optimizer_facts(self.name).lr or USUAL_LR
        return self.lr

    @property
    def lrs(self) -> dict[str, float]:
        """Learning rate of each part: ``unet`` and ``text_encoder``, and ``embedding`` where it has
        one of its own; while it is still to be looked for, their ratio is what will stay."""
        lr = self.full_lr
        rates = {
            "unet": lr if self.unet_lr is None else self.unet_lr,
            "text_encoder": lr if self.text_encoder_lr is None else self.text_encoder_lr,
        }
        return rates if self.embedding_lr is None else {**rates, "embedding": self.embedding_lr}

    def lr_of(self, part: str) -> float:
        """Learning rate of a part, its own or that of all."""
        return self.lrs.get(part, self.full_lr)

    def seeking(self) -> OptimizerSettings:
        """The same with a rate that is to be looked for; the parts' rates stay in ratio."""
        rates = {f"{part}_lr": lr for part, lr in self.lrs.items()}
        if self.seeks_lr or len(set(rates.values())) == 1:
            rates = {}
        return self.model_copy(update={"lr": "find", **rates})

    def times(self, factor: float) -> OptimizerSettings:
        """With all learning rates ``factor`` times as high, to four digits, as numbers."""

        def rounded(lr: float | None) -> float | None:
            return None if lr is None else float(f"{lr * factor:.4g}")

        rates = {
            "lr": rounded(self.full_lr),
            "unet_lr": rounded(self.unet_lr),
            "text_encoder_lr": rounded(self.text_encoder_lr),
            "embedding_lr": rounded(self.embedding_lr),
        }
        return self.model_copy(update=rates)


class ScheduleSettings(Section):
    """How the learning rate goes over the run."""

    name: ScheduleName = setting(
        "cosine",
        "shape of the learning rate after the warm-up; all but the constant ones fall to min_ratio",
        why="large steps first, fine ones at the end, with nothing to set",
    )
    warmup: Warmup = setting(
        0,
        'linear rise at the start: steps, or a share of the run such as "5%"',
        why="a LoRA starts from no change and needs none",
        unit='steps, or "N%"',
        kind="whole number, share or percent",
    )
    cycles: int = setting(
        3, "how often cosine_with_restarts goes down", why="1 would be plain cosine", ge=1, le=1000
    )
    power: float = setting(
        2.0,
        "exponent of polynomial; larger ones fall sooner",
        why="1 would be linear",
        gt=0,
        le=100,
    )
    timescale: int | None = setting(
        None,
        "steps after which inverse_sqrt begins to fall with the square root of the steps; steps in "
        "which cosine_annealing goes down, to go up again in as many",
        why="the steps of the warm-up, or 10000 without one, as transformers has it; those of the "
        "run for cosine_annealing",
        unit="steps",
        ge=1,
    )
    min_ratio: float = setting(
        0.0, "lowest learning rate as a share of the highest", why="ends at rest", ge=0, le=1
    )
