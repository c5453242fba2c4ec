"""Checks of loss, noise, timesteps and masks."""

from __future__ import annotations

from collections.abc import Iterator

from lorasmith.config.checks.base import Check, is_given
from lorasmith.config.kinds import kind_facts
from lorasmith.config.schema import TrainSettings
from lorasmith.core.errors import Problem

HIGH_NOISE_OFFSET = 0.2
HIGH_PERTURBATION = 0.2
HIGH_DISCOUNT = 0.5
USUAL_GAMMA = (1.0, 20.0)
NARROW_RANGE = 100


def _one_weighting(s: TrainSettings) -> Iterator[Problem]:
    if s.loss.debiased and s.loss.min_snr_gamma is not None:
        yield Problem(
            "loss.debiased",
            "min-SNR and debiased estimation are two answers to the same question: together they "
            "weigh every noise level twice",
            "set loss.min_snr_gamma to 0, or loss.debiased to false",
        )


def _one_kind_of_noise(s: TrainSettings) -> Iterator[Problem]:
    if s.loss.multires_iterations and (s.loss.noise_offset or s.loss.adaptive_noise_scale):
        name = "noise_offset" if s.loss.noise_offset else "adaptive_noise_scale"
        yield Problem(
            "loss.multires_iterations",
            f"multi-resolution noise and {name} exclude each other: the coarsest layer is an "
            "offset already, and the sum is scaled back to a standard deviation of 1",
            f"set loss.{name} or loss.multires_iterations to 0",
        )


def _pairs_or_candidates(s: TrainSettings) -> Iterator[Problem]:
    if s.loss.antithetic_noise and s.loss.noise_candidates > 1:
        yield Problem(
            "loss.noise_candidates",
            "antithetic noise and the nearest of several exclude each other: what is turned in its "
            "sign is the farthest",
            "set loss.noise_candidates to 1, or loss.antithetic_noise to false",
        )


def _timestep_range(s: TrainSettings) -> Iterator[Problem]:
    low, high = s.loss.min_timestep, s.loss.max_timestep
    if low >= high:
        yield Problem(
            "loss.min_timestep",
            f"{low} is not below max_timestep ({high}): there is no noise level left to train",
            "lower it, or raise loss.max_timestep (1000 is all noise)",
        )


def _masks_are_somewhere(s: TrainSettings) -> Iterator[Problem]:
    if s.loss.masked == "folder" and s.loss.mask_folder is None:
        yield Problem(
            "loss.mask_folder",
            "masks are to come from a folder, but none is named",
            'name it, or set loss.masked to "alpha" for pictures that are cut out',
        )


def _importance_of_something(s: TrainSettings) -> Iterator[Problem]:
    weighed = s.loss.min_snr_gamma is not None or s.loss.debiased or s.loss.scale_v_like_noise
    if s.loss.timesteps == "importance" and not weighed:
        yield Problem(
            "loss.timesteps",
            "importance draws noise levels as often as the loss weighs them, but it weighs all "
            "of them alike",
            "set loss.min_snr_gamma (5 is usual), or leave timesteps at uniform",
        )


def _offset(s: TrainSettings) -> Iterator[Problem]:
    loss = s.loss
    if loss.noise_offset > HIGH_NOISE_OFFSET:
        yield Problem(
            "loss.noise_offset",
            f"{loss.noise_offset:g} is high: pictures look deep-fried",
            "0.05 to 0.1 is usual",
        )
    if loss.noise_offset_random and not loss.noise_offset:
        yield _idle("loss.noise_offset_random", "noise_offset is 0", "set noise_offset")
    if loss.adaptive_noise_scale < 0 and not loss.noise_offset:
        yield _idle(
            "loss.adaptive_noise_scale",
            "it can only lower noise_offset, which is 0",
            "set noise_offset",
        )


def _multires(s: TrainSettings) -> Iterator[Problem]:
    loss = s.loss
    if not loss.multires_iterations and is_given(s, "loss", "multires_discount"):
        yield _idle(
            "loss.multires_discount", "multires_iterations is 0", "set multires_iterations to 6"
        )
    if loss.multires_iterations == 1:
        yield _idle(
            "loss.multires_iterations",
            "the first layer is as fine as the noise itself",
            "6 to 10 is usual",
        )
    if loss.multires_iterations and loss.multires_discount > HIGH_DISCOUNT:
        yield Problem(
            "loss.multires_discount",
            f"{loss.multires_discount:g} is high for a LoRA: flat areas become blotchy",
            "0.1 to 0.3 is usual",
        )


def _perturbation(s: TrainSettings) -> Iterator[Problem]:
    loss = s.loss
    if loss.input_perturbation > HIGH_PERTURBATION:
        yield Problem(
            "loss.input_perturbation",
            f"{loss.input_perturbation:g} is high: pictures lose their details",
            "0.05 to 0.1 is usual",
        )
    if loss.input_perturbation_random and not loss.input_perturbation:
        yield _idle(
            "loss.input_perturbation_random",
            "input_perturbation is 0",
            "set input_perturbation to 0.1",
        )


def _gamma(s: TrainSettings) -> Iterator[Problem]:
    gamma = s.loss.min_snr_gamma
    if gamma is None:
        return
    low, high = USUAL_GAMMA
    if gamma < low:
        yield Problem(
            "loss.min_snr_gamma",
            f"{gamma:g} is low: details count for next to nothing",
            "1 is strong already, 5 is usual",
        )
    elif gamma > high:
        yield Problem(
            "loss.min_snr_gamma",
            f"{gamma:g} is high: almost nothing is weighed down",
            "5 is usual, 20 does very little, 0 is off",
        )


def _huber(s: TrainSettings) -> Iterator[Problem]:
    if s.loss.type not in ("huber", "smooth_l1") and is_given(
        s, "loss", "huber_c", "huber_schedule", "huber_scale"
    ):
        yield _idle(
            "loss.huber_c", f"the loss is {s.loss.type}", "set loss.type to huber or smooth_l1"
        )
    elif s.loss.type == "smooth_l1" and s.loss.huber_c >= 1:
        yield Problem(
            "loss.huber_c",
            f"{s.loss.huber_c:g} is high: differences are rarely that large, so learning is "
            "slower by that factor and no outlier is held back",
            "0.1 is usual",
        )
    elif s.loss.type == "huber" and s.loss.huber_c >= 1:
        yield Problem(
            "loss.huber_c",
            f"{s.loss.huber_c:g} is high: differences are rarely that large, so this is l2",
            "0.1 is usual",
        )


def _timesteps(s: TrainSettings) -> Iterator[Problem]:
    loss = s.loss
    if 0 < loss.max_timestep - loss.min_timestep < NARROW_RANGE:
        yield Problem(
            "loss.max_timestep",
            f"{loss.max_timestep - loss.min_timestep} of 1000 noise levels are trained: the LoRA "
            "will be of use for a tenth of each picture's steps at most",
            "widen the range",
        )
    if loss.timesteps != "logit_normal" and is_given(s, "loss", "timestep_mean", "timestep_std"):
        yield _idle(
            "loss.timestep_mean",
            f"timesteps are {loss.timesteps}",
            "mean and std are of logit_normal",
        )
    if loss.timesteps not in ("low", "high") and is_given(s, "loss", "timestep_power"):
        yield _idle(
            "loss.timestep_power", f"timesteps are {loss.timesteps}", "it is of low and high"
        )


_MASKS = {
    "off": "off",
    "alpha": "taken from the alpha channel",
    "beside": "those beside the pictures",
}


def _masks(s: TrainSettings) -> Iterator[Problem]:
    loss = s.loss
    if loss.masked != "folder" and loss.mask_folder is not None:
        yield _idle(
            "loss.mask_folder",
            f"masks are {_MASKS[loss.masked]}",
            'set loss.masked to "folder"',
        )
    if loss.masked == "off" and (loss.mask_floor or loss.mask_normalize):
        name = "mask_floor" if loss.mask_floor else "mask_normalize"
        yield _idle(f"loss.{name}", "masks are off", 'set loss.masked to "beside"')
    if loss.masked == "off" and loss.outside_mask == "prior":
        yield _idle("loss.outside_mask", "masks are off", 'set loss.masked to "beside"')
    if loss.masked != "off" and loss.mask_floor == 1:
        yield Problem("loss.mask_floor", "at 1 the masks mask nothing", "0 to 0.2 is usual")


def keeps_nothing(s: TrainSettings) -> str:
    """Why such a run keeps nothing of the base model's output, whatever its images are; else ""."""
    facts = kind_facts(s)
    if not s.preservation.enabled:
        return "preservation.enabled is false"
    if facts.keeps_base:
        return "captions without the trained words mean what they did in any case"
    if facts.contrast(s) is not None:
        return "there are no captions to keep it for"
    return "steps have one backward pass alone" if facts.one_pass(s) else ""


def _preservation(s: TrainSettings) -> Iterator[Problem]:
    why = keeps_nothing(s)
    for name in type(s.preservation).model_fields if why else ():
        if name != "enabled" and is_given(s, "preservation", name):
            yield _idle(f"preservation.{name}", why, "remove it")


def warnings_with(
    s: TrainSettings, prediction: str, *, zero_terminal_snr: bool
) -> Iterator[Problem]:
    """What is odd for a model that predicts ``prediction``, "epsilon" or "v"."""
    if zero_terminal_snr and prediction == "epsilon":
        yield Problem(
            "loss.zero_terminal_snr",
            "this model predicts the noise, and where there is nothing but noise that teaches "
            "nothing: it cannot draw from there either",
            "train a model that predicts velocity (model.prediction), or use noise_offset",
        )
    elif zero_terminal_snr and s.loss.min_snr_gamma is not None:
        yield Problem(
            "loss.zero_terminal_snr",
            "min-SNR weighs velocity by its SNR where that is low: the new last noise levels, "
            "which this setting is about, count for nothing",
            "set loss.min_snr_gamma to 0",
        )
    if s.loss.scale_v_like_noise and prediction == "epsilon":
        yield _idle("loss.scale_v_like_noise", "this model predicts the noise", "remove it")


def _idle(where: str, because: str, hint: str) -> Problem:
    return Problem(where, f"has no effect: {because}", hint)


CONTRADICTIONS: tuple[Check, ...] = (
    _one_kind_of_noise,
    _pairs_or_candidates,
    _timestep_range,
    _masks_are_somewhere,
    _importance_of_something,
)

ODDITIES: tuple[Check, ...] = (
    _one_weighting,
    _gamma,
    _offset,
    _multires,
    _perturbation,
    _huber,
    _timesteps,
    _masks,
    _preservation,
)
