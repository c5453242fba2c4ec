"""One image to be made, described wholly. Torch-free."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from lorasmith.core.errors import Problem
from lorasmith.core.rng import MAX_SEED
from lorasmith.prompts.wildcards import Wildcards

MAX_SIZE = 4096
MAX_STEPS = 500

SAMPLER_TITLES: dict[str, str] = {
    "ddim": "DDIM",
    "plms": "PLMS",
    "euler": "Euler",
    "euler_a": "Euler a",
    "lms": "LMS",
    "heun": "Heun",
    "dpm2": "DPM2",
    "dpm2_a": "DPM2 a",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_2m_sde_heun": "DPM++ 2M SDE Heun",
    "dpmpp_3m_sde": "DPM++ 3M SDE",
    "dpmpp_2s_a": "DPM++ 2S a",
    "dpmpp_sde": "DPM++ SDE",
    "unipc": "UniPC",
    "deis": "DEIS",
    "lcm": "LCM",
}
"""As in the web UIs and in a picture's parameters."""

AUTOMATIC = "automatic"
SCHEDULE_TITLES: dict[str, str] = {
    AUTOMATIC: "Automatic",
    "uniform": "Uniform",
    "karras": "Karras",
    "exponential": "Exponential",
    "sgm_uniform": "SGM Uniform",
    "simple": "Simple",
    "beta": "Beta",
}
"""Of the spacings of a sampler's steps."""

MaskedContent = Literal["original", "noise"]


@dataclass(frozen=True, slots=True)
class Inpaint:
    """What of an image is to be drawn again.

    Args:
        mask: an image whose white is drawn again and whose black is kept.
        content: what stands there at first, the "original" or "noise".
        blur: how far the seam is softened, px of the image.
        padding: draw the mask's surroundings alone, this many px around it, at the full size of
            the request; ``None`` draws the whole image.
    """

    mask: Path
    content: MaskedContent = "original"
    blur: int = 4
    padding: int | None = None


@dataclass(frozen=True, slots=True)
class Hires:
    """A second pass at a larger size ("hires fix").

    Args:
        scale: times the first pass' size, 1 to 8.
        denoise: how much is drawn anew, 0 to 1.
        steps: steps of the second pass, all of which are taken; 0 is as many as in the first.
        upscaler: a name in :data:`UPSCALERS`.
    """

    scale: float = 2.0
    denoise: float = 0.5
    steps: int = 0
    upscaler: str = "latent"


@dataclass(frozen=True, slots=True)
class Upscaler:
    """How an image is enlarged between two passes.

    Args:
        title: as in the web UIs and in an image's parameters.
        latent: on latents; else the image is decoded, enlarged and encoded again.
        method: torch's word for it on latents, Pillow's on images.
    """

    name: str
    title: str
    latent: bool
    method: str
    antialias: bool = False


UPSCALERS = {
    upscaler.name: upscaler
    for upscaler in (
        Upscaler("latent", "Latent", True, "bilinear"),
        Upscaler("latent_antialiased", "Latent (antialiased)", True, "bilinear", True),
        Upscaler("latent_bicubic", "Latent (bicubic)", True, "bicubic"),
        Upscaler("latent_nearest", "Latent (nearest)", True, "nearest"),
        Upscaler("lanczos", "Lanczos", False, "LANCZOS"),
        Upscaler("nearest", "Nearest", False, "NEAREST"),
    )
}


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """One image to be made.

    Args:
        prompt, negative: in the language of :mod:`lorasmith.prompts.parse`.
        seed: 0 to 2**63 - 1. The image is a function of the request alone. The first noise is
            that of diffusers and ComfyUI with a CPU generator of this seed.
        steps: of the sampler, 1 to 500; some call the denoiser twice in each.
        cfg: classifier-free guidance; 1 is none, and then the negative prompt has no effect.
        sampler: a name in :data:`lorasmith.sampling.samplers.SAMPLERS`, or a web UI's.
        width, height: in pixels; ``None`` is the model's own, or that of ``init``. Rounded to
            what the model needs.
        schedule: a name in :data:`lorasmith.sampling.samplers.SCHEDULES`; "automatic" is the
            sampler's usual one.
        cfg_rescale: phi of Lin et al. 2023, 0 (off) to 1: how far the guided prediction is
            brought back to the spread of the unguided one.
        clip_skip: the text encoder's N-th last layer; ``None`` is the model's own setting.
        eta: share of noise in each of DDIM's steps, 0 to 1.
        init: an image to begin with (img2img).
        denoise: how much of ``init`` is drawn anew, 0 to 1: the share of ``steps`` that is taken.
        inpaint: the part of ``init`` to be drawn; the rest stays.
        hires: a second pass at a larger size.
    """

    prompt: str
    negative: str = ""
    seed: int = 0
    steps: int = 20
    cfg: float = 7.0
    sampler: str = "ddim"
    width: int | None = None
    height: int | None = None
    schedule: str = "automatic"
    cfg_rescale: float = 0.0
    clip_skip: int | None = None
    eta: float = 0.0
    init: Path | None = None
    denoise: float = 0.6
    inpaint: Inpaint | None = None
    hires: Hires | None = None


LIMITS: dict[str, tuple[float, float]] = {
    "steps": (1, MAX_STEPS),
    "cfg": (0.0, 100.0),
    "cfg_rescale": (0.0, 1.0),
    "clip_skip": (1, 99),
    "eta": (0.0, 1.0),
    "denoise": (0.0, 1.0),
    "width": (1, MAX_SIZE),
    "height": (1, MAX_SIZE),
    "seed": (0, MAX_SEED),
    "inpaint.blur": (0, 256),
    "inpaint.padding": (0, MAX_SIZE),
    "hires.scale": (1.0, 8.0),
    "hires.denoise": (0.0, 1.0),
    "hires.steps": (0, MAX_STEPS),
}


def _plain(limit: float | None) -> str:
    return str(limit) if isinstance(limit, int) else f"{limit:g}"


def check_values(request: ImageRequest) -> Iterator[Problem]:
    """What of a request's numbers and files is wrong by itself."""
    parts: dict[str, Any] = {"": request, "inpaint.": request.inpaint, "hires.": request.hires}
    for prefix, part in parts.items():
        for each in fields(part) if part is not None else ():
            name, value = prefix + each.name, getattr(part, each.name)
            low, high = LIMITS.get(name, (None, None))
            if value is not None and low is not None and not low <= value <= high:
                what, hint = f"{value} is out of range", f"choose {_plain(low)} to {_plain(high)}"
                yield Problem(name, what, hint)
    yield from _check_files(request)
    if request.hires is not None and request.hires.upscaler not in UPSCALERS:
        what = f'unknown upscaler "{request.hires.upscaler}"'
        yield Problem("hires.upscaler", what, f"known are {', '.join(UPSCALERS)}")
    if request.inpaint is not None and request.hires is not None:
        what = "a second pass would draw the kept part anew"
        yield Problem("hires", what, "inpaint the finished large picture")


def _check_files(request: ImageRequest) -> Iterator[Problem]:
    if request.inpaint is not None:
        if request.init is None:
            yield Problem("inpaint", "there is no picture to be masked", "give one with init")
        if not request.inpaint.mask.is_file():
            yield Problem("inpaint.mask", f"{request.inpaint.mask} is not a file")
    if request.init is not None and not request.init.is_file():
        yield Problem("init", f"{request.init} is not a file", "give a picture")


def with_wildcards(request: ImageRequest, wildcards: Wildcards) -> ImageRequest:
    """The request with what its prompts leave to chance drawn by its seed.

    Raises:
        PromptError: wildcards name each other without an end.
    """
    prompt = wildcards.expand(request.prompt, request.seed)
    negative = wildcards.expand(request.negative, request.seed, "negative")
    return replace(request, prompt=prompt, negative=negative)
