"""Settings of what watches over a run: held-out loss and the watchdog."""

from __future__ import annotations

from typing import Literal

from lorasmith.config.fields import Section, setting
from lorasmith.config.values import AUTO, AutoEvery, Every, Share, UserPath
from lorasmith.core.rng import MAX_SEED


class ValidationSettings(Section):
    """Loss on images that are not trained on, always with the same noise."""

    split: Share = setting(
        0.0,
        "share of each folder's pictures that is kept from training and measured instead, "
        'as 0.1 or "10%"; never of regularisation pictures',
        why="small sets need every picture; from 30 on, 10% is worth it",
        unit="share of pictures",
        kind="share or percentage",
        ge=0,
        lt=1,
    )
    folder: UserPath | None = setting(
        None,
        "folder of pictures to measure, laid out like data.path, in place of `split`",
        why="most sets are one folder",
    )
    every_epochs: AutoEvery = setting(
        AUTO,
        "measure each N epochs; 0 and none: never; auto: about ten times in a run, by steps where "
        "an epoch is long; none where every_steps is given",
        why="one number per snapshot",
        unit="epochs",
    )
    every_steps: Every = setting(
        None,
        "measure each N optimizer steps",
        why="epochs are enough",
        unit="optimizer steps",
    )
    timesteps: int = setting(
        8,
        "noise levels at which each picture is measured, spread evenly over all of them",
        why="two for each quarter; more make the numbers steadier and cost as much more",
        unit="timesteps per picture",
        ge=1,
        le=1000,
    )
    pictures: int | None = setting(
        32,
        "the most held-out pictures that are measured, and as many of the training ones",
        why="more would cost more time than they tell",
        unit="pictures",
        ge=1,
        le=100_000,
    )
    seed: int = setting(
        0,
        "number that fixes which pictures are held out and the noise they are measured with",
        why="the same in every run, so that their curves compare",
        ge=0,
        le=MAX_SEED,
    )


class WatchdogSettings(Section):
    """What happens when numbers go wrong: NaN, infinity, weights that explode.

    A run without trouble is the same with the watchdog and without it, bit for bit.
    """

    enabled: bool = setting(
        True,
        "watch loss, gradients and weights at each logged step; false stops at a loss that is no "
        "number, and looks at nothing else",
        why="costs next to nothing, and a run gone wrong is saved",
    )
    action: Literal["rollback", "stop"] = setting(
        "rollback",
        "rollback goes back to numbers that were good and goes on with a change; stop ends the "
        "run there, with everything saved",
        why="an unwatched run is worth finishing",
    )
    attempts: int = setting(
        1,
        "how often a run goes back before it stops for good",
        why="what comes back after a change has a cause that a person should see",
        unit="times",
        ge=1,
        le=100,
    )
    lr_factor: float = setting(
        0.5,
        "what the learning rate is multiplied by, from where the run went back to",
        why="rates just above what a run bears are the usual cause",
        gt=0,
        le=1,
    )
    copy_every: int = setting(
        20,
        "keep a copy of weights and optimizer in memory each N steps; the run goes back to one at "
        "least that old",
        why="numbers are often spoilt some steps before they break",
        unit="optimizer steps",
        ge=1,
        le=1_000_000,
    )
    max_norm_growth: float | None = setting(
        10.0,
        "weights whose norm grew by more than this within 100 steps have exploded; none: off",
        why="AdamW that learns stays below 2, Prodigy below 8; runs that end in noise pass 10",
        kind="number",
        gt=1,
        le=1e6,
    )
    min_loss_scale: float = setting(
        1.0,
        "a loss scale below this has collapsed (fp16 alone has one)",
        why="fp16 should hold gradients that are not scaled up at all",
        ge=0,
        le=65536,
    )
