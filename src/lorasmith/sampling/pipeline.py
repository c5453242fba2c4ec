"""A base model that is ready to generate: load it once, ask it for images, put LoRAs on it.

::

    pipe = load_model("demo")
    images = pipe.generate("zorp <lora:zorp:0.8>", seeds=range(4), loras="runs")
    with pipe.lora("zorp.safetensors", unet=0.8, text_encoder=0.5):
        images[0].save("zorp.png")
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from lorasmith.adapters.file import load_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.core.errors import UserError
from lorasmith.core.events import Controls, Observer, ignore
from lorasmith.core.files import user_path
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.load import load_model as load_diffusion_model
from lorasmith.models.open import read_architecture
from lorasmith.models.reference import ModelReference
from lorasmith.prompts.lora_tags import LoraTag, format_tag
from lorasmith.prompts.wildcards import Wildcards
from lorasmith.sampling.embeddings import EmbeddingLibrary
from lorasmith.sampling.generate import generate
from lorasmith.sampling.images import GeneratedImage
from lorasmith.sampling.infotext import Provenance
from lorasmith.sampling.lora_library import LoraLibrary, set_strengths
from lorasmith.sampling.request import Hires, ImageRequest, Inpaint
from lorasmith.sampling.sources import AnyPath, find_sources
from lorasmith.tensors.device import choose_device, choose_precision


class Pipeline:
    """A base model, and the LoRAs that are on it.

    Args:
        model: the model itself, for whoever wants to call its parts.
        reference: what was loaded, for images to say so.
    """

    def __init__(self, model: DiffusionModel, reference: ModelReference | None = None) -> None:
        self.model = model
        self._provenance = Provenance(reference or ModelReference("", clip_skip=model.clip_skip))
        self._attached: list[tuple[LoraTag, Path]] = []

    def generate(
        self,
        prompt: str | Iterable[str] | ImageRequest,
        *,
        negative: str | None = None,
        seed: int | None = None,
        seeds: Iterable[int] | None = None,
        count: int = 1,
        steps: int | None = None,
        cfg: float | None = None,
        cfg_rescale: float | None = None,
        sampler: str | None = None,
        schedule: str | None = None,
        eta: float | None = None,
        size: int | tuple[int, int] | None = None,
        clip_skip: int | None = None,
        init: AnyPath | None = None,
        denoise: float | None = None,
        inpaint: Inpaint | None = None,
        hires: Hires | float | None = None,
        loras: AnyPath | LoraLibrary | None = None,
        embeddings: AnyPath | EmbeddingLibrary | None = None,
        wildcards: AnyPath | Wildcards | None = None,
        batch: int | None = None,
        observer: Observer = ignore,
        controls: Controls | None = None,
    ) -> list[GeneratedImage]:
        """Images of a prompt, or of several.

        What is ``None`` is as :class:`.ImageRequest` has it; there is also what each thing means
        and its range.

        Args:
            prompt: in the web UI's language (``(word:1.2)``, ``<lora:NAME:0.8>`` …); or a request,
                of which the other arguments change what they name.
            seed: of the first image of each prompt, the others count on; a random one if ``None``.
            seeds: of all images of each prompt, in place of ``seed`` and ``count``.
            count: images of each prompt.
            size: width and height in px, or one number for a square.
            init: an image to begin with (img2img).
            hires: a second pass at a larger size; a number is how many times larger.
            loras: the folder, or the run, in which LoRAs of prompts are looked up; ``runs`` if it
                is there. A library keeps what it has read for the next call.
            embeddings: a folder of textual inversions, whose names in prompts become their vectors;
                those among the LoRAs if ``None``.
            wildcards: a folder of lists for ``__NAME__`` in prompts.
            batch: images at once; ``None`` chooses by their size.
            observer: gets a Progress after each step (in image steps) and Notices.
            controls: a stop request ends the work after the step in progress.

        Returns:
            All seeds of the first prompt, then of the next.

        Raises:
            PromptError: with everything that is wrong with any request.
            UserError: a folder is not there.
            LoraFileError: a LoRA is damaged or does not fit the model.
            Stopped: on a stop request.
        """
        changes = {
            "negative": negative,
            "steps": steps,
            "cfg": cfg,
            "cfg_rescale": cfg_rescale,
            "sampler": sampler,
            "schedule": schedule,
            "eta": eta,
            "width": size[0] if isinstance(size, tuple) else size,
            "height": size[1] if isinstance(size, tuple) else size,
            "clip_skip": clip_skip,
            "init": None if init is None else user_path(init),
            "denoise": denoise,
            "inpaint": inpaint,
            "hires": hires if isinstance(hires, Hires | None) else Hires(float(hires)),
        }
        if isinstance(prompt, ImageRequest):
            requests = [prompt]
            seed = prompt.seed if seed is None else seed
        else:
            requests = [
                ImageRequest(text) for text in ([prompt] if isinstance(prompt, str) else prompt)
            ]
        if seed is None:
            seed = secrets.randbelow(2**32)
        image_seeds = list(seeds) if seeds is not None else [seed + n for n in range(count)]
        set_changes = {name: value for name, value in changes.items() if value is not None}
        requests = [replace(r, seed=each, **set_changes) for r in requests for each in image_seeds]  # type: ignore[arg-type]
        sources = find_sources(loras, embeddings, wildcards, observer)
        tags = " ".join(
            format_tag(replace(tag, name=sources.library.add(path))) for tag, path in self._attached
        )
        images = generate(
            self.model,
            requests,
            loras=sources.library,
            embeddings=sources.embeddings.carrying([path for _, path in self._attached]),
            wildcards=sources.wildcards,
            batch=batch,
            describe=self._provenance.describer(sources.library, tags),
            observer=observer,
            controls=controls,
        )
        return sorted(images, key=lambda image: image.index)

    @contextlib.contextmanager
    def lora(
        self,
        path: AnyPath,
        weight: float = 1.0,
        *,
        unet: float | None = None,
        text_encoder: float | None = None,
        blocks: str | None = None,
    ) -> Iterator[AdapterNetwork]:
        """The model with a LoRA on it; exactly as before at the block's end. Several nest.

        Args:
            path: of the LoRA; any of its names and types that lorasmith reads.
            weight: of the whole, 1 as it was trained.
            unet, text_encoder: of a part, in its place.
            blocks: weights by block, as ``lbw=`` in prompts has them: ``"MID"``, ``"1,0,…"``.

        Raises:
            LoraFileError: it is not there, damaged, or belongs to another family of models.
            UserError: the block weights cannot be read.
        """
        file = user_path(path)
        tag = LoraTag(
            file.stem,
            weight if unet is None else unet,
            weight if text_encoder is None else text_encoder,
            block_weights=blocks,
        )
        try:
            _ = tag.blocks
        except ValueError as error:
            raise UserError.of("blocks", str(error)) from None
        tensors = load_lora(file).tensors
        network = AdapterNetwork.load(tensors, self.model.adapter_roots(), where=str(file))
        set_strengths(self.model, network, tag)
        self._attached.append((tag, file))
        try:
            with network.attached():
                yield network
        finally:
            self._attached.remove((tag, file))


def load_model(
    model: AnyPath | ModelReference,
    *,
    device: str = "auto",
    precision: str = "auto",
    vae: AnyPath | None = None,
    family: str = "auto",
    prediction: str = "auto",
    zero_terminal_snr: bool | Literal["auto"] = "auto",
    clip_skip: int = 1,
) -> Pipeline:
    """Load a base model to generate with.

    Args:
        model: a checkpoint, a folder of diffusers', a hub id, or "demo": the small model inside the
            package; or a reference, which says what the keywords below say.
        device: "cpu", "cuda", "cuda:1" …; "auto" is a GPU where there is one.
        precision: "fp32", "fp16" or "bf16" of UNet and text encoder; "auto" is what the device is
            best at. The VAE works in fp32.
        vae: a VAE to use instead of the model's own.
        family, prediction, zero_terminal_snr: what the file does not say of itself; see
            :class:`.ModelReference`.
        clip_skip: the text encoder's N-th last layer, for requests that say none.

    Raises:
        CheckpointError: it is missing, damaged, unsafe, or no Stable Diffusion model.
        SettingsError: the device is not there, or lacks the precision.
    """
    reference = model
    if not isinstance(reference, ModelReference):
        reference = ModelReference(reference, vae, family, prediction, zero_terminal_snr, clip_skip)
    place = choose_device(device)
    weights = read_architecture(reference).denoiser_weights
    dtype = choose_precision(precision, place, weights).dtype
    return Pipeline(load_diffusion_model(reference, dtype=dtype, device=place), reference)
