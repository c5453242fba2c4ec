"""From noise, or an image with noise, to clean latents: one pass of a sampler.

Shapes: B images, C latent channels, h and w latent size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lorasmith.sampling.samplers import Sampler, Scheduler

# Called with noisy latents (B, C, h, w), their timestep and the number of the step (from 0); gives
# the guided prediction (B, C, h, w).
Guide = Callable[[Tensor, Tensor, int], Tensor]


@dataclass(frozen=True, slots=True)
class Pass:
    """Which steps of a sampler are taken.

    Args:
        steps: that the noise schedule is cut into.
        skip: the first so many are left out.
    """

    sampler: Sampler
    steps: int
    skip: int = 0
    eta: float = 0.0

    def start(self, prediction: str, *, zero_terminal_snr: bool) -> tuple[Scheduler, Tensor]:
        """A scheduler and the timesteps, on the CPU, at which the denoiser is called."""
        scheduler: Any = self.sampler.start(
            self.steps, prediction, zero_terminal_snr=zero_terminal_snr
        )
        begin = self.skip * scheduler.order
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(begin)
        return scheduler, scheduler.timesteps[begin:]

    def calls(self, prediction: str) -> int:
        """How often the denoiser is called."""
        return len(self.start(prediction, zero_terminal_snr=False)[1])


def partial_pass(sampler: Sampler, steps: int, denoise: float, eta: float = 0.0) -> Pass:
    """The last ``denoise`` (0 to 1) of ``steps``, rounded down, as diffusers counts them."""
    return Pass(sampler, steps, steps - min(int(steps * denoise), steps), eta)


def full_pass(sampler: Sampler, steps: int, denoise: float, eta: float = 0.0) -> Pass:
    """``steps`` steps that begin where ``denoise`` (0 to 1) of the noise is, as the web UI's
    second pass has it; fewer where the sampler cannot cut its schedule so finely."""
    if denoise <= 0.0:
        return Pass(sampler, steps, steps, eta)
    total = min(max(steps, int(steps / denoise)), sampler.max_steps)
    steps_run = min(steps, max(1, round(total * denoise)))
    return Pass(sampler, total, total - steps_run, eta)


@dataclass(frozen=True, slots=True)
class Start:
    """Where a pass begins.

    Args:
        noise: (B, C, h, w) standard normal.
        clean: (B, C, h, w) what the noise is added to; ``None`` begins with noise alone.
        kept: (B, C, h, w) what stays wherever ``mask`` is 0.
        mask: (B, 1, h, w) 1 where something is drawn.
    """

    noise: Tensor
    clean: Tensor | None = None
    kept: Tensor | None = None
    mask: Tensor | None = None


def denoise(
    one_pass: Pass,
    start: Start,
    guide: Guide,
    generators: Sequence[torch.Generator],
    *,
    prediction: str,
    zero_terminal_snr: bool,
) -> Tensor:
    """(B, C, h, w) clean latents.

    Args:
        generators: one per image, for samplers that draw noise.
    """
    scheduler, timesteps = one_pass.start(prediction, zero_terminal_snr=zero_terminal_snr)
    if not len(timesteps):
        assert start.clean is not None, "nothing to begin with and no step to take"
        return start.clean
    noise = start.noise
    if start.clean is None:
        latents = noise * scheduler.init_noise_sigma
    else:
        latents = scheduler.add_noise(start.clean, noise, timesteps[:1])
    # Some are 64-bit floats, which Apple's GPUs have not and the denoiser makes 32 bits of.
    narrow = timesteps.float() if timesteps.is_floating_point() else timesteps
    on_device = narrow.to(noise.device)
    sampler, order = one_pass.sampler, scheduler.order
    for call, t in enumerate(timesteps):
        step = min(one_pass.skip + call // order, one_pass.steps - 1)
        output = guide(scheduler.scale_model_input(latents, t), on_device[call], step)
        latents = sampler.advance(scheduler, output, t, latents, generators, eta=one_pass.eta)
        if start.mask is not None and start.kept is not None:
            kept = start.kept
            if call + 1 < len(timesteps):
                kept = scheduler.add_noise(kept, noise, timesteps[call + 1 : call + 2])
            latents = torch.lerp(kept, latents, start.mask)
    return latents


def rescaled(guided: Tensor, positive: Tensor, phi: Tensor) -> Tensor:
    """Guidance brought back to the spread of the prediction without it.

    Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed", section 3.4.

    Args:
        guided, positive: (B, C, h, w).
        phi: (B, 1, 1, 1) share of the brought back one, 0 to 1.
    """
    dims = (1, 2, 3)
    ratio = positive.std(dims, keepdim=True) / guided.std(dims, keepdim=True)
    return torch.lerp(guided, guided * ratio, phi)
