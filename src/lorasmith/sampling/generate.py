"""Images from prompts.

Shapes: B images, C latent channels, h and w latent size, H and W in pixels, T text tokens, D text
width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from lorasmith.core.events import Controls, Notice, Observer, Progress, ignore
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.prompts.wildcards import Wildcards
from lorasmith.sampling.batching import PreparedRequest, prepare_requests
from lorasmith.sampling.conditioning import PromptEncoder
from lorasmith.sampling.denoise import Guide, Start, denoise, rescaled
from lorasmith.sampling.embeddings import EmbeddingLibrary
from lorasmith.sampling.guidance import GuidanceSchedule
from lorasmith.sampling.images import GeneratedImage, describe_alone
from lorasmith.sampling.img2img import Canvas, open_canvas, pixels_of
from lorasmith.sampling.infotext import Describe
from lorasmith.sampling.lora_library import AttachedLoras, LoraLibrary
from lorasmith.sampling.request import UPSCALERS, ImageRequest
from lorasmith.sampling.step_preview import Watch, clean_latents
from lorasmith.tensors.transfer import to_device

# Latent elements (h times w) that one call of the denoiser gets, guidance not counted. More does
# not make it faster: 4096 is one 512 px image of a full-size model.
CELLS_PER_CALL = {"cpu": 4096, "cuda": 8 * 4096}
# Pixels that the VAE decodes at once: its activations are the peak of memory.
PIXELS_PER_DECODE = {"cpu": 512 * 512, "cuda": 2 * 512 * 512}


def generate(
    model: DiffusionModel,
    requests: Sequence[ImageRequest],
    *,
    loras: LoraLibrary | None = None,
    embeddings: EmbeddingLibrary | None = None,
    wildcards: Wildcards | None = None,
    batch: int | None = None,
    describe: Describe = describe_alone,
    observer: Observer = ignore,
    controls: Controls | None = None,
    watch: Watch | None = None,
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
        watch: called after each step with the places of its requests, and with what gives their
            latents (B, C, h, w) as far as they can be told then.

    Raises:
        PromptError: at once, with everything that is wrong in any request.
        LoraFileError: a LoRA is damaged or does not fit the model.
        Stopped: on a stop request, between two steps.
    """
    library = loras or LoraLibrary(None)
    encoder = PromptEncoder(model, embeddings)
    prepared = prepare_requests(encoder, requests, library, wildcards or Wildcards(), observer)
    groups: dict[tuple[object, ...], list[PreparedRequest]] = {}
    for each in prepared:
        groups.setdefault(each.batch_key, []).append(each)
    total = sum(one.calls(model.prediction) for each in prepared for one in each.passes)
    counter = _Counter(total, observer, controls or Controls(), watch)

    def images() -> Iterator[GeneratedImage]:
        for group in groups.values():
            size = batch or _batch_size(model, group[0])
            for start in range(0, len(group), size):
                some = group[start : start + size]
                # Attached for no longer than a batch: between two images the model is the caller's.
                with library.attached(model, some[0].guided.prompt.loras) as attached:
                    drawn = _Batch(encoder, some, attached, counter).draw()
                for each, image in zip(some, drawn, strict=True):
                    yield GeneratedImage(image, each.request, each.index, describe, each.embeddings)

    return images()


class _Counter:
    """Tells the observer how many image steps are done, and heeds stop requests."""

    def __init__(
        self, total: int, observer: Observer, controls: Controls, watch: Watch | None
    ) -> None:
        self.done, self.total = 0, total
        self.watch = watch
        self._observer, self._controls = observer, controls

    def check(self) -> None:
        self._controls.check("stopped while drawing; finished pictures are kept")

    def add(self, steps: int) -> None:
        self.done += steps
        self._observer(Progress("drawing pictures", self.done, self.total))

    def warn(self, text: str) -> None:
        self._observer(Notice("warning", text))


def _batch_size(model: DiffusionModel, request: PreparedRequest) -> int:
    cells = request.final_size[0] * request.final_size[1] // model.latent_factor**2
    return max(1, CELLS_PER_CALL.get(model.device.type, CELLS_PER_CALL["cuda"]) // cells)


class _Batch:
    """Images that are drawn together: requests of one batch key, with their LoRAs attached."""

    def __init__(
        self,
        encoder: PromptEncoder,
        prepared: Sequence[PreparedRequest],
        attached: AttachedLoras,
        counter: _Counter,
    ) -> None:
        self._encoder, self._model = encoder, encoder.model
        self._prepared, self._first = prepared, prepared[0]
        self._attached, self._counter = attached, counter
        self._generators: list[torch.Generator] = []

    @torch.inference_mode()
    def draw(self) -> list[Image.Image]:
        canvases = self._canvases()
        self._seed()
        latents = self._pass(0, self._start(canvases))
        if self._first.request.hires is not None:
            large = self._enlarged(latents, self._first.request.hires.upscaler)
            # The noise of the seed again, as an image of this size has it.
            self._seed()
            latents = self._pass(1, Start(self._noise(large.shape[1:]), large))
        self._warn_of_nan(latents)
        images = _decode(self._model, latents)
        if not canvases:
            return images
        return [canvas.finish(image) for canvas, image in zip(canvases, images, strict=True)]

    def _seed(self) -> None:
        """Each image's own source of chance, for its first noise and its sampler's.

        Not derived like the draws of training: the seed is what people carry from one program to
        another, and this is the generator that diffusers and ComfyUI make of it.
        """
        seeds = [each.request.seed for each in self._prepared]
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def _noise(self, shape: Sequence[int]) -> Tensor:
        """(B, *shape) standard normal, each image's from its own generator."""
        noises = [torch.randn(*shape, generator=generator) for generator in self._generators]
        return to_device(torch.stack(noises), self._model.device)

    def _canvases(self) -> list[Canvas]:
        """The images to begin with, one object for each that several requests share."""
        by_key: dict[object, Canvas] = {}
        canvases = []
        for each in self._prepared:
            if each.request.init is not None:
                key = each.request.init, each.request.inpaint
                if key not in by_key:
                    factor = self._model.latent_factor
                    by_key[key] = open_canvas(each.request, each.width, each.height, factor)
                canvases.append(by_key[key])
        return canvases

    def _start(self, canvases: Sequence[Canvas]) -> Start:
        """Noise, or the canvases and noise, drawn in the order of diffusers' pipelines."""
        model, first = self._model, self._first
        factor = model.latent_factor
        shape = (model.architecture.latent_channels, first.height // factor, first.width // factor)
        if not canvases:
            return Start(self._noise(shape))
        # One by one: the encoder's activations are the peak of memory. Each image once.
        encoded = {id(c): model.encode_images(c.pixels[None]) for c in canvases}
        parts = zip(*(encoded[id(canvas)] for canvas in canvases), strict=True)
        mean, std = (torch.cat(part) for part in parts)
        image_latents = mean + std * self._noise(shape)
        noise = self._noise(shape)
        inpaint = first.request.inpaint
        if inpaint is None:
            return Start(noise, image_latents)
        mask = torch.stack([c.mask for c in canvases if c.mask is not None])
        mask = to_device(mask, model.device)
        clean: Tensor | None = image_latents
        if first.request.denoise == 1.0:
            clean = None
        elif inpaint.content == "noise":
            clean = torch.lerp(image_latents, self._noise(shape), mask)
        return Start(noise, clean, image_latents, mask)

    def _pass(self, number: int, start: Start) -> Tensor:
        """(B, C, h, w) the first pass' latents, 0, or the second's, 1."""
        return denoise(
            self._first.passes[number],
            start,
            self._guide(number),
            self._generators,
            prediction=self._model.prediction,
            zero_terminal_snr=self._model.architecture.zero_terminal_snr,
        )

    def _guide(self, number: int) -> Guide:
        """What the prompts say in each step of a pass."""
        first, model = self._first, self._model
        step_counts = [each.steps - each.skip for each in first.passes]
        plan = GuidanceSchedule(
            self._encoder,
            [each.guided for each in self._prepared],
            size=first.final_size if number else (first.width, first.height),
            steps=step_counts[number],
            before=sum(step_counts[:number]),
            loras=self._attached,
        )
        shares = [each.request.cfg_rescale for each in self._prepared]
        phi = to_device(torch.tensor(shares), model.device).view(-1, 1, 1, 1)

        def guide(noisy: Tensor, timestep: Tensor, step: int) -> Tensor:
            self._counter.check()
            with _clip_skip(model, first.request.clip_skip):
                guided, positive = plan.predict(noisy, timestep, step - first.passes[number].skip)
            self._counter.add(len(noisy))
            if self._counter.watch is not None:
                places = [each.index for each in self._prepared]
                latents = partial(clean_latents, model, noisy, guided, timestep)
                self._counter.watch(places, latents)
            return rescaled(guided, positive, phi) if any(shares) else guided

        return guide

    def _enlarged(self, latents: Tensor, upscaler: str) -> Tensor:
        """(B, C, H / factor, W / factor) latents of the same images at the last pass' size."""
        model, size, spec = self._model, self._first.final_size, UPSCALERS[upscaler]
        if spec.latent:
            width, height = (side // model.latent_factor for side in size)
            return interpolate(latents, (height, width), mode=spec.method, antialias=spec.antialias)
        method = Image.Resampling[spec.method]
        large = [image.resize(size, method) for image in _decode(model, latents)]
        # One by one: the encoder's activations are the peak of memory.
        return torch.cat([model.encode_images(pixels_of([image]))[0] for image in large])

    def _warn_of_nan(self, latents: Tensor) -> None:
        broken = ~latents.isfinite().flatten(1).all(1)
        for each, is_broken in zip(self._prepared, broken.tolist(), strict=True):
            if is_broken:
                self._counter.warn(
                    f"the picture of seed {each.request.seed} is NaN, and black where it is: lower "
                    "the strengths of the LoRAs, weights in the prompt or guidance; or, with fp16 "
                    "on a GPU, take --precision bf16 or fp32 (`lorasmith doctor` tries each)"
                )


@contextlib.contextmanager
def _clip_skip(model: DiffusionModel, clip_skip: int | None) -> Iterator[None]:
    before = model.clip_skip
    model.clip_skip = clip_skip or before
    try:
        yield
    finally:
        model.clip_skip = before


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
