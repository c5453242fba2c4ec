"""How a sampler's noise levels are spaced, by the names that web UIs know.

A noise level is ``sigma``, noise over signal, as in k-diffusion (Karras et al. 2022); a model's
table has one for each of its timesteps, smallest first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.stats

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class Schedule:
    """One spacing.

    Args:
        title: as in the web UIs and in an image's parameters.
        options: what diffusers calls it, where it has it for all its schedulers.
        other_names: further spellings.
    """

    name: str
    title: str
    options: dict[str, Any] = field(default_factory=dict)
    other_names: tuple[str, ...] = ()


SCHEDULES: dict[str, Schedule] = {
    schedule.name: schedule
    for schedule in (
        Schedule("uniform", "Uniform", other_names=("normal", "discrete")),
        Schedule("karras", "Karras", {"use_karras_sigmas": True}),
        Schedule("exponential", "Exponential", {"use_exponential_sigmas": True}),
        Schedule("sgm_uniform", "SGM Uniform"),
        Schedule("simple", "Simple", {"timestep_spacing": "trailing"}),
        # diffusers' flag of this name spreads the noise levels themselves, not the timesteps.
        Schedule("beta", "Beta"),
    )
}
BETA_SHAPE = 0.6

AUTOMATIC = "automatic"
AUTOMATIC_TITLE = "Automatic"


def sigmas_at_times(name: str, steps: int, table: Array) -> Array:
    """(steps,) noise levels of a schedule that spaces timesteps, largest first.

    Args:
        name: "uniform" goes evenly to the smallest level; "sgm_uniform" leaves that one out, as
            Stability AI's generative models do; "beta" is dense at both ends (Lee et al. 2024,
            "Beta Sampling is All You Need", alpha = beta = 0.6).
        table: (T,) the model's noise levels, smallest first.
    """
    last = len(table) - 1
    if name == "beta":
        times = last * scipy.stats.beta.ppf(np.linspace(1, 0, steps), BETA_SHAPE, BETA_SHAPE)
    else:
        times = np.linspace(last, 0, steps if name == "uniform" else steps + 1)[:steps]
    return np.interp(times, np.arange(len(table)), table)


def sigma_table(alphas_cumprod: Array) -> Array:
    """(T,) ``sqrt((1 - abar) / abar)``, float64."""
    abar = alphas_cumprod.astype(np.float64)
    return np.asarray(((1 - abar) / abar) ** 0.5)
