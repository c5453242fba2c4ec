"""The samplers, by the names that people know: a table over diffusers' schedulers.

Their settings are those of A1111, but for the schedule "beta": DDIM takes evenly spaced whole
timesteps from 1 on, the others the k-diffusion spacing from the last timestep to the first, or
another one of :data:`SCHEDULES`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_deis_multistep import DEISMultistepScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_euler_ancestral_discrete import EulerAncestralDiscreteScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_heun_discrete import HeunDiscreteScheduler
from diffusers.schedulers.scheduling_k_dpm_2_ancestral_discrete import (
    KDPM2AncestralDiscreteScheduler,
)
from diffusers.schedulers.scheduling_k_dpm_2_discrete import KDPM2DiscreteScheduler
from diffusers.schedulers.scheduling_lcm import LCMScheduler
from diffusers.schedulers.scheduling_lms_discrete import LMSDiscreteScheduler
from diffusers.schedulers.scheduling_pndm import PNDMScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from torch import Tensor

from lorasmith.core.errors import PromptError, UserError
from lorasmith.core.text import did_you_mean
from lorasmith.diffusion.prediction import PREDICTIONS
from lorasmith.diffusion.schedule import (
    BETA_END,
    BETA_START,
    NUM_TIMESTEPS,
    scaled_linear_alphas_cumprod,
    zero_terminal_snr,
)
from lorasmith.sampling.request import AUTOMATIC, MAX_STEPS, SAMPLER_TITLES, SCHEDULE_TITLES
from lorasmith.sampling.solvers import TwoStageScheduler, sigma_table, sigmas_at_times

DEFAULT = "ddim"
# diffusers' words for what its schedulers do without a schedule's own flag: those of k-diffusion
# go from the last timestep to the first, the multistep ones stop one short of it.
_K, _MULTISTEP = "uniform", "sgm_uniform"
# Schedulers that can end their noise schedule in nothing but noise by themselves.
_TO_NOISE = (
    DDIMScheduler, EulerDiscreteScheduler, EulerAncestralDiscreteScheduler,
    DPMSolverMultistepScheduler, UniPCMultistepScheduler, LCMScheduler, TwoStageScheduler,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Schedule:
    """One spacing.

    Args:
        options: what diffusers calls it, where it has it for all its schedulers.
        other_names: further spellings.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    other_names: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """As in the web UIs and in an image's parameters."""
        return SCHEDULE_TITLES[self.name]


SCHEDULES: dict[str, Schedule] = {
    schedule.name: schedule
    for schedule in (
        Schedule("uniform", other_names=("normal", "discrete")),
        Schedule("karras", {"use_karras_sigmas": True}),
        Schedule("exponential", {"use_exponential_sigmas": True}),
        Schedule("sgm_uniform"),
        Schedule("simple", {"timestep_spacing": "trailing"}),
        # A1111, and diffusers' flag of this name, spread noise levels by it instead of timesteps.
        Schedule("beta"),
    )
}

AUTOMATIC_TITLE = SCHEDULE_TITLES[AUTOMATIC]


class Scheduler(Protocol):
    """What the loop uses of a diffusers scheduler; one lives for one batch of images.

    ``order`` entries of ``timesteps`` are one step, but for the last step's.
    """

    timesteps: Tensor
    order: int

    @property
    def init_noise_sigma(self) -> float: ...

    def scale_model_input(self, sample: Tensor, timestep: Tensor) -> Tensor: ...

    def add_noise(self, clean: Tensor, noise: Tensor, timesteps: Tensor, /) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Sampler:
    """One line of the table.

    Args:
        name: as in settings (``euler_a``).
        scheduler: diffusers' class.
        options: its settings beyond the noise schedule.
        schedule: how its noise levels are spaced; in the table, when nobody says otherwise.
        plain: the schedule that ``scheduler`` has without a flag; empty when it takes no other.
        draws_noise: whether each step draws noise, from each image's own generator.
        takes_eta: whether the share of noise in each step can be chosen.
        max_steps: the most steps it can do.
    """

    name: str
    scheduler: Callable[..., Any]
    options: dict[str, Any]
    schedule: str = AUTOMATIC
    plain: str = ""
    draws_noise: bool = False
    takes_eta: bool = False
    max_steps: int = MAX_STEPS

    @property
    def title(self) -> str:
        """As in the web UIs and in an image's parameters (``Euler a``)."""
        return SAMPLER_TITLES[self.name]

    @property
    def schedule_title(self) -> str:
        """As in the web UIs; "Automatic" for what none of their names means."""
        entry = SCHEDULES.get(self.schedule)
        automatic = self.schedule == _K == SAMPLERS[self.name].schedule
        return entry.title if entry and not automatic else AUTOMATIC_TITLE

    def start(self, steps: int, prediction: str, *, zero_terminal_snr: bool = False) -> Scheduler:
        """A scheduler with its timesteps set, on the CPU so that reading them never waits.

        Args:
            prediction: what the model predicts, "epsilon" or "v".
            zero_terminal_snr: its noise schedule ends in nothing but noise, and so drawing begins
                there. Not for models that predict the noise: from noise alone they learn nothing.
        """
        config = self._config(prediction, to_noise=zero_terminal_snr and prediction == "v")
        scheduler = self.scheduler(**config)
        if self.scheduler is EulerAncestralDiscreteScheduler:
            # It knows no schedules, but its noise levels mean what Euler's do.
            levels = replace(self, scheduler=EulerDiscreteScheduler)
            twin: Any = levels.start(steps, prediction, zero_terminal_snr=zero_terminal_snr)
            scheduler.set_timesteps(steps)
            scheduler.timesteps, scheduler.sigmas = twin.timesteps, twin.sigmas
        else:
            self._space(scheduler, steps)
            scheduler.set_timesteps(steps)
        if hasattr(scheduler, "set_begin_index"):
            # Left alone it looks its timestep up, and takes the wrong one of two equal ones.
            scheduler.set_begin_index(0)
        return scheduler

    def _config(self, prediction: str, *, to_noise: bool) -> dict[str, Any]:
        config = {
            "num_train_timesteps": NUM_TIMESTEPS,
            "beta_start": BETA_START,
            "beta_end": BETA_END,
            "beta_schedule": "scaled_linear",
            "prediction_type": PREDICTIONS[prediction].diffusers,
            **self.options,
        }
        if self.scheduler is not EulerAncestralDiscreteScheduler and self.plain:
            config |= SCHEDULES[self.schedule].options or {
                "use_karras_sigmas": self.schedule != self.plain
            }
        if not to_noise:
            return config
        if "steps_offset" in config:
            config["timestep_spacing"] = "trailing"
        if self.scheduler in _TO_NOISE:
            return {**config, "rescale_betas_zero_snr": True}
        return {**config, "trained_betas": _betas_to_noise()}

    def _space(self, scheduler: Any, steps: int) -> None:
        """Give a scheduler a spacing that it has no flag for, in the place of Karras'."""
        if not self.plain or self.schedule == self.plain or SCHEDULES[self.schedule].options:
            return
        sigmas = sigmas_at_times(
            self.schedule, steps, sigma_table(scheduler.alphas_cumprod.numpy())
        )
        inner = scheduler.levels if isinstance(scheduler, TwoStageScheduler) else scheduler
        inner._convert_to_karras = lambda *_, **__: sigmas

    def advance(
        self,
        scheduler: Any,
        output: Tensor,
        timestep: Tensor,
        latents: Tensor,
        generators: Sequence[torch.Generator],
        *,
        eta: float = 0.0,
    ) -> Tensor:
        """(B, C, h, w) the latents one call further; ``generators`` are one per image.

        Args:
            eta: share of noise in each step, 0 to 1; for samplers that take it.
        """
        more: dict[str, Any] = {}
        if self.takes_eta:
            more["eta"] = eta
        if self.draws_noise or (self.takes_eta and eta > 0):
            more["generator"] = list(generators)
        return scheduler.step(output, timestep, latents, return_dict=False, **more)[0]


def _betas_to_noise() -> list[float]:
    """The betas of a noise schedule that ends in as good as nothing but noise."""
    abar = zero_terminal_snr(scaled_linear_alphas_cumprod())
    # As diffusers has it: the last noise level, 1 / sqrt(abar), stays a number.
    abar[-1] = 2.0**-24
    before = torch.cat([torch.ones(1, dtype=abar.dtype), abar[:-1]])
    return (1 - abar / before).tolist()


_SDE = {"algorithm_type": "sde-dpmsolver++"}

SAMPLERS: dict[str, Sampler] = {
    sampler.name: sampler
    for sampler in (
        Sampler(
            "ddim", DDIMScheduler,
            {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}, takes_eta=True,
        ),
        Sampler(
            "plms", PNDMScheduler,
            {"skip_prk_steps": True, "set_alpha_to_one": False, "steps_offset": 1},
        ),
        Sampler("euler", EulerDiscreteScheduler, {}, _K, _K),
        Sampler(
            "euler_a", EulerAncestralDiscreteScheduler, {}, _K, _K, draws_noise=True
        ),
        Sampler("lms", LMSDiscreteScheduler, {}, _K, _K),
        Sampler("heun", HeunDiscreteScheduler, {}, _K, _K),
        Sampler("dpm2", KDPM2DiscreteScheduler, {}, "karras", _K),
        Sampler(
            "dpm2_a", KDPM2AncestralDiscreteScheduler, {}, "karras", _K,
            draws_noise=True,
        ),
        Sampler("dpmpp_2m", DPMSolverMultistepScheduler, {}, "karras", _MULTISTEP),
        Sampler(
            "dpmpp_2m_sde", DPMSolverMultistepScheduler, _SDE,
            "exponential", _MULTISTEP, draws_noise=True,
        ),
        Sampler(
            "dpmpp_2m_sde_heun", DPMSolverMultistepScheduler,
            {**_SDE, "solver_type": "heun"}, "exponential", _MULTISTEP, draws_noise=True,
        ),
        Sampler(
            "dpmpp_3m_sde", DPMSolverMultistepScheduler,
            {**_SDE, "solver_order": 3}, "exponential", _MULTISTEP, draws_noise=True,
        ),
        Sampler(
            "dpmpp_2s_a", TwoStageScheduler, {"noisy_middle": False},
            "karras", _K, draws_noise=True,
        ),
        Sampler(
            "dpmpp_sde", TwoStageScheduler, {"noisy_middle": True},
            "karras", _K, draws_noise=True,
        ),
        Sampler(
            "unipc", UniPCMultistepScheduler,
            {}, _MULTISTEP, _MULTISTEP,
        ),
        Sampler("deis", DEISMultistepScheduler, {}, _MULTISTEP, _MULTISTEP),
        # Its steps are chosen out of the 50 that latent consistency models are distilled from.
        Sampler("lcm", LCMScheduler, {}, draws_noise=True, max_steps=50),
    )
}  # fmt: skip

# What the web UIs have and diffusers has not, and what comes nearest.
MISSING = {
    "DPM fast": "dpmpp_2m",
    "DPM adaptive": "dpmpp_2m",
    "Restart": "dpm2",
    "DDIM CFG++": "ddim",
    "HeunPP2": "heun",
    "IPNDM": "plms",
    "ER SDE": "dpmpp_3m_sde",
}
_OTHER_NAMES = {
    "ddim": ("ddim_uniform",),
    "plms": ("pndm",),
    "dpm2": ("dpm_2",),
    "dpm2_a": ("dpm_2_ancestral",),
    "unipc": ("uni_pc", "uni_pc_bh2"),
    "dpmpp_2m": ("dpmsolver++", "dpmsolver"),
    "dpmpp_2s_a": ("dpmpp_2s_ancestral",),
}


def _plain(name: str) -> str:
    """Spelling without what people vary: case, spaces, signs."""
    name = name.lower().replace("++", "pp").replace("ancestral", "a")
    return "".join(character for character in name if character.isalnum())


_BY_PLAIN_NAME = {
    _plain(spelling): sampler
    for sampler in SAMPLERS.values()
    for name in (sampler.name, sampler.title, *_OTHER_NAMES.get(sampler.name, ()))
    for spelling in (name, f"k_{name}")
}
_SCHEDULES_BY_PLAIN_NAME = {
    _plain(spelling): schedule.name
    for schedule in SCHEDULES.values()
    for spelling in (schedule.name, *schedule.other_names)
}
_WITH_SCHEDULE = re.compile(rf"(.+?)({'|'.join(_SCHEDULES_BY_PLAIN_NAME)})")


def find_sampler(name: str, schedule: str = AUTOMATIC) -> Sampler:
    """The sampler of that name with its schedule.

    Args:
        name: ``DPM++ 2M`` and ``dpmpp_2m`` are the same; may end in a schedule, as in
            ``DPM++ 2M Karras``.
        schedule: "automatic" is the one in the name, else the sampler's usual one.

    Raises:
        PromptError: there is none, or it takes no such schedule; names the nearest.
    """
    plain = _plain(name)
    sampler, in_name = _BY_PLAIN_NAME.get(plain), ""
    if sampler is None and (match := _WITH_SCHEDULE.fullmatch(plain)):
        sampler, in_name = _BY_PLAIN_NAME.get(match[1]), _SCHEDULES_BY_PLAIN_NAME[match[2]]
    if sampler is None:
        raise _unknown(name)
    spacing = _find_schedule(schedule) or in_name
    if in_name and spacing != in_name:
        raise PromptError.of(
            "schedule", f'"{schedule}" is not that of "{name}"', "say it in one place"
        )
    if not spacing:
        return sampler
    if not sampler.plain:
        raise PromptError.of(
            "schedule", f"{sampler.title} has a schedule of its own", f"leave {spacing} out"
        )
    return replace(sampler, schedule=spacing)


def _find_schedule(name: str) -> str:
    """The schedule's name; empty for the automatic one."""
    plain = _plain(name)
    if plain == AUTOMATIC:
        return ""
    match = _SCHEDULES_BY_PLAIN_NAME.get(plain)
    if match is None:
        hint = did_you_mean(plain, [AUTOMATIC, *_SCHEDULES_BY_PLAIN_NAME])
        hint = f"{hint} known are {', '.join((AUTOMATIC, *SCHEDULES))}".lstrip()
        raise PromptError.of("schedule", f'unknown schedule "{name}"', hint)
    return match


def _unknown(name: str) -> UserError:
    plain = _plain(name)
    for title, nearest in MISSING.items():
        if plain.startswith(_plain(title)):
            hint = f"the nearest is {SAMPLERS[nearest].title}"
            return PromptError.of("sampler", f"{title} is not among the samplers here", hint)
    hint = did_you_mean(plain, {key: sampler.name for key, sampler in _BY_PLAIN_NAME.items()})
    hint = f"{hint} known are {', '.join(SAMPLERS)}".lstrip()
    return PromptError.of("sampler", f'unknown sampler "{name}"', hint)
