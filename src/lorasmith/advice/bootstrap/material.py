"""What every round of a bootstrap goes by, checked before a model is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorasmith.advice.bootstrap.state import ROUND_LENGTH, Options
from lorasmith.advice.bootstrap.variations import Variations, choose_variations
from lorasmith.config.load import Override, load_settings, parse_overrides
from lorasmith.config.schema import TrainSettings
from lorasmith.core.errors import Problem, UserError, collect_problems
from lorasmith.models.open import OpenedCheckpoint, open_checkpoint
from lorasmith.models.reference import ModelReference
from lorasmith.prompts.wildcards import Wildcards
from lorasmith.sampling.batching import check_requests
from lorasmith.sampling.request import ImageRequest
from lorasmith.sampling.sources import not_a_folder
from lorasmith.training.setup.base_defaults import suit
from lorasmith.training.setup.base_model import model_reference, open_base
from lorasmith.training.setup.length import updates_for

if TYPE_CHECKING:
    import torch

    from lorasmith.models.diffusion_model import DiffusionModel

# As the guides have it: more contrast than that bleeds into what is trained on the drawings.
MILD_CFG, STRONG_CFG = 6.0, 8.0


@dataclass(frozen=True, slots=True)
class Material:
    """What every round goes by, from headers and settings alone.

    Args:
        settings: of the trainings, but for their length.
        suited: the same with what suits the base in place of what nobody chose.
        drawing: how is drawn, but for prompt and seed.
        variations: what the drawings are asked for.
        wildcards: of a file of prompts.
        models: the base and further ones that draw.
    """

    settings: TrainSettings
    suited: TrainSettings
    checkpoint: OpenedCheckpoint
    drawing: ImageRequest
    variations: Variations
    wildcards: Wildcards
    models: tuple[ModelReference, ...]

    def round_share(self, options: Options) -> float:
        """Length of a round's training, as a share of a whole one: half of it, where neither that
        share nor a length was asked for."""
        if options.round_length is not None:
            return options.round_length
        return 1.0 if self.settings.train.steps is not None else ROUND_LENGTH

    def steps(self, images: int, share: float) -> int:
        """Optimizer steps of a training on so many images, as one concept; never fewer than the
        base says that learn something (``train.min_steps``).

        Args:
            share: of a whole training's.
        """
        train = self.suited.train
        if train.steps is not None:
            return max(1, round(train.steps * share))
        updates, _ = updates_for([images], train.batch * train.accumulation, train)
        return min(max(train.min_steps, round(updates * share)), train.max_steps)


def open_material(options: Options, captions: Sequence[str]) -> Material:
    """
    Args:
        captions: of the images that were given.

    Raises:
        UserError: with everything that is wrong with settings, models, LoRAs and prompts.
    """
    problems: list[Problem] = []
    settings = collect_problems(problems, lambda: _settings(options))
    checkpoint = None
    if settings is not None:
        checkpoint = collect_problems(problems, lambda: open_base(settings))
    models: list[ModelReference] = []
    for name in options.models:
        reference = ModelReference(name)
        if collect_problems(problems, partial(_readable_model, reference, checkpoint)):
            models.append(reference)
    for text in options.style_loras:
        collect_problems(problems, partial(split_style, text))
    wildcards = collect_problems(problems, lambda: _wildcards(options.wildcards))
    variations = None
    if checkpoint is not None and settings is not None:
        suited = suit(settings, checkpoint)
        prompts: Sequence[str] = suited.settings.preservation.prompts
        variations = collect_problems(
            problems,
            lambda: choose_variations(
                options.trigger,
                captions,
                file=Path(options.prompts) if options.prompts else None,
                wildcards=wildcards,
                base_prompts=prompts,
            ),
        )
        drawing = drawing_of(options, suited.suggested)
        lines = variations.lines if variations is not None else ()
        problems += check_requests(
            [replace(drawing, prompt=prompt) for prompt in (options.trigger, *lines)],
            wildcards=wildcards,
        )
        problems += [
            Problem("prompts", f"{line} names a LoRA", "give LoRAs with --style-lora")
            for line in lines
            if "<lora:" in line.lower()
        ]
        weights = checkpoint.architecture.denoiser_weights
        collect_problems(problems, partial(_place, options, weights))
    if problems or settings is None or checkpoint is None or variations is None:
        raise UserError(dict.fromkeys(problems))
    return Material(
        settings,
        suited.settings,
        checkpoint,
        drawing,
        variations,
        wildcards or Wildcards(),
        (model_reference(settings), *models),
    )


def drawing_of(options: Options, suggested: Mapping[str, Any]) -> ImageRequest:
    """How is drawn: as was said, else as the base says, else with mild guidance."""
    width, height = options.size or (None, None)
    return ImageRequest(
        "",
        options.negative
        if options.negative is not None
        else str(suggested.get("sample.negative", "")),
        steps=options.steps or int(suggested.get("sample.steps", 20)),
        cfg=options.cfg
        if options.cfg is not None
        else float(suggested.get("sample.cfg", MILD_CFG)),
        sampler=options.sampler or str(suggested.get("sample.sampler", "ddim")),
        width=width,
        height=height,
    )


def _settings(options: Options) -> TrainSettings:
    overrides, problems = parse_overrides(list(options.settings))
    reserved = (
        *("model.path", "data.", "save.", "captions.trigger", "train.epochs", "train.kind"),
    )
    problems += [
        Problem(override.path, "is the bootstrap's own to set", "leave it out")
        for override in overrides
        if override.path.startswith(reserved)
    ]
    if problems:
        raise UserError(problems)
    return load_settings(
        None,
        [
            *overrides,
            Override("model.path", json.dumps(options.model)),
            Override("captions.trigger", json.dumps(options.trigger, ensure_ascii=False)),
            Override("train.precision", json.dumps(options.precision)),
            Override("performance.device", json.dumps(options.device)),
        ],
        options.preset,
    )


def _place(options: Options, weights: int) -> tuple[torch.device, torch.dtype]:
    """Where and in what is drawn and measured."""
    from lorasmith.tensors.device import choose_device, choose_precision

    device = choose_device(options.device)
    return device, choose_precision(options.precision, device, weights).dtype


def _readable_model(reference: ModelReference, base: OpenedCheckpoint | None) -> bool:
    opened = open_checkpoint(reference)
    if base is not None and opened.architecture.family is not base.architecture.family:
        what = (
            f"{reference.path} is a model of {opened.architecture.family.title}, and the base one "
            f"of {base.architecture.family.title}"
        )
        raise UserError.of("models", what, "a LoRA draws on models of its own family alone")
    return True


def split_style(text: str) -> tuple[Path, float]:
    """``FILE`` or ``FILE:STRENGTH``.

    Raises:
        UserError: there is no such file, or the strength is no number.
    """
    name, colon, strength = text.rpartition(":")
    if colon and not Path(text).is_file():
        try:
            path, value = Path(name), float(strength)
        except ValueError:
            path, value = Path(text), 1.0
    else:
        path, value = Path(text), 1.0
    if not path.is_file():
        hint = "give a LoRA file, or FILE:STRENGTH"
        raise UserError.of("style_lora", f"{path} is not a file", hint)
    if not 0 < abs(value) <= 2:
        hint = "choose a strength up to 2"
        raise UserError.of("style_lora", f"{text}: {value:g} is out of range", hint)
    return path, value


def _wildcards(folder: str) -> Wildcards:
    path = Path(folder) if folder else None
    problem = not_a_folder("wildcard_dir", path)
    if problem is not None:
        raise UserError(problem)
    return Wildcards(path)


def load(reference: ModelReference, options: Options) -> DiffusionModel:
    """A base model where and in what the options say."""
    from lorasmith.models.load import load_model

    device, dtype = _place(options, open_checkpoint(reference).architecture.denoiser_weights)
    return load_model(reference, dtype=dtype, device=device)
