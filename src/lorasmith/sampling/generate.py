"""Images from prompts.

Shapes: B images, C latent channels, h and w latent size, T text tokens, D text width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from lorasmith.core.events import Controls, Notice, Observer, Progress, ignore
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.reference import ModelReference
from lorasmith.prompts.wildcards import Wildcards
from lorasmith.sampling.batching import PreparedRequest, prepare_requests
from lorasmith.sampling.conditioning import PromptEncoder
from lorasmith.sampling.denoise import Guide, Start, denoise, rescaled
from lorasmith.sampling.embeddings import EmbeddingLibrary
from lorasmith.sampling.guidance import GuidanceSchedule
from lorasmith.sampling.img2img import Canvas, open_canvas
from lorasmith.sampling.infotext import Describe, Infotext, describe, format_infotext, save_image
from lorasmith.sampling.lora_library import AttachedLoras, LoraLibrary
from lorasmith.sampling.request import ImageRequest
from lorasmith.sampling.upscale import enlarge
from lorasmith.tensors.transfer import to_device

# Latent elements (h times w) that one call of the denoiser gets, guidance not counted. More does
# not make it faster: 4096 is one 512 px image of a full-size model.
CELLS_PER_CALL = {"cpu": 4096, "cuda": 8 * 4096}
# Pixels that the VAE decodes at once: its activations are the peak of memory.
PIXELS_PER_DECODE = {"cpu": 512 * 512, "cuda": 2 * 512 * 512}


def _describe_alone(request: ImageRequest) -> Infotext:
    """What can be said of an image where nobody told the model's name."""
    return describe(request, ModelReference(""))


@dataclass(frozen=True, slots=True)
class GeneratedImage:
    """A finished image.

    Args:
        image: RGB.
        request: what made it, with the size that it has.
        index: its place among the requests: images come in the order of their batches.
        describe: says how it was made, with what is known of the model.
    """

    image: Image.Image
    request: ImageRequest
    index: int
    describe: Describe = _describe_alone

    @property
    def seed(self) -> int:
        return self.request.seed

    @property
    def infotext(self) -> str:
        """How it was made, as web UIs write it; ``lorasmith generate --from-png`` reads it back."""
        return format_infotext(self.describe(self.request))

    def save(self, path: Path | str) -> None:
        """Write a PNG that carries :attr:`infotext`.

        Raises:
            RunError: the disk is full or the folder cannot be written to.
        """
        save_image(Path(path), self.image, self.describe(self.request))

    def _repr_png_(self) -> bytes | None:
        """For notebooks."""
        return self.image._repr_png_()


def generate(
    model: DiffusionModel,
    requests: Sequence[ImageRequest],
    *,
    loras: LoraLibrary | None = None,
    embeddings: EmbeddingLibrary | None = None,
    wildcards: Wildcards | None = None,
    batch: int | None = None,
    describe: Describe = _describe_alone,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> Iterator[GeneratedImage]:
    """Make the images, in batches; each is yielded as soon as it is done.

    Args:
        loras: where ``<lora:…>`` in prompts are found. Adapters that are attached already stay.
        embeddings: whose names in prompts become their vectors.
        wildcards: where ``__name__`` in prompts are found.
        batch: images at once; ``None`` chooses by their size.
        describe: says how an image was made; see :meth:`.Provenance.describer`.
        observer: gets a Progress after each step (in image steps) and Notices.
        controls: a stop request ends the work after the step in progress.

    Raises:
        PromptError: at once, with everything that is wrong in any request.
        LoraFileError: a LoRA is damaged or does not fit the model.
        Stopped: on a stop request, between two steps.
    """
    library = loras or LoraLibrary(None)
    encoder = PromptEncoder(model, embeddings)
    jobs = prepare_requests(encoder, requests, library, wildcards or Wildcards(), observer)
    groups: dict[tuple[object, ...], list[PreparedRequest]] = {}
    for job in jobs:
        groups.setdefault(job.batch_key, []).append(job)
    calls = sum(len(jobs) * _calls(model, jobs[0]) for jobs in groups.values())
    counter = _Counter(calls, observer, controls or Controls())
    return _run(encoder, list(groups.values()), library, batch, describe, counter)


class _Counter:
    """Tells the observer how many image steps are done, and heeds stop requests."""

    def __init__(self, total: int, observer: Observer, controls: Controls) -> None:
        self.done, self.total = 0, total
        self._observer, self._controls = observer, controls

    def check(self) -> None:
        self._controls.check("stopped while drawing; finished pictures are kept")

    def add(self, steps: int) -> None:
        self.done += steps
        self._observer(Progress("drawing pictures", self.done, self.total))

    def warn(self, text: str) -> None:
        self._observer(Notice("warning", text))


def _calls(model: DiffusionModel, job: PreparedRequest) -> int:
    """How often the denoiser is called for an image."""
    return sum(each.calls(model.prediction) for each in job.passes)


def _run(
    encoder: PromptEncoder,
    groups: list[list[PreparedRequest]],
    library: LoraLibrary,
    batch: int | None,
    describe: Describe,
    counter: _Counter,
) -> Iterator[GeneratedImage]:
    model = encoder.model
    for group in groups:
        size = batch or _batch_size(model, group[0])
        for start in range(0, len(group), size):
            jobs = group[start : start + size]
            # Attached for no longer than a batch: between two images the model is the caller's.
            with library.attached(model, jobs[0].guided.prompt.loras) as attached:
                images = _draw(encoder, jobs, attached, counter)
            for job, image in zip(jobs, images, strict=True):
                yield GeneratedImage(image, job.request, job.index, describe)


def _batch_size(model: DiffusionModel, job: PreparedRequest) -> int:
    cells = job.final_size[0] * job.final_size[1] // model.latent_factor**2
    return max(1, CELLS_PER_CALL.get(model.device.type, CELLS_PER_CALL["cuda"]) // cells)


@torch.inference_mode()
def _draw(
    encoder: PromptEncoder,
    jobs: Sequence[PreparedRequest],
    attached: AttachedLoras,
    counter: _Counter,
) -> list[Image.Image]:
    """The images of jobs that share a batch key."""
    model, first = encoder.model, jobs[0]
    canvases = _canvases(jobs, model.latent_factor)
    generators = [_generator(job.request.seed) for job in jobs]
    start = _start(model, jobs, canvases, generators)
    guide = _guide(encoder, jobs, 0, attached, counter)
    latents = _pass(model, first, 0, start, guide, generators)
    if first.request.hires is not None:
        upscaler = first.request.hires.upscaler
        clean = enlarge(
            model, latents, first.final_size, upscaler, lambda each: _decode(model, each)
        )
        # The noise of the seed again, as an image of this size has it.
        generators = [_generator(job.request.seed) for job in jobs]
        start = Start(_noise(model, clean.shape[1:], generators), clean)
        guide = _guide(encoder, jobs, 1, attached, counter)
        latents = _pass(model, first, 1, start, guide, generators)
    _warn_of_nan(jobs, latents, counter)
    images = _decode(model, latents)
    if not canvases:
        return images
    return [canvas.finish(image) for canvas, image in zip(canvases, images, strict=True)]


def _warn_of_nan(jobs: Sequence[PreparedRequest], latents: Tensor, counter: _Counter) -> None:
    broken = ~latents.isfinite().flatten(1).all(1)
    for job, is_broken in zip(jobs, broken.tolist(), strict=True):
        if is_broken:
            counter.warn(
                f"the picture of seed {job.request.seed} is NaN, and black where it is: lower the "
                "strengths of the LoRAs, weights in the prompt or guidance; or, with fp16 on a "
                "GPU, take --precision bf16 or fp32"
            )


def _canvases(jobs: Sequence[PreparedRequest], factor: int) -> list[Canvas]:
    """The images to begin with, one object for each that several jobs share."""
    opened: dict[object, Canvas] = {}
    canvases = []
    for job in jobs:
        if job.request.init is not None:
            key = job.request.init, job.request.inpaint
            if key not in opened:
                opened[key] = open_canvas(job.request, job.width, job.height, factor)
            canvases.append(opened[key])
    return canvases


def _guide(
    encoder: PromptEncoder,
    jobs: Sequence[PreparedRequest],
    number: int,
    attached: AttachedLoras,
    counter: _Counter,
) -> Guide:
    """What the prompts say in each step of a pass: the first, 0, or the second, 1."""
    first, model = jobs[0], encoder.model
    taken = [each.steps - each.skip for each in first.passes]
    plan = GuidanceSchedule(
        encoder,
        [job.guided for job in jobs],
        size=first.final_size if number else (first.width, first.height),
        steps=taken[number],
        before=sum(taken[:number]),
        loras=attached,
    )
    rescales = any(job.request.cfg_rescale for job in jobs)
    phi = to_device(torch.tensor([job.request.cfg_rescale for job in jobs]), model.device)

    def guide(noisy: Tensor, timestep: Tensor, step: int) -> Tensor:
        counter.check()
        with _clip_skip(model, first.request.clip_skip):
            guided, positive = plan.predict(noisy, timestep, step - first.passes[number].skip)
        counter.add(len(noisy))
        return rescaled(guided, positive, phi.view(-1, 1, 1, 1)) if rescales else guided

    return guide


def _pass(
    model: DiffusionModel,
    job: PreparedRequest,
    number: int,
    start: Start,
    guide: Guide,
    generators: Sequence[torch.Generator],
) -> Tensor:
    return denoise(
        job.passes[number],
        start,
        guide,
        generators,
        prediction=model.prediction,
        zero_terminal_snr=model.architecture.zero_terminal_snr,
    )


def _start(
    model: DiffusionModel,
    jobs: Sequence[PreparedRequest],
    canvases: Sequence[Canvas],
    generators: Sequence[torch.Generator],
) -> Start:
    """Noise, or the canvases and noise, drawn in the order of diffusers' pipelines."""
    first = jobs[0]
    shape = (
        model.architecture.latent_channels,
        first.height // model.latent_factor,
        first.width // model.latent_factor,
    )
    if not canvases:
        return Start(_noise(model, shape, generators))
    # One by one: the encoder's activations are the peak of memory. Each image once.
    encoded = {id(c): model.encode_images(c.pixels[None]) for c in canvases}
    parts = zip(*(encoded[id(canvas)] for canvas in canvases), strict=True)
    mean, std = (torch.cat(part) for part in parts)
    kept = mean + std * _noise(model, shape, generators)
    noise = _noise(model, shape, generators)
    inpaint = first.request.inpaint
    if inpaint is None:
        return Start(noise, kept)
    mask = torch.stack([c.mask for c in canvases if c.mask is not None])
    mask = to_device(mask, model.device)
    clean: Tensor | None = kept
    if first.request.denoise == 1.0:
        clean = None
    elif inpaint.content == "noise":
        clean = torch.lerp(kept, _noise(model, shape, generators), mask)
    return Start(noise, clean, kept, mask)


def _noise(
    model: DiffusionModel, shape: Sequence[int], generators: Sequence[torch.Generator]
) -> Tensor:
    """(B, *shape) standard normal, each image's from its own generator."""
    drawn = [torch.randn(*shape, generator=generator) for generator in generators]
    return to_device(torch.stack(drawn), model.device)


@contextlib.contextmanager
def _clip_skip(model: DiffusionModel, clip_skip: int | None) -> Iterator[None]:
    before = model.clip_skip
    model.clip_skip = clip_skip or before
    try:
        yield
    finally:
        model.clip_skip = before


def _generator(seed: int) -> torch.Generator:
    """An image's own source of chance, for its first noise and its sampler's.

    Not derived like the draws of training: the seed is what people carry from one program to
    another, and this is the generator that diffusers and ComfyUI make of it.
    """
    return torch.Generator().manual_seed(seed)


@torch.inference_mode()
def _decode(model: DiffusionModel, latents: Tensor) -> list[Image.Image]:
    pixels_each = latents.shape[-2] * latents.shape[-1] * model.latent_factor**2
    limit = PIXELS_PER_DECODE.get(model.device.type, PIXELS_PER_DECODE["cuda"])
    images = []
    for part in latents.split(max(1, limit // pixels_each)):
        pixels = model.decode_latents(part)
        levels = ((pixels.nan_to_num(-1.0) + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
        for image in levels.permute(0, 2, 3, 1).cpu().numpy():
            images.append(Image.fromarray(image))
    return images
