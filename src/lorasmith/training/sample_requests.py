"""What is drawn while training, of the settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lorasmith.config.sample_prompts import RANDOM_SEED, SamplePrompt
from lorasmith.config.sections.run import SampleSettings
from lorasmith.core.rng import derive
from lorasmith.sampling.request import ImageRequest

# Seeds that every web UI's field takes.
SEEDS = 2**32


def sample_request(
    sample: SampleSettings, prompt: str | SamplePrompt, number: int, native: int | None = None
) -> ImageRequest:
    """The image of a prompt: as it says itself, else as all.

    Args:
        number: of the prompt, from 0.
        native: the side of the model's own images, where the settings name no size.

    Returns:
        A request whose seed is :data:`RANDOM_SEED` where each drawing is to have another.
    """
    one = SamplePrompt(prompt=prompt) if isinstance(prompt, str) else prompt
    size = sample.size or native
    width, height = size if isinstance(size, tuple) else (size, size)
    return ImageRequest(
        one.prompt,
        sample.negative if one.negative is None else one.negative,
        sample.seed + number if one.seed is None else one.seed,
        one.steps or sample.steps,
        sample.cfg if one.cfg is None else one.cfg,
        one.sampler or sample.sampler,
        one.width or width,
        one.height or height,
        clip_skip=one.clip_skip,
    )


def with_seeds(requests: Sequence[ImageRequest], seed: int, step: int) -> list[ImageRequest]:
    """The requests as they are drawn after ``step``, random seeds fixed by it and the run's."""
    return [
        replace(request, seed=derive(seed, "sample seed", step, number) % SEEDS)
        if request.seed == RANDOM_SEED
        else request
        for number, request in enumerate(requests)
    ]
