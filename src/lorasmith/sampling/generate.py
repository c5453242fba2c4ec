"""Pictures from prompts.

Shapes: B pictures, C latent channels, h and w latent size, T text tokens, D text width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from lorasmith.errors import Problem, PromptError, Stopped
from lorasmith.events import Controls, Notice, Observer, Progress, ignore
from lorasmith.models.sd import Conditioning, DiffusionModel
from lorasmith.sampling.conditioning import Chunk, chunk_count, chunks_of, encode_prompts
from lorasmith.sampling.loras import LoraShelf
from lorasmith.sampling.prompt import LoraTag, Prompt, parse_prompt
from lorasmith.sampling.samplers import DEFAULT, MAX_STEPS, Sampler, find_sampler

MAX_SIZE = 4096
MAX_SEED = 2**63 - 1

# Latent elements (h times w) that one call of the denoiser gets, guidance not counted. More does
# not make it faster: 4096 is one 512 px picture of a full-size model.
CELLS_PER_CALL = {"cpu": 4096, "cuda": 8 * 4096}
# Pixels that the VAE decodes at once: its activations are the peak of memory.
PIXELS_PER_DECODE = {"cpu": 512 * 512, "cuda": 2 * 512 * 512}


@dataclass(frozen=True, slots=True)
class PictureRequest:
    """One picture to be made.

    Args:
        prompt, negative: in the language of :mod:`lorasmith.sampling.prompt`.
        seed: 0 to 2**63 - 1. The picture is a function of the request alone. The first noise is
            that of diffusers and ComfyUI with a CPU generator of this seed.
        steps: calls of the denoiser, 1 to 500.
        cfg: classifier-free guidance; 1 is none, and then the negative prompt has no effect.
        sampler: a name in :data:`lorasmith.sampling.samplers.SAMPLERS`, or a web UI's.
        width, height: in pixels; ``None`` is the model's own. Rounded to what the model needs.
    """

    prompt: str
    negative: str = ""
    seed: int = 0
    steps: int = 20
    cfg: float = 7.0
    sampler: str = DEFAULT
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True, slots=True)
class GeneratedPicture:
    """A finished picture.

    Args:
        image: RGB.
        request: what made it, with the size that it has.
        index: its place among the requests: pictures come in the order of their batches.
    """

    image: Image.Image
    request: PictureRequest
    index: int

    @property
    def seed(self) -> int:
        return self.request.seed


def check_request(request: PictureRequest) -> list[Problem]:
    """Everything wrong with a request that can be seen without a model or a LoRA file."""
    problems = [
        *_problems_of(parse_prompt, request.prompt),
        *_problems_of(_parse_negative, request.negative),
        *_problems_of(find_sampler, request.sampler),
    ]
    for name, value, low, high in (
        ("steps", request.steps, 1, MAX_STEPS),
        ("cfg", request.cfg, 0.0, 100.0),
        ("width", request.width, 1, MAX_SIZE),
        ("height", request.height, 1, MAX_SIZE),
        ("seed", request.seed, 0, MAX_SEED),
    ):
        if value is not None and not low <= value <= high:
            problems.append(
                Problem(name, f"{value} is out of range", f"choose {low:g} to {high:g}")
            )
    return problems


def _problems_of(check: Callable[[str], object], text: str) -> list[Problem]:
    try:
        check(text)
    except PromptError as error:
        return error.problems
    return []


def _parse_negative(text: str) -> Prompt:
    prompt = parse_prompt(text)
    if prompt.loras:
        raise PromptError.of(
            prompt.loras[0].source,
            "a LoRA in the negative prompt",
            "move it to the prompt; it works on both",
        )
    return prompt


@dataclass(frozen=True, slots=True)
class _Job:
    """A request, ready to run."""

    index: int
    request: PictureRequest
    loras: tuple[LoraTag, ...]
    sampler: Sampler
    chunks: list[list[Chunk]]  # of the negative prompt (when there is guidance) and the prompt
    width: int
    height: int

    @property
    def batch_key(self) -> tuple[object, ...]:
        """Jobs with equal keys can share a call of the denoiser."""
        return (
            self.loras,
            self.sampler.name,
            self.request.steps,
            self.width,
            self.height,
            len(self.chunks),
            chunk_count(self.chunks),
        )


def generate(
    model: DiffusionModel,
    requests: Sequence[PictureRequest],
    *,
    loras: LoraShelf | None = None,
    batch: int | None = None,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> Iterator[GeneratedPicture]:
    """Make the pictures, in batches; each is yielded as soon as it is done.

    Args:
        loras: where ``<lora:…>`` in prompts are found. Adapters that are attached already stay.
        batch: pictures at once; ``None`` chooses by their size.
        observer: gets a Progress after each step (in picture steps) and Notices.
        controls: a stop request ends the work after the step in progress.

    Raises:
        PromptError: at once, with everything that is wrong in any request.
        LoraFileError: a LoRA is damaged or does not fit the model.
        Stopped: on a stop request, between two steps.
    """
    shelf = loras or LoraShelf(None)
    jobs = _prepare(model, requests, shelf, observer)
    groups: dict[tuple[object, ...], list[_Job]] = {}
    for job in jobs:
        groups.setdefault(job.batch_key, []).append(job)
    counter = _Counter(sum(job.request.steps for job in jobs), observer, controls or Controls())
    return _run(model, list(groups.values()), shelf, batch, counter)


def _prepare(
    model: DiffusionModel, requests: Sequence[PictureRequest], shelf: LoraShelf, observer: Observer
) -> list[_Job]:
    """Jobs of all requests; a prompt that many share is parsed and tokenized once."""
    problems = [problem for request in requests for problem in check_request(request)]
    if problems:
        raise PromptError(dict.fromkeys(problems))
    texts = dict.fromkeys(text for r in requests for text in (r.prompt, r.negative))
    prompts = {text: parse_prompt(text) for text in texts}
    problems = shelf.check(tag for prompt in prompts.values() for tag in prompt.loras)
    if problems:
        raise PromptError(problems)
    chunks = {text: chunks_of(prompt) for text, prompt in prompts.items()}
    for note in dict.fromkeys(note for prompt in prompts.values() for note in prompt.notes):
        observer(Notice("warning", note))
    jobs = []
    for index, request in enumerate(requests):
        width, height = fitting_size(model, request)
        used = [request.prompt] if request.cfg == 1.0 else [request.negative, request.prompt]
        jobs.append(
            _Job(
                index,
                replace(request, width=width, height=height),
                prompts[request.prompt].loras,
                find_sampler(request.sampler),
                [chunks[text] for text in used],
                width,
                height,
            )
        )
    _say_rounding(model, requests, jobs, observer)
    return jobs


def fitting_size(model: DiffusionModel, request: PictureRequest) -> tuple[int, int]:
    """Width and height in pixels: the request's, rounded to the nearest that the model can do."""
    multiple = model.architecture.size_multiple
    native = model.architecture.native_resolution
    width, height = (
        max(1, math.floor((side or native) / multiple + 0.5)) * multiple
        for side in (request.width, request.height)
    )
    return width, height


def _say_rounding(
    model: DiffusionModel,
    requests: Sequence[PictureRequest],
    jobs: Sequence[_Job],
    observer: Observer,
) -> None:
    said = set()
    for request, job in zip(requests, jobs, strict=True):
        asked = request.width or job.width, request.height or job.height
        if asked != (job.width, job.height) and asked not in said:
            said.add(asked)
            observer(
                Notice(
                    "warning",
                    f"size {asked[0]}x{asked[1]} became {job.width}x{job.height}: this model "
                    f"takes multiples of {model.architecture.size_multiple}",
                )
            )


class _Counter:
    """Tells the observer how many picture steps are done, and heeds stop requests."""

    def __init__(self, total: int, observer: Observer, controls: Controls) -> None:
        self.done, self.total = 0, total
        self._observer, self._controls = observer, controls

    def check(self) -> None:
        if self._controls.stopping:
            raise Stopped("stopped while drawing; finished pictures are kept")

    def add(self, steps: int) -> None:
        self.done += steps
        self._observer(Progress("drawing pictures", self.done, self.total))

    def warn(self, text: str) -> None:
        self._observer(Notice("warning", text))


def _run(
    model: DiffusionModel,
    groups: list[list[_Job]],
    shelf: LoraShelf,
    batch: int | None,
    counter: _Counter,
) -> Iterator[GeneratedPicture]:
    for group in groups:
        size = batch or _batch_size(model, group[0])
        for start in range(0, len(group), size):
            jobs = group[start : start + size]
            # Attached for no longer than a batch: between two pictures the model is the caller's.
            with shelf.attached(model, jobs[0].loras):
                images = _decode(model, _sample(model, jobs, counter))
            for job, image in zip(jobs, images, strict=True):
                yield GeneratedPicture(image, job.request, job.index)


def _batch_size(model: DiffusionModel, job: _Job) -> int:
    cells = job.width * job.height // model.latent_factor**2
    return max(1, CELLS_PER_CALL.get(model.device.type, CELLS_PER_CALL["cuda"]) // cells)


@torch.inference_mode()
def _sample(model: DiffusionModel, jobs: Sequence[_Job], counter: _Counter) -> Tensor:
    """(B, C, h, w) clean latents of jobs that share a batch key."""
    first = jobs[0]
    shape = (
        model.architecture.latent_channels,
        first.height // model.latent_factor,
        first.width // model.latent_factor,
    )
    generators = [_generator(job.request.seed) for job in jobs]
    latents = torch.stack([torch.randn(shape, generator=g) for g in generators]).to(model.device)
    conditioning, cfg = _conditioning(model, jobs)
    scheduler = first.sampler.start(
        first.request.steps,
        model.prediction,
        zero_terminal_snr=model.architecture.zero_terminal_snr,
    )
    latents = latents * scheduler.init_noise_sigma
    for t, t_on_device in zip(
        scheduler.timesteps, scheduler.timesteps.to(model.device), strict=True
    ):
        counter.check()
        noisy = scheduler.scale_model_input(latents, t)
        prediction = _guided(model, noisy, t_on_device, conditioning, cfg)
        latents = first.sampler.advance(scheduler, prediction, t, latents, generators)
        counter.add(len(jobs))
    if not torch.isfinite(latents).all():
        counter.warn("a picture came out as NaN; draw it in fp32, and check the LoRA's strength")
    return latents


def _generator(seed: int) -> torch.Generator:
    """A picture's own source of chance, for its first noise and its sampler's.

    Not derived like the draws of training: the seed is what people carry from one program to
    another, and this is the generator that diffusers and ComfyUI make of it.
    """
    return torch.Generator().manual_seed(seed)


def _conditioning(
    model: DiffusionModel, jobs: Sequence[_Job]
) -> tuple[Conditioning, Tensor | None]:
    """Conditioning of all negative prompts, then all prompts, with guidance (B, 1, 1, 1); or of
    the prompts alone, with ``None``."""
    columns = zip(*(job.chunks for job in jobs), strict=True)
    prompts = [chunks for column in columns for chunks in column]
    conditioning = encode_prompts(model, prompts)
    conditioning = conditioning.to(model.device, model.dtype)
    guided, family = len(jobs[0].chunks) > 1, model.architecture.known_as
    if guided and family.blank_negative:
        blank = [not job.request.negative.strip() for job in jobs] + [False] * len(jobs)
        conditioning = conditioning.blanked(torch.tensor(blank, device=model.device))
    if family.sized:
        size = (float(jobs[0].height), float(jobs[0].width))
        row = torch.tensor([*size, 0.0, 0.0, *size], device=model.device)
        conditioning = conditioning.sized(row.expand(len(prompts), -1))
    if not guided:
        return conditioning, None
    scales = torch.tensor([job.request.cfg for job in jobs], device=model.device)
    return conditioning, scales.view(-1, 1, 1, 1)


def _guided(
    model: DiffusionModel,
    noisy: Tensor,
    timestep: Tensor,
    conditioning: Conditioning,
    cfg: Tensor | None,
) -> Tensor:
    """(B, C, h, w) prediction with classifier-free guidance, in one call of the denoiser."""
    if cfg is None:
        return model.denoise(noisy, timestep, conditioning)
    prediction = model.denoise(torch.cat([noisy, noisy]), timestep, conditioning)
    negative, positive = prediction.chunk(2)
    return negative + cfg * (positive - negative)


@torch.inference_mode()
def _decode(model: DiffusionModel, latents: Tensor) -> list[Image.Image]:
    pixels_each = latents.shape[-2] * latents.shape[-1] * model.latent_factor**2
    limit = PIXELS_PER_DECODE.get(model.device.type, PIXELS_PER_DECODE["cuda"])
    images = []
    for part in latents.split(max(1, limit // pixels_each)):
        pixels = model.decode_latents(part)
        levels = ((pixels.nan_to_num(-1.0) + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
        for picture in levels.permute(0, 2, 3, 1).cpu().numpy():
            images.append(Image.fromarray(picture))
    return images
