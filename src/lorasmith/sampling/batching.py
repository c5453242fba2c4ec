"""Requests made ready to be drawn: checked, parsed, sized, and which can share a batch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from lorasmith.core.errors import Problem, PromptError, collect_problems
from lorasmith.core.events import Notice, Observer
from lorasmith.core.files import is_utf8
from lorasmith.core.text import quantity
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.families.table import check_clip_skip
from lorasmith.prompts.lora_tags import take_tags
from lorasmith.prompts.parse import Prompt, parse_prompt
from lorasmith.prompts.wildcards import Wildcards
from lorasmith.sampling.conditioning import PromptEncoder
from lorasmith.sampling.denoise import Pass, full_pass, partial_pass
from lorasmith.sampling.guidance import PromptPair
from lorasmith.sampling.img2img import check_images, init_size
from lorasmith.sampling.lora_library import LoraLibrary
from lorasmith.sampling.request import MAX_SIZE, ImageRequest, check_values, with_wildcards
from lorasmith.sampling.samplers import find_sampler


def check_requests(
    requests: Iterable[ImageRequest],
    library: LoraLibrary | None = None,
    wildcards: Wildcards | None = None,
) -> list[Problem]:
    """Everything wrong with requests that can be seen without a model, each thing once.

    Args:
        library: where the LoRAs of their prompts are; ``None`` does not look for them.
    """
    problems: list[Problem] = []
    # Most differ in their seeds alone, which count up.
    first: dict[ImageRequest, ImageRequest] = {}
    last: dict[ImageRequest, ImageRequest] = {}
    for request in requests:
        expanded = collect_problems(problems, partial(_expand, request, wildcards or Wildcards()))
        if expanded is not None:
            first.setdefault(replace(expanded, seed=0), expanded)
            last[replace(expanded, seed=0)] = expanded
    for request in dict.fromkeys((*first.values(), *last.values())):
        problems += _check_one(request)
    if library is not None:
        problems += library.check(tag for each in first for tag in take_tags(each.prompt)[1])
    return list(dict.fromkeys(problems))


def _expand(request: ImageRequest, wildcards: Wildcards) -> ImageRequest:
    """With what its prompts leave to chance drawn by its seed."""
    texts = {"prompt": request.prompt, "negative": request.negative}
    odd = [name for name, text in texts.items() if not is_utf8(text)]
    if odd:
        raise PromptError(Problem(name, "is not text in UTF-8") for name in odd)
    return with_wildcards(request, wildcards)


def _check_one(request: ImageRequest) -> list[Problem]:
    problems: list[Problem] = []
    collect_problems(problems, lambda: parse_prompt(request.prompt))
    collect_problems(problems, lambda: _parse_negative(request.negative))
    collect_problems(problems, lambda: _check_sampler(request))
    problems += check_values(request)
    if not problems:
        collect_problems(problems, lambda: check_images(request))
    return problems


def _check_sampler(request: ImageRequest) -> None:
    sampler = find_sampler(request.sampler, request.schedule)
    if request.steps > sampler.max_steps:
        what = (
            f"{sampler.title} takes at most {quantity(sampler.max_steps, 'step')}, "
            f"not {request.steps}"
        )
        raise PromptError.of("steps", what)
    if request.eta and not sampler.takes_eta:
        raise PromptError.of("eta", f"{sampler.title} has no eta", "leave it out, or take DDIM")


def _parse_negative(text: str) -> Prompt:
    prompt = parse_prompt(text, negative=True)
    if prompt.loras:
        raise PromptError.of(
            prompt.loras[0].source,
            "a LoRA in the negative prompt",
            "move it to the prompt; it works on both",
        )
    return prompt


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """A request, ready to run.

    Args:
        index: its place among the requests.
        request: with the size of the first pass, and what its prompts leave to chance drawn.
        guidance_key: see :meth:`lorasmith.sampling.guidance.PromptPair.batch_key`.
        width, height: of the first pass, px.
        final_size: of the last pass, px.
        passes: one, or two with hires fix.
        embeddings: see :meth:`lorasmith.sampling.guidance.PromptPair.embeddings`.
    """

    index: int
    request: ImageRequest
    guided: PromptPair
    guidance_key: tuple[object, ...]
    width: int
    height: int
    final_size: tuple[int, int]
    passes: tuple[Pass, ...]
    embeddings: Mapping[str, Path]

    @property
    def batch_key(self) -> tuple[object, ...]:
        """Jobs with equal keys can share a call of the denoiser."""
        request = self.request
        return (
            self.guided.prompt.loras,
            request.clip_skip,
            tuple(
                (each.sampler.name, each.sampler.schedule, each.steps, each.skip, each.eta)
                for each in self.passes
            ),
            self.width,
            self.height,
            request.init is None,
            request.inpaint,
            request.hires,
            *self.guidance_key,
        )


def prepare_requests(
    encoder: PromptEncoder,
    requests: Sequence[ImageRequest],
    library: LoraLibrary,
    wildcards: Wildcards,
    observer: Observer,
) -> list[PreparedRequest]:
    """Requests ready to run; a prompt that many share is parsed and tokenized once.

    Raises:
        PromptError: with everything that is wrong in any request.
    """
    model = encoder.model
    problems = check_requests(requests, library, wildcards)
    for clip_skip in dict.fromkeys(request.clip_skip or 1 for request in requests):
        check = partial(check_clip_skip, model.architecture, clip_skip, "clip_skip")
        collect_problems(problems, check)
    if problems:
        raise PromptError(problems)
    requests = [with_wildcards(request, wildcards) for request in requests]
    prompts = {text: parse_prompt(text) for text in dict.fromkeys(r.prompt for r in requests)}
    negatives = {
        text: _parse_negative(text) for text in dict.fromkeys(r.negative for r in requests)
    }
    for note in dict.fromkeys(note for prompt in prompts.values() for note in prompt.notes):
        observer(Notice("warning", note))
    prepared = []
    for index, request in enumerate(requests):
        width, height = fitting_size(model, request)
        prompt = prompts[request.prompt]
        carriers = tuple(
            library.find(tag.name) for tag in prompt.loras if tag.unet or tag.text_encoder
        )
        guided = PromptPair(prompt, negatives[request.negative], request.cfg, carriers)
        prepared.append(
            PreparedRequest(
                index,
                replace(request, width=width, height=height),
                guided,
                guided.batch_key(encoder, request.steps),
                width,
                height,
                _final_size(model, request, width, height),
                passes_of(request),
                guided.embeddings(encoder, request.steps),
            )
        )
    _warn_of_rounding(model, requests, prepared, observer)
    return prepared


def passes_of(request: ImageRequest) -> tuple[Pass, ...]:
    """The passes that make the image."""
    sampler = find_sampler(request.sampler, request.schedule)
    share = 1.0 if request.init is None else request.denoise
    first = partial_pass(sampler, request.steps, share, request.eta)
    if request.hires is None:
        return (first,)
    steps = request.hires.steps or request.steps
    return first, full_pass(sampler, steps, request.hires.denoise, request.eta)


def fitting_size(model: DiffusionModel, request: ImageRequest) -> tuple[int, int]:
    """Width and height in pixels: the request's, else its image's, else the model's own,
    rounded to the nearest that the model can do."""
    native = model.architecture.native_resolution
    default = init_size(request) or (native, native)
    return _rounded(model, request.width or default[0], request.height or default[1])


def _final_size(
    model: DiffusionModel, request: ImageRequest, width: int, height: int
) -> tuple[int, int]:
    """Of the last pass.

    Raises:
        PromptError: that is more than an image may have.
    """
    scale = request.hires.scale if request.hires else 1.0
    size = _rounded(model, width * scale, height * scale)
    if max(size) > MAX_SIZE:
        what = f"a picture of {size[0]}x{size[1]} px is too large"
        raise PromptError.of("size", what, f"the most is {MAX_SIZE} px a side")
    return size


def _rounded(model: DiffusionModel, width: float, height: float) -> tuple[int, int]:
    multiple = model.architecture.size_multiple
    w, h = (max(1, math.floor(side / multiple + 0.5)) * multiple for side in (width, height))
    return w, h


def _warn_of_rounding(
    model: DiffusionModel,
    requests: Sequence[ImageRequest],
    prepared: Sequence[PreparedRequest],
    observer: Observer,
) -> None:
    multiple = model.architecture.size_multiple
    texts: dict[str, None] = {}
    for request, one in zip(requests, prepared, strict=True):
        default = init_size(request) or (one.width, one.height)
        width, height = request.width or default[0], request.height or default[1]
        if (width, height) != (one.width, one.height):
            became = f"size {width}x{height} became {one.width}x{one.height}"
            texts[f"{became}: this model takes multiples of {multiple}"] = None
    for text in texts:
        observer(Notice("warning", text))
