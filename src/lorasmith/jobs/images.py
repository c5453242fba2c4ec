"""What generating images one by one and in grids has in common: options, folders, model, device."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from lorasmith.config.values import UserPath
from lorasmith.core.errors import Problem, UserError, collect_problems
from lorasmith.core.events import Notice, Observer
from lorasmith.core.text import parse_size
from lorasmith.jobs.request import JobRequest, option

if TYPE_CHECKING:
    import torch

    from lorasmith.models.reference import ModelReference
    from lorasmith.sampling.request import Hires, ImageRequest
    from lorasmith.sampling.sources import Sources

_PASS = ("denoise", "steps", "upscaler")
# Settings of samples that a base's file may say, by their names in an image's request.
_SUITED = {"sample.negative": "negative", "sample.steps": "steps", "sample.cfg": "cfg",
           "sample.sampler": "sampler"}  # fmt: skip


def suited_to(model: ModelReference) -> dict[str, Any]:
    """What a model's file says of how it is drawn with best, by fields of an
    :class:`.ImageRequest`; training's samples are drawn so, too. Nothing of one that cannot be
    read, which :func:`choose_place` says."""
    from lorasmith.models.open import open_unchanged
    from lorasmith.training.setup.base_defaults import read_entry

    try:
        checkpoint = open_unchanged(model)
    except UserError:
        return {}
    said = read_entry(checkpoint.defaults, checkpoint.source)[0]
    return {field: said[path] for path, field in _SUITED.items() if path in said}


class ImageJob(JobRequest):
    """Options of everything that generates images. Those that stand in an image's request have
    the names that they have there."""

    other_names: ClassVar = {
        "loras": "lora_dir",
        "embeddings": "embedding_dir",
        "wildcards": "wildcard_dir",
        "width": "size",
        "height": "size",
        "inpaint": "mask",
        "inpaint.mask": "mask",
        "inpaint.blur": "mask_blur",
        "inpaint.padding": "mask_padding",
        "hires.scale": "hires",
        "hires.denoise": "hires_denoise",
        "hires.steps": "hires_steps",
        "hires.upscaler": "hires_upscaler",
        "performance.device": "device",
        "train.precision": "precision",
    }

    model: str = option("demo", "Base model", metavar="demo|PATH|HUB_ID")
    vae: str | None = option(None, "A VAE to use instead of the model's own", metavar="PATH")
    lora_dir: UserPath | None = option(
        None, "Folder with LoRAs, searched with its sub-folders", metavar="DIR", default_text="runs"
    )
    embedding_dir: UserPath | None = option(
        None,
        "Folder with textual inversion embeddings",
        metavar="DIR",
        default_text="that of the LoRAs",
    )
    wildcard_dir: UserPath | None = option(
        None, "Folder with the lists that __NAME__ in prompts draws from", metavar="DIR"
    )
    negative: str = option("", "What the picture should not be", metavar="TEXT")
    steps: int = option(20, "Sampling steps", metavar="N")
    cfg: float = option(
        7.0,
        "Classifier-free guidance: how closely to follow the prompt. 1 is none",
        metavar="X",
        default_text="7, or what the model's file says",
    )
    sampler: str = option(
        "ddim", 'As the web UI calls it: "Euler a", "DPM++ 2M Karras"', metavar="NAME"
    )
    schedule: str = option(
        "automatic",
        "Spacing of the steps: uniform, karras, exponential, sgm_uniform, simple or beta",
        metavar="NAME",
    )
    size: str | None = option(
        None,
        "Size in pixels, as 512x768",
        metavar="WxH",
        default_text="the model's own, or that of --init",
    )
    clip_skip: int = option(1, "Use the N-th last layer of the text encoder", metavar="N")
    init: UserPath | None = option(None, "Begin with this picture (img2img)", metavar="PICTURE")
    denoise: float = option(0.6, "How much of it is drawn anew, 0 to 1", metavar="X")
    hires: float | None = option(None, "Draw a second time, so much larger", metavar="SCALE")
    hires_denoise: float = option(0.5, "How much the second time draws anew", metavar="X")
    hires_steps: int = option(0, "Steps of the second time; 0 is as many", metavar="N")
    hires_upscaler: str = option(
        "latent",
        "latent, latent_antialiased, latent_bicubic, latent_nearest, lanczos or nearest",
        metavar="NAME",
    )
    prediction: Literal["auto", "epsilon", "v"] = option(
        "auto", "What the model predicts: the noise (epsilon) or the velocity (v)"
    )
    zero_terminal_snr: bool = option(
        False, "Begin at nothing but noise, for models that were trained so and do not say it"
    )
    precision: Literal["auto", "fp32", "fp16", "bf16"] = option(
        "auto", "Of the UNet and the text encoder; the VAE works in fp32"
    )
    device: str = option("auto", "Where to compute", metavar="auto|cpu|cuda|…")

    def changes(self, names: Iterable[str]) -> dict[str, Any]:
        """What the user says of an :class:`.ImageRequest`, by its fields' names.

        Args:
            names: the fields that are options of the same name.
        """
        values = {name: getattr(self, name) for name in names if self.given(name)}
        if "sampler" in values:
            # Another sampler has another usual schedule.
            values.setdefault("schedule", "automatic")
        return values

    def sides(self) -> dict[str, int]:
        """Width and height, where a size is given.

        Raises:
            UserError: it cannot be read.
        """
        if self.size is None:
            return {}
        try:
            width, height = parse_size(self.size)
        except ValueError as error:
            raise UserError.of("size", str(error), "write it as 512x768") from None
        return {"width": width, "height": height}

    def second_pass(self, known: Hires | None) -> Hires | None:
        """
        Args:
            known: what else asks for one.

        Raises:
            UserError: something is said of a second pass that there is not.
        """
        from lorasmith.sampling.request import Hires

        given = [name for name in _PASS if self.given(f"hires_{name}")]
        if self.hires is None and not given:
            return known
        if self.hires is None and known is None:
            raise UserError(
                Problem(f"hires_{name}", "does nothing without --hires") for name in given
            )
        scale = self.hires if self.hires is not None else known.scale if known else 1.0
        if scale == 1.0:
            return None
        values: dict[str, Any] = {name: getattr(self, f"hires_{name}") for name in given}
        return replace(known or Hires(), scale=scale, **values)

    def sources(self, observer: Observer) -> Sources:
        """LoRAs, embeddings and wildcards.

        Raises:
            UserError: a folder that was given is none.
        """
        from lorasmith.sampling.sources import find_sources

        return find_sources(self.lora_dir, self.embedding_dir, self.wildcard_dir, observer)


@dataclass(frozen=True, slots=True)
class Place:
    """Where images are computed, and how precisely for each model by its path."""

    device: torch.device
    dtypes: dict[str, torch.dtype]


def say_unused(requests: Iterable[ImageRequest], sources: Sources, observer: Observer) -> None:
    """Tell of words in prompts that an embedding has which was not looked for."""
    texts = [text for each in requests for text in (each.prompt, each.negative)]
    for note in sources.unused(texts):
        observer(Notice("info", note))


def choose_place(
    models: Iterable[tuple[ModelReference, Iterable[int]]], device: str, precision: str
) -> Place:
    """Where and in which precision to compute, from the models' headers.

    Args:
        models: each with the values of clip skip that are used on it.

    Raises:
        UserError: a model, VAE, layer or device is not there, or the device lacks the precision.
    """
    from lorasmith.models.families.table import check_clip_skip
    from lorasmith.models.open import open_unchanged
    from lorasmith.tensors.device import choose_device, choose_precision

    problems: list[Problem] = []
    chosen = collect_problems(problems, lambda: choose_device(device))
    dtypes: dict[str, torch.dtype] = {}
    for model, clip_skips in models:
        checkpoint = collect_problems(problems, partial(open_unchanged, model))
        if checkpoint is None:
            continue
        architecture = checkpoint.architecture
        for skip in clip_skips:
            check = partial(check_clip_skip, architecture, skip, "clip_skip")
            collect_problems(problems, check)
        if chosen is None:
            continue
        weights = architecture.denoiser_weights
        fitting = collect_problems(problems, partial(choose_precision, precision, chosen, weights))
        if fitting is not None:
            dtypes[str(model.path)] = fitting.dtype
    if problems or chosen is None:
        raise UserError(problems)
    return Place(chosen, dtypes)
