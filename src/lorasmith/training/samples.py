"""What a run draws: by its settings, and when its snapshots are compared, by its folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lorasmith.config.load import load_settings
from lorasmith.config.sample_prompts import RANDOM_SEED, SamplePrompt
from lorasmith.config.schema import TrainSettings
from lorasmith.config.sections.run import SampleSettings
from lorasmith.config.values import AUTO
from lorasmith.core.errors import PromptError, RunError
from lorasmith.core.rng import derive
from lorasmith.data.captions import readings
from lorasmith.data.dataset import Dataset
from lorasmith.models.families.table import Architecture
from lorasmith.models.reference import ModelReference
from lorasmith.prompts.parse import parse_prompt
from lorasmith.sampling.request import ImageRequest
from lorasmith.training.kinds.table import kind_of
from lorasmith.training.runs.folder import RunFolder

# Captions stand in for prompts when none are given; two are enough to see something by.
CAPTIONS_AS_PROMPTS = 2

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


def sample_requests(
    settings: TrainSettings, dataset: Dataset, architecture: Architecture
) -> list[ImageRequest]:
    """What is drawn while training: the prompts of the settings, else the first captions."""
    prompts = settings.sample.prompts or first_captions(dataset)
    native = architecture.native_resolution
    return [sample_request(settings.sample, one, n, native) for n, one in enumerate(prompts)]


def first_captions(dataset: Dataset) -> list[str]:
    """Captions of the first training images that differ, as far as they can be prompts."""
    captions = dict.fromkeys(
        readings(item.caption, dataset.rules_of(item))[0] for item in dataset.items if not item.reg
    )
    return [caption for caption in captions if _is_prompt(caption)][:CAPTIONS_AS_PROMPTS]


def _is_prompt(caption: str) -> bool:
    try:
        return not parse_prompt(caption).loras
    except PromptError:
        return False


@dataclass(frozen=True, slots=True)
class RunPrompts:
    """How a run draws: the image that shows best what it learned, and what draws it."""

    request: ImageRequest
    model: ModelReference


def read_run(folder: Path, prompt: str | None = None) -> RunPrompts | None:
    """The request of a run's samples that has its trigger word; else its first.

    Args:
        prompt: to be drawn in place of the run's own.

    Returns:
        ``None`` when the folder has no settings: another program's.

    Raises:
        SettingsError: its settings cannot be read.
        RunError: it drew no samples and names no prompts.
    """
    run = RunFolder(folder)
    if not run.settings.is_file():
        return None
    settings = load_settings(run.settings)
    own_prompts: list[str | SamplePrompt] = [prompt] if prompt else settings.sample.prompts
    prompts = own_prompts or list[str | SamplePrompt](_drawn_prompts(run))
    if not prompts:
        raise RunError.of(folder, "has no sample prompts", "give one: lorasmith grid PROMPT …")
    model = settings.model
    return RunPrompts(
        _request(settings, prompts),
        ModelReference(
            model.path,
            vae=model.vae,
            prediction=model.prediction,
            zero_terminal_snr=settings.loss.zero_terminal_snr,
        ),
    )


def _request(settings: TrainSettings, prompts: Sequence[str | SamplePrompt]) -> ImageRequest:
    trigger = settings.captions.trigger.lower().replace(AUTO, "")
    requests = [sample_request(settings.sample, one, n) for n, one in enumerate(prompts)]
    with_trigger = [one for one in requests if trigger in one.prompt.lower()]
    request = (with_trigger or requests)[0]
    if request.seed == RANDOM_SEED:  # Images of a grid differ in their axes alone.
        request = replace(request, seed=settings.sample.seed)
    request = kind_of(settings).sample(settings, request)
    return replace(request, clip_skip=request.clip_skip or settings.model.clip_skip)


def _drawn_prompts(run: RunFolder) -> list[str]:
    """Those that its first sample images carry, in their order, without the run's own LoRA."""
    # They import diffusers, and who asks what a run would cost draws nothing.
    from lorasmith.grids.axes import LoraEdit, edit_prompt
    from lorasmith.sampling.infotext import read_infotext

    prompts: dict[int, str] = {}
    for number, path in run.drawn_samples():
        info = None if number in prompts else read_infotext(path)
        if info is not None:
            prompts[number] = edit_prompt(info.prompt, run.name, LoraEdit(removed=True))
    return [prompts[number] for number in sorted(prompts)]
