"""What made an image, written into it and read back."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Thread

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lorasmith import __version__
from lorasmith.core.errors import PromptError
from lorasmith.core.files import write_bytes
from lorasmith.data.image_texts import CHUNK, generation_text
from lorasmith.data.images import DECODER_ERRORS, open_image
from lorasmith.formats.hashes import autov2, autov3, shorthash
from lorasmith.models.reference import ModelReference
from lorasmith.prompts.infotext import Infotext, format_infotext, parse_infotext
from lorasmith.prompts.lora_tags import format_tag, take_tags
from lorasmith.sampling.lora_library import LoraLibrary
from lorasmith.sampling.request import UPSCALERS, ImageRequest
from lorasmith.sampling.samplers import find_sampler

RESCALE = "CFG Rescale φ"  # as the web UI's extension of that name calls it
# Ours alone: the web UI has one denoising strength, and takes the model's prediction from a file.
HIRES_DENOISE = "Hires denoising strength"
PREDICTION = "Prediction"
NOISE_SCHEDULE, ZERO_SNR = "Noise Schedule", "Zero Terminal SNR"  # the web UI's
_MODEL_FILES = (".safetensors", ".ckpt")
# The text chunks of other programs, whose images say something, but not this.
_OTHERS = {
    "workflow": "ComfyUI",
    "prompt": "ComfyUI",
    "invokeai_metadata": "InvokeAI",
    "sd-metadata": "InvokeAI",
}


def describe(
    request: ImageRequest,
    model: ModelReference,
    *,
    model_hash: str = "",
    lora_hashes: Mapping[str, str] | None = None,
    embedding_hashes: Mapping[str, str] | None = None,
) -> Infotext:
    """What made an image, under the web UI's names and in its order.

    Args:
        request: with the size that the image has, as in a GeneratedImage.
        model: the base model, with the user's word on it where there was one.
        model_hash: the first 10 hex digits of its file's SHA-256.
        lora_hashes: of the LoRAs in the prompt, by name; see :func:`.autov3`.
        embedding_hashes: of the embeddings that it and the negative name; see :func:`.shorthash`.
    """
    sampler = find_sampler(request.sampler, request.schedule)
    clip_skip = request.clip_skip or model.clip_skip
    settings = {
        "Steps": str(request.steps),
        "Sampler": sampler.title,
        "Schedule type": sampler.schedule_title,
        "CFG scale": f"{request.cfg:g}",
        "Seed": str(request.seed),
        "Size": f"{request.width}x{request.height}",
        "Model hash": model_hash,
        "Model": model_name(str(model.path)),
        "VAE": Path(model.vae).name if model.vae else "",
        "Denoising strength": _denoising(request),
        "Clip skip": str(clip_skip) if clip_skip != 1 else "",
        # The web UI draws its first noise on the GPU unless it is told this.
        "RNG": "CPU",
        "Eta DDIM": f"{request.eta:g}" if request.eta else "",
        RESCALE: f"{request.cfg_rescale:g}" if request.cfg_rescale else "",
        PREDICTION: model.prediction if model.prediction != "auto" else "",
        NOISE_SCHEDULE: ZERO_SNR if model.zero_terminal_snr is True else "",
        **_hires(request),
        **_inpaint(request),
        "Lora hashes": _listed(lora_hashes or {}),
        "TI hashes": _listed(embedding_hashes or {}),
        "Version": f"lorasmith {__version__}",
    }
    non_empty = {key: value for key, value in settings.items() if value}
    return Infotext(_with_strengths_by_name(request.prompt), request.negative, non_empty)


def _listed(hashes: Mapping[str, str]) -> str:
    """As the web UI has them: signs that part a name from its hash, or from the next, are left out
    of a name."""
    return ", ".join(f"{re.sub('[:,]', '', name)}: {digest}" for name, digest in hashes.items())


Describe = Callable[[ImageRequest, Mapping[str, Path]], Infotext]
"""Says how a finished image was made: by its request, and the embeddings that it names."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """What images say of the base model that made them, of their LoRAs and embeddings.

    Every file is hashed once; a model's takes seconds, so it is hashed in a thread of its own from
    the first :meth:`describer` on, and what writes the first image waits for it.
    """

    model: ModelReference
    _model_hash: list[Future[str]] = field(default_factory=list)
    _hashes: dict[Path, str] = field(default_factory=dict)

    def of(self, model: ModelReference) -> Provenance:
        """The same file, whose hash is known then, otherwise read; the others are hashed anew."""
        return Provenance(model, self._model_hash)

    def describer(self, library: LoraLibrary | None = None, attached: str = "") -> Describe:
        """What tells of a finished image, in any thread.

        Args:
            library: where the LoRAs of its prompt were found.
            attached: tags of LoRAs that are on the model besides, as one would write them.
        """
        if not self._model_hash:
            self._model_hash.append(_in_thread(lambda: model_hash(str(self.model.path))))
        return lambda request, embeddings: self._describe(request, embeddings, library, attached)

    def _describe(
        self,
        request: ImageRequest,
        embeddings: Mapping[str, Path],
        library: LoraLibrary | None,
        attached: str,
    ) -> Infotext:
        prompt = f"{request.prompt} {attached}".strip() if attached else request.prompt
        hashes = {}
        for tag in take_tags(prompt)[1]:
            assert library is not None, "LoRAs from nowhere"
            hashes[tag.name] = self._hash(library.find(tag.name), autov3)
        return describe(
            replace(request, prompt=prompt),
            self.model,
            model_hash=self._model_hash[0].result(),
            lora_hashes=hashes,
            embedding_hashes={
                name: self._hash(path, shorthash) for name, path in embeddings.items()
            },
        )

    def _hash(self, path: Path, hash_of: Callable[[Path], str]) -> str:
        if path not in self._hashes:
            self._hashes[path] = hash_of(path)
        return self._hashes[path]


def _in_thread(work: Callable[[], str]) -> Future[str]:
    """What ``work`` gives; a program that ends does not wait for it."""
    future: Future[str] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except OSError as error:
            future.set_exception(error)

    Thread(target=run, name="model-hash", daemon=True).start()
    return future


def model_name(source: str) -> str:
    """As web UIs call a base model: a file's name without its ending, a folder's or hub id's last
    part."""
    path = Path(source)
    return path.stem if path.suffix in _MODEL_FILES else path.name


def model_hash(source: str) -> str:
    """The first 10 hex digits of a file's SHA-256; empty for what is no single file.

    Raises:
        OSError: the file cannot be read.
    """
    path = Path(source)
    if path.suffix not in _MODEL_FILES or not path.is_file():
        return ""
    return autov2(path)


def _with_strengths_by_name(prompt: str) -> str:
    """The web UI takes the first of two strengths for the text encoder's, we for the UNet's."""
    for tag in take_tags(prompt)[1]:
        if tag.ambiguous:
            prompt = prompt.replace(tag.source, format_tag(replace(tag, ambiguous=False)))
    return prompt


def _denoising(request: ImageRequest) -> str:
    if request.init is not None:
        return f"{request.denoise:g}"
    return f"{request.hires.denoise:g}" if request.hires else ""


def _hires(request: ImageRequest) -> dict[str, str]:
    if request.hires is None:
        return {}
    return {
        HIRES_DENOISE: f"{request.hires.denoise:g}" if request.init is not None else "",
        "Hires upscale": f"{request.hires.scale:g}",
        "Hires steps": str(request.hires.steps or ""),
        "Hires upscaler": UPSCALERS[request.hires.upscaler].title,
    }


def _inpaint(request: ImageRequest) -> dict[str, str]:
    if request.inpaint is None:
        return {}
    masked = {
        "Mask blur": str(request.inpaint.blur),
        "Masked content": "latent noise" if request.inpaint.content == "noise" else "original",
    }
    if request.inpaint.padding is not None:
        masked["Inpaint area"] = "Only masked"
        masked["Masked area padding"] = str(request.inpaint.padding)
    return masked


def encode_png(image: Image.Image, info: Infotext) -> bytes:
    """The bytes of a PNG that carries ``info``."""
    chunks = PngInfo()
    # Pillow writes tEXt where Latin-1 suffices and iTXt (UTF-8) where not; web UIs read both.
    chunks.add_text(CHUNK, format_infotext(info))
    data = io.BytesIO()
    image.save(data, format="PNG", pnginfo=chunks)
    return data.getvalue()


def save_image(path: Path, image: Image.Image, info: Infotext) -> None:
    """Write a PNG that carries ``info``.

    Raises:
        RunError: the disk is full or the folder cannot be written to.
    """
    write_bytes(path, encode_png(image, info))


def read_infotext(path: Path) -> Infotext | None:
    """What an image says about how it was made; ``None`` when it says nothing of the kind.

    Raises:
        OSError: it is no image.
    """
    with open_image(path) as image:
        text = generation_text(image)
    return parse_infotext(text) if text.strip() else None


def require_infotext(path: Path) -> Infotext:
    """What an image says about how it was made.

    Raises:
        PromptError: it is no image, or says nothing of the kind; names the program whose
            image it is, if that can be told.
    """
    try:
        info = read_infotext(path)
        if info is not None:
            return info
        with open_image(path) as image:
            keys = set(image.info)
            software = str(image.info.get("Software", ""))
    except DECODER_ERRORS as error:
        what = "cannot be read" if path.is_file() else "is not a file"
        raise PromptError.of(path, what, "give a picture that a web UI made") from error
    program = next((name for key, name in _OTHERS.items() if key in keys), software)
    if not program:
        what = "it does not say how it was made"
        hint = "editors and chat programs strip that off; find the original"
        raise PromptError.of(path, what, hint)
    what = f"it comes from {program}, whose notes say other things than a prompt and settings"
    raise PromptError.of(path, what, "copy the prompt by hand, or save it with a web UI's metadata")
