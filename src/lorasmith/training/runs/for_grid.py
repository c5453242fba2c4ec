"""What a run says of how its snapshots are to be compared: its own model and sample images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lorasmith.config.load import load_settings
from lorasmith.config.sample_prompts import RANDOM_SEED, SamplePrompt
from lorasmith.config.schema import TrainSettings
from lorasmith.core.errors import RunError
from lorasmith.grids.axes import LoraEdit, edit_prompt
from lorasmith.models.reference import ModelReference
from lorasmith.sampling.infotext import read_infotext
from lorasmith.sampling.request import ImageRequest
from lorasmith.training.runs.folder import RunFolder
from lorasmith.training.sample_requests import sample_request


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
    own: list[str | SamplePrompt] = [prompt] if prompt else settings.sample.prompts
    prompts = own or list[str | SamplePrompt](_drawn_prompts(run))
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
    trigger = (settings.captions.trigger or "").lower()
    requests = [sample_request(settings.sample, one, n) for n, one in enumerate(prompts)]
    with_trigger = [one for one in requests if trigger in one.prompt.lower()]
    request = (with_trigger or requests)[0]
    if request.seed == RANDOM_SEED:  # Images of a grid differ in their axes alone.
        request = replace(request, seed=settings.sample.seed)
    return replace(request, clip_skip=request.clip_skip or settings.model.clip_skip)


def _drawn_prompts(run: RunFolder) -> list[str]:
    """Those that its first sample images carry, in their order, without the run's own LoRA."""
    prompts: dict[int, str] = {}
    for number, path in run.drawn_samples():
        info = None if number in prompts else read_infotext(path)
        if info is not None:
            prompts[number] = edit_prompt(info.prompt, run.name, LoraEdit(removed=True))
    return [prompts[number] for number in sorted(prompts)]
