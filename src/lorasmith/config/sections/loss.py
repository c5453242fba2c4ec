"""Settings of what is minimised: loss, its weights, noise, timesteps, masks, what is preserved."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import field_validator, model_validator

from lorasmith.config.fields import Section, setting
from lorasmith.config.values import UserPath


class LossSettings(Section):
    """What the training tries to make small."""

    type: Literal["l2", "l1", "huber", "smooth_l1"] = setting(
        "l2",
        "what a wrong prediction costs: its square (l2), its size (l1), or a mix that is square "
        "below huber_c and straight above (huber, smooth_l1)",
        why="what the base models were trained with",
    )
    huber_c: float = setting(
        0.1,
        "where huber and smooth_l1 turn from square to straight; what is predicted has a standard "
        "deviation of about 1",
        why="sd-scripts' value",
        unit="standard deviations",
        gt=0,
        le=100,
    )
    huber_schedule: Literal["constant", "exponential", "snr"] = setting(
        "snr",
        "how huber_c changes with the noise level: not at all, or from 1 where there is little "
        "noise down to huber_c where there is most",
        why="sd-scripts' choice: the rough outlines are kept from outliers, details stay square",
    )
    huber_scale: float = setting(
        1.0,
        "multiplies huber_c at every noise level",
        why="the schedule as it is; sd-scripts' value",
        gt=0,
        le=100,
    )
    min_snr_gamma: float | None = setting(
        5.0,
        "weigh noise levels by min-SNR with this gamma; 0 and none are off, 20 does very little",
        why="the paper's value: steadier learning at no cost; off where debiased is on",
        kind="number",
        ge=0,
        le=1000,
    )
    debiased: bool = setting(
        False,
        "weigh noise levels by debiased estimation, in place of min-SNR",
        why="min-SNR is the better known",
    )
    scale_v_like_noise: bool = setting(
        False,
        "weigh a model that predicts velocity as if it predicted the noise",
        why="min-SNR balances noise levels already; does nothing where the noise is predicted",
    )
    v_like: float = setting(
        0.0,
        "add so many times the loss that a model predicting velocity would have: more weight on "
        "high noise, for models that predict noise",
        why="off; sd-scripts has it as v_pred_like_loss",
        ge=0,
        le=10,
    )
    noise_offset: float = setting(
        0.0,
        "shift the noise of whole pictures, for darker darks and brighter brights",
        why="off; 0.05 to 0.1 for pictures that come out dull",
        ge=0,
        le=1,
    )
    noise_offset_random: bool = setting(
        False,
        "draw each sample's offset strength between 0 and noise_offset",
        why="one strength is easier to judge",
    )
    adaptive_noise_scale: float = setting(
        0.0,
        "added to noise_offset, times how far a picture's latents are off the middle; may be "
        "negative",
        why="off; about noise_offset itself where it is used",
        ge=-10,
        le=10,
    )
    multires_iterations: int = setting(
        0,
        "layers of coarser and coarser noise that are mixed into the noise (pyramid noise)",
        why="off; 6 to 10 to learn light and large shapes",
        ge=0,
        le=32,
    )
    multires_discount: float = setting(
        0.3,
        "how much weaker each coarser layer is than the one before",
        why="sd-scripts' value; 0.1 to 0.3 for LoRAs, up to 0.8 for whole models",
        gt=0,
        le=1,
    )
    antithetic_noise: bool = setting(
        False,
        "every second showing of a picture gets the noise of the one before, with its sign turned",
        why="each draw for itself, as the base models were trained",
    )
    noise_candidates: int = setting(
        1,
        "draw so much noise for each sample, and use the one nearest to its picture (immiscible "
        "diffusion); noise then depends on the picture, which changes what is learned in the mean",
        why="1 is plain noise, as the base models were trained with",
        ge=1,
        le=64,
    )
    input_perturbation: float = setting(
        0.0,
        "more noise on what the model sees, which it is not asked to predict (ip_noise_gamma)",
        why="off; the paper's value is 0.1",
        ge=0,
        le=1,
    )
    input_perturbation_random: bool = setting(
        False,
        "draw each sample's perturbation strength between 0 and input_perturbation",
        why="one strength is easier to judge",
    )
    zero_terminal_snr: bool | Literal["auto"] = setting(
        "auto",
        "rescale the noise schedule so that nothing of the picture is left at its end; samples "
        "are drawn with the same schedule",
        why="what the model's file says: right only for base models that were trained so",
    )
    min_timestep: int = setting(
        0,
        "lowest timestep that is trained; 0 is the least noise",
        why="all noise levels",
        unit="timesteps",
        ge=0,
        le=999,
    )
    max_timestep: int = setting(
        1000,
        "timesteps below this are trained; 1000 is all noise",
        why="all noise levels",
        unit="timesteps",
        ge=1,
        le=1000,
    )
    timesteps: Literal["uniform", "logit_normal", "low", "high", "importance"] = setting(
        "uniform",
        "how often each noise level is drawn: all alike, the middle most, low or high ones most, "
        "or as often as the loss weighs them (importance), in place of weighing",
        why="what the base models were trained with",
    )
    timestep_mean: float = setting(
        0.0,
        "logit_normal: where the middle is; above 0 is more noise",
        why="the middle of the range",
        ge=-5,
        le=5,
    )
    timestep_std: float = setting(
        1.0,
        "logit_normal: how wide it is; 0.5 is narrow, 2 reaches both ends",
        why="as in Stable Diffusion 3",
        gt=0,
        le=10,
    )
    timestep_power: float = setting(
        3.0,
        "low and high: how strongly they lean; 1 is uniform",
        why="the cubic sampling of style and sketch models",
        ge=1,
        le=10,
    )
    timestep_strata: Literal["none", "batch", "image", "both"] = setting(
        "none",
        "spread noise levels more evenly than chance does: over the samples of each step (batch), "
        "over the showings of each picture (image), or over both; each draw by itself stays "
        "distributed as timesteps says",
        why="each draw for itself, as the base models were trained",
    )
    masked: Literal["off", "alpha", "beside", "folder"] = setting(
        "off",
        "learn from a part of each picture only: where it is opaque (alpha), or where its mask is "
        "white: the one beside it, as in a-masklabel.png (beside), or that of the same name in "
        "mask_folder (folder)",
        why="pictures count as a whole",
    )
    mask_folder: UserPath | None = setting(
        None,
        "folder of masks, laid out like the training pictures, for masked = folder",
        why="there is no folder to assume",
    )
    mask_floor: float = setting(
        0.0,
        "least weight of any place, so of everything outside the mask",
        why="what is masked out is not learned at all",
        ge=0,
        le=1,
    )
    mask_normalize: bool = setting(
        False,
        "let every picture count the same, however little of it its mask leaves",
        why="each place that the masks leave counts the same, as in sd-scripts",
    )
    outside_mask: Literal["ignore", "prior"] = setting(
        "ignore",
        "what is learned where the mask is black: nothing, or to predict what the base model does "
        "(prior)",
        why="prior costs one more forward pass a step",
    )
    prior_weight: float = setting(
        1.0,
        "factor on the loss of regularisation pictures",
        why="they count as much as the others",
        ge=0,
        le=100,
    )

    @model_validator(mode="before")
    @classmethod
    def _debiased_stands_in(cls, values: Any) -> Any:
        """``debiased = true`` alone means that, not a quarrel with another setting's default."""
        if not isinstance(values, dict) or "min_snr_gamma" in values:
            return values
        debiased = values.get("debiased")
        if debiased is True or str(debiased).strip().lower() == "true":
            return {**values, "min_snr_gamma": None}
        return values

    @field_validator("min_snr_gamma")
    @classmethod
    def _zero_is_none(cls, value: float | None) -> float | None:
        return value or None


class PreservationSettings(Section):
    """Keep what the base model draws without the trigger: in some steps the adapter's prediction
    is also pulled to that of the same model with the adapter off, for the caption without it."""

    enabled: bool | Literal["auto"] = setting(
        "auto",
        "keep the base model's output for captions without the trigger",
        why="on where the captions have a trigger and there are no regularisation pictures",
    )
    share: float = setting(
        0.25,
        "share of the steps that do it; one that does takes about two and a half times as long",
        why="a step in four adds some 40% to the time",
        unit="share of steps",
        gt=0,
        le=1,
    )
    own_share: float = setting(
        0.5,
        "in how many of these steps what is kept is what the base draws itself, from noise on "
        "in up to three steps, not what it makes of the training pictures; such a step takes "
        "three to four times as long as a plain one",
        why="without, a style in the pictures' colours leaks into other drawings",
        unit="share of these steps",
        ge=0,
        le=1,
    )
    prompts: list[str] = setting(
        [],
        "prompts of other things that the base knows, best of the subject's own kind; where it "
        "draws from noise, it is for these, in place of the captions without the trigger",
        why="the captions alone: they name neither what all the pictures share nor what none shows",
    )
    weight: float = setting(
        1.0,
        "factor on its loss in the steps that do it",
        why="as much as the pictures count there",
        gt=0,
        le=1000,
    )
    class_word: str = setting(
        "",
        "word to put in the trigger's place, such as dog or girl",
        why="the trigger is taken out; right where the captions name the class besides",
    )
    empty_share: float = setting(
        0.2,
        "how often it is the empty caption that is kept instead",
        why="what guidance subtracts stays as it is, and so does what no caption names",
        unit="share of samples",
        ge=0,
        le=1,
    )
