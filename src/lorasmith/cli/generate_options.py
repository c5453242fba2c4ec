"""The options of ``lorasmith generate``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

# Request fields and settings by the option that sets them here, for messages.
NAMES = {
    "prompt": "PROMPT",
    "negative": "--negative",
    "steps": "--steps",
    "cfg": "--cfg",
    "cfg_rescale": "--cfg-rescale",
    "seed": "--seed",
    "sampler": "--sampler",
    "schedule": "--schedule",
    "eta": "--eta",
    "width": "--size",
    "height": "--size",
    "init": "--init",
    "denoise": "--denoise",
    "inpaint": "--mask",
    "inpaint.mask": "--mask",
    "inpaint.blur": "--mask-blur",
    "inpaint.padding": "--mask-padding",
    "hires": "--hires",
    "hires.scale": "--hires",
    "hires.denoise": "--hires-denoise",
    "hires.steps": "--hires-steps",
    "hires.upscaler": "--hires-upscaler",
    "performance.device": "--device",
    "train.precision": "--precision",
}


@dataclass(frozen=True, slots=True)
class Options:
    """As given, or their defaults.

    Args:
        given: names of those that stand on the command line.
    """

    given: frozenset[str]
    model: str
    model_dir: Path | None
    vae: str | None
    lora_dir: Path | None
    embedding_dir: Path | None
    wildcard_dir: Path | None
    negative: str
    seed: int | None
    count: int
    steps: int
    cfg: float
    cfg_rescale: float
    sampler: str
    schedule: str
    eta: float
    size: str | None
    batch: int | None
    clip_skip: int
    init: Path | None
    denoise: float
    mask: Path | None
    masked_content: str
    mask_blur: int
    mask_padding: int | None
    hires: float | None
    hires_denoise: float
    hires_steps: int
    hires_upscaler: str
    from_png: Path | None
    captions: Path | None
    without: tuple[str, ...]
    prompts: Path | None
    out: Path
    prediction: str
    zero_terminal_snr: bool
    precision: str
    device: str


def _path(name: str, metavar: str, text: str, **more: Any) -> Any:
    return click.option(name, metavar=metavar, type=click.Path(path_type=Path), help=text, **more)


def _value(name: str, default: Any, metavar: str, text: str, **more: Any) -> Any:
    return click.option(
        name, default=default, show_default=True, metavar=metavar, help=text, **more
    )


_MODEL = [
    _value("--model", "demo", "demo|PATH|HUB_ID", "Base model."),
    _path("--model-dir", "DIR", "Folder where --from-png looks for the picture's model."),
    click.option("--vae", metavar="PATH", help="A VAE to use instead of the model's own."),
    _path(
        "--lora-dir",
        "DIR",
        "Folder with LoRAs, searched with its sub-folders.  [default: runs]",
    ),
    _path("--embedding-dir", "DIR", "Folder with textual inversion embeddings."),
    _path("--wildcard-dir", "DIR", "Folder with the lists that __NAME__ in prompts draws from."),
]
_IMAGE = [
    _value("--negative", "", "TEXT", "What the picture should not be."),
    click.option(
        "--seed", type=int, metavar="N", help="Seed of the first picture.  [default: a random one]"
    ),
    _value("--count", 1, "N", "Number of pictures, with seeds N, N+1, …", type=int),
    _value("--steps", 20, "N", "Sampling steps.", type=int),
    _value(
        "--cfg", 7.0, "X", "Classifier-free guidance: how closely to follow the prompt. 1 is none.",
        type=float,
    ),
    _value(
        "--cfg-rescale", 0.0, "X", "Bring strong guidance back to the contrast without it, 0 to 1.",
        type=float,
    ),
    _value("--sampler", "ddim", "NAME", 'As the web UI calls it: "Euler a", "DPM++ 2M Karras".'),
    _value(
        "--schedule", "automatic", "NAME",
        "Spacing of the steps: uniform, karras, exponential, sgm_uniform, simple or beta.",
    ),
    _value("--eta", 0.0, "X", "Share of noise in each of DDIM's steps, 0 to 1.", type=float),
    click.option(
        "--size",
        metavar="WxH",
        help="Size in pixels, as 512x768.  [default: the model's own, or that of --init]",
    ),
    click.option("--batch", type=int, metavar="N", help="Pictures at once.  [default: by size]"),
    _value("--clip-skip", 1, "N", "Use the N-th last layer of the text encoder.", type=int),
]  # fmt: skip
_FROM_IMAGE = [
    _path("--init", "PICTURE", "Begin with this picture (img2img)."),
    _value("--denoise", 0.6, "X", "How much of it is drawn anew, 0 to 1.", type=float),
    _path("--mask", "PICTURE", "Draw only where this is white (inpaint)."),
    click.option(
        "--masked-content", type=click.Choice(["original", "noise"]), default="original",
        show_default=True, help="What stands under the mask at first.",
    ),
    _value("--mask-blur", 4, "PX", "How far the seam is softened.", type=int),
    click.option(
        "--mask-padding", type=int, metavar="PX",
        help="Draw the mask's surroundings alone, this far around it, at full size.",
    ),
    click.option(
        "--hires", type=float, metavar="SCALE", help="Draw a second time, so much larger.",
    ),
    _value("--hires-denoise", 0.5, "X", "How much the second time draws anew.", type=float),
    _value("--hires-steps", 0, "N", "Steps of the second time; 0 is as many.", type=int),
    _value(
        "--hires-upscaler", "latent", "NAME",
        "latent, latent_antialiased, latent_bicubic, latent_nearest, lanczos or nearest.",
    ),
]  # fmt: skip
_SOURCES = [
    _path("--from-png", "PICTURE", "Take everything from what this picture says made it."),
    _path(
        "--captions", "DIR",
        "Draw the captions of this dataset, with a caption beside each picture.",
    ),
    click.option(
        "--without", multiple=True, metavar="WORD",
        help="Take this word out of the captions; can be given several times.",
    ),
    _path("--prompts", "FILE", "Draw the prompts of this file, one a line."),
    _path("--out", "DIR", "Folder for the pictures.", default=Path("outputs"), show_default=True),
]  # fmt: skip
_MACHINE = [
    click.option(
        "--prediction",
        type=click.Choice(["auto", "epsilon", "v"]),
        default="auto",
        show_default=True,
        help="What the model predicts: the noise (epsilon) or the velocity (v).",
    ),
    click.option(
        "--zero-terminal-snr",
        is_flag=True,
        help="Begin at nothing but noise, for models that were trained so and do not say it.",
    ),
    click.option(
        "--precision",
        type=click.Choice(["auto", "fp32", "fp16", "bf16"]),
        default="auto",
        show_default=True,
        help="Of the UNet and the text encoder; the VAE works in fp32.",
    ),
    _value("--device", "auto", "auto|cpu|cuda|…", "Where to compute."),
]


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with all of them, in this order."""
    for option in reversed([*_MODEL, *_IMAGE, *_FROM_IMAGE, *_SOURCES, *_MACHINE]):
        command = option(command)
    return command


def read_options(context: click.Context, values: dict[str, Any]) -> Options:
    """The values of a call, and which of them the user gave."""
    default = click.core.ParameterSource.DEFAULT
    given = frozenset(name for name in values if context.get_parameter_source(name) is not default)
    return Options(given=given, **values)
