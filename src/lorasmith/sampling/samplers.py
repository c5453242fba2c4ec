"""The samplers, by the names that people know: a table over diffusers' schedulers.

Their settings are those of the web UIs: DDIM takes evenly spaced whole timesteps from 1 on, the
others the k-diffusion spacing from the last timestep to the first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Protocol

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_euler_ancestral_discrete import EulerAncestralDiscreteScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from torch import Tensor

from lorasmith.diffusion.schedule import BETA_END, BETA_START, NUM_TIMESTEPS
from lorasmith.errors import PromptError

MAX_STEPS = 500
DEFAULT = "ddim"

_PREDICTION_TYPES = {"epsilon": "epsilon", "v": "v_prediction"}


class Scheduler(Protocol):
    """What the loop uses of a diffusers scheduler; one lives for one batch of pictures."""

    timesteps: Tensor
    init_noise_sigma: float

    def scale_model_input(self, sample: Tensor, timestep: Tensor) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Sampler:
    """One line of the table.

    Args:
        name: as in settings (``euler_a``).
        title: as in the web UIs and in a picture's parameters (``Euler a``).
        scheduler: diffusers' class.
        options: its settings beyond the noise schedule.
        draws_noise: whether each step draws noise, from each picture's own generator.
    """

    name: str
    title: str
    scheduler: Callable[..., Any]
    options: dict[str, Any]
    draws_noise: bool = False

    def start(self, steps: int, prediction: str, *, zero_terminal_snr: bool = False) -> Scheduler:
        """A scheduler with its timesteps set, on the CPU so that reading them never waits.

        Args:
            prediction: what the model predicts, "epsilon" or "v".
            zero_terminal_snr: its noise schedule ends in nothing but noise, and so drawing begins
                there. Not for models that predict the noise: from noise alone they learn nothing.
        """
        to_noise = zero_terminal_snr and prediction == "v"
        options = {**self.options, "rescale_betas_zero_snr": to_noise}
        if to_noise and "steps_offset" in options:
            options["timestep_spacing"] = "trailing"
        scheduler = self.scheduler(
            num_train_timesteps=NUM_TIMESTEPS,
            beta_start=BETA_START,
            beta_end=BETA_END,
            beta_schedule="scaled_linear",
            prediction_type=_PREDICTION_TYPES[prediction],
            **options,
        )
        scheduler.set_timesteps(steps)
        return scheduler

    def advance(
        self,
        scheduler: Any,
        output: Tensor,
        timestep: Tensor,
        latents: Tensor,
        generators: list[torch.Generator],
    ) -> Tensor:
        """(B, C, h, w) the latents one step further; ``generators`` are one per picture."""
        noise = {"generator": generators} if self.draws_noise else {}
        return scheduler.step(output, timestep, latents, return_dict=False, **noise)[0]


SAMPLERS: dict[str, Sampler] = {
    sampler.name: sampler
    for sampler in (
        Sampler(
            "ddim",
            "DDIM",
            DDIMScheduler,
            {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1},
        ),
        Sampler("euler", "Euler", EulerDiscreteScheduler, {"timestep_spacing": "linspace"}),
        Sampler(
            "euler_a",
            "Euler a",
            EulerAncestralDiscreteScheduler,
            {"timestep_spacing": "linspace"},
            draws_noise=True,
        ),
        Sampler(
            "dpmpp_2m_karras",
            "DPM++ 2M Karras",
            DPMSolverMultistepScheduler,
            {"algorithm_type": "dpmsolver++", "solver_order": 2, "use_karras_sigmas": True},
        ),
    )
}


def _plain(name: str) -> str:
    """Spelling without what people vary: case, spaces, signs."""
    name = name.lower().replace("++", "pp").replace("ancestral", "a")
    return "".join(character for character in name if character.isalnum())


_BY_PLAIN_NAME = {
    _plain(spelling): sampler
    for sampler in SAMPLERS.values()
    for spelling in (sampler.name, sampler.title, f"k_{sampler.name}")
}


def find_sampler(name: str) -> Sampler:
    """The sampler of that name; ``DPM++ 2M Karras`` and ``dpmpp_2m_karras`` are the same.

    Raises:
        PromptError: there is none; names the nearest.
    """
    found = _BY_PLAIN_NAME.get(_plain(name))
    if found is None:
        nearest = get_close_matches(_plain(name), _BY_PLAIN_NAME, n=1)
        known = ", ".join(SAMPLERS)
        hint = f"did you mean {_BY_PLAIN_NAME[nearest[0]].name}? " if nearest else ""
        raise PromptError.of("sampler", f'unknown sampler "{name}"', f"{hint}known are {known}")
    return found
