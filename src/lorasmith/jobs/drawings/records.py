"""What a drawing is asked with, and what is told of it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from lorasmith.config.fields import settings_of
from lorasmith.core.errors import UserError
from lorasmith.formats.block_weights import BLOCKS, PRESETS, format_weights, parse
from lorasmith.jobs.generate import GenerateRequest
from lorasmith.jobs.request import command_line
from lorasmith.jobs.runs.records import ProblemRecord
from lorasmith.prompts.lora_tags import LoraTag, format_tag
from lorasmith.sampling.request import LIMITS, SAMPLER_TITLES, SCHEDULE_TITLES, UPSCALERS

State = Literal["waiting", "drawing", "done", "failed", "cancelled"]


class LoraUse(BaseModel):
    """A LoRA of a drawing, which becomes a tag of its prompt.

    Args:
        name: a file's name without its ending, or its path below the folder of LoRAs.
        strength: on the UNet, and without the next on the text encoder.
        text_encoder: on the text encoder.
        blocks: weights by block (BASE, IN00 to OUT11); those that are not named have 1.
    """

    name: str
    strength: float = 1.0
    text_encoder: float | None = None
    blocks: dict[str, float] | None = None

    def tag(self) -> str:
        """
        Raises:
            UserError: a tag cannot say this.
        """
        if any(character in self.name for character in "<>:\n"):
            what = "has a sign in its name that ends a tag: one of < > :"
            raise UserError.of(f'LoRA "{self.name}"', what, "rename the file")
        unknown = [block for block in self.blocks or () if block not in BLOCKS]
        if unknown:
            what = f"{unknown[0]} is no block"
            raise UserError.of(f'LoRA "{self.name}"', what, "they are BASE, IN00 … OUT11")
        unet = self.strength
        weights = dict.fromkeys(BLOCKS, 1.0) | (self.blocks or {})
        is_even = all(weight == 1.0 for weight in weights.values())
        return format_tag(
            LoraTag(
                self.name,
                unet,
                unet if self.text_encoder is None else self.text_encoder,
                block_weights=None if is_even else format_weights(weights),
            )
        )


class NewDrawing(BaseModel):
    """What `lorasmith generate` is asked, by the names of its options; what is null is left to it.

    Args:
        project: the folder whose LoRAs are used and whose ``drawings`` it joins; "" for the
            workspace.
        trial: it is to be looked at once: it is in no list, and its pictures are kept apart, the
            last ones of all trials.
        loras: beside those that the prompt's own tags name.
    """

    project: str = ""
    trial: bool = False
    prompt: str = ""
    loras: list[LoraUse] = []
    negative: str | None = None
    seed: int | None = None
    count: int | None = None
    steps: int | None = None
    cfg: float | None = None
    cfg_rescale: float | None = None
    sampler: str | None = None
    schedule: str | None = None
    eta: float | None = None
    size: str | None = None
    clip_skip: int | None = None
    model: str | None = None
    vae: str | None = None
    prediction: Literal["auto", "epsilon", "v"] | None = None
    zero_terminal_snr: bool | None = None
    lora_dir: str | None = None
    embedding_dir: str | None = None
    wildcard_dir: str | None = None
    init: str | None = None
    denoise: float | None = None
    mask: str | None = None
    masked_content: Literal["original", "noise"] | None = None
    mask_blur: int | None = None
    mask_padding: int | None = None
    hires: float | None = None
    hires_denoise: float | None = None
    hires_steps: int | None = None
    hires_upscaler: str | None = None
    batch: int | None = None
    precision: Literal["auto", "fp32", "fp16", "bf16"] | None = None
    device: str | None = None

    def values(self) -> dict[str, Any]:
        """Fields of a :class:`.GenerateRequest`.

        Raises:
            UserError: a LoRA cannot be named in a prompt.
        """
        values = self.model_dump(exclude_none=True, exclude={"project", "trial", "loras"})
        tags = [lora.tag() for lora in self.loras if lora.strength or lora.text_encoder]
        values["prompt"] = " ".join([self.prompt, *tags]).strip()
        return values


class PreviewRecord(BaseModel):
    """A small picture of what the one at ``place`` will be; its ``version`` changes with it."""

    path: str
    place: int
    version: str


class DrawingRecord(BaseModel):
    """A drawing that was asked for.

    Args:
        why: it waits, or has ended other than well.
        what, done, total: how far it is: "loading the model", "drawing pictures".
        pictures: the files that are there.
        began, ended: Unix time, s.
        first: seconds from when it was asked for to the end of its first step.
        notes: what there is to know, such as the seed that was chosen.
    """

    id: str
    state: State = "waiting"
    why: str = ""
    drawing: NewDrawing
    command_line: str
    created: float
    began: float | None = None
    ended: float | None = None
    first: float | None = None
    what: str = ""
    done: int = 0
    total: int = 0
    previews: list[PreviewRecord] = Field(default_factory=list)
    pictures: list[str] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    problems: list[ProblemRecord] = Field(default_factory=list)

    @property
    def has_ended(self) -> bool:
        return self.state in ("done", "failed", "cancelled")


# What a model's file may say otherwise than the default.
_MAY_DIFFER = ("negative", "steps", "cfg", "sampler")


def drawing_line(request: GenerateRequest) -> str:
    """What draws the same in a shell; a page says everything, and this what is not so by itself."""
    usual = {item.name for item in settings_of(GenerateRequest)
             if getattr(request, item.name) == item.default}  # fmt: skip
    return command_line(request, usual.difference(_MAY_DIFFER))


class PictureSettings(BaseModel):
    """What a picture says made it.

    Args:
        drawing: what would draw it again, with LoRAs by the names that they have here.
        model, model_hash, vae: as it has them; "" where it says nothing.
        missing: LoRAs that are not here.
        notes: what cannot be followed.
    """

    drawing: NewDrawing
    model: str
    model_hash: str
    vae: str
    missing: list[str]
    notes: list[str]


class DrawingOptions(BaseModel):
    """What a form for drawings offers.

    Args:
        samplers, schedules, upscalers: titles, by the names that a request has.
        blocks: names of the UNet's blocks, and BASE, the text encoder.
        block_presets: weights by block, by the names that people know.
        defaults: of `lorasmith generate`, by option.
        limits: lowest and highest, by option.
    """

    samplers: dict[str, str]
    schedules: dict[str, str]
    upscalers: dict[str, str]
    blocks: list[str]
    block_presets: dict[str, dict[str, float]]
    defaults: dict[str, str | float | bool | None]
    limits: dict[str, tuple[float, float]]


def drawing_options() -> DrawingOptions:
    presets = {name: parse(text) for name, text in PRESETS.items() if "X" not in text}
    fields = NewDrawing.model_fields
    defaults = {
        item.name: item.default
        for item in settings_of(GenerateRequest)
        if item.name in fields and isinstance(item.default, str | float | int | None)
    }
    names = {"hires.scale": "hires", "hires.denoise": "hires_denoise", "hires.steps": "hires_steps",
             "inpaint.blur": "mask_blur", "inpaint.padding": "mask_padding"}  # fmt: skip
    return DrawingOptions(
        samplers=SAMPLER_TITLES,
        schedules=SCHEDULE_TITLES,
        upscalers={name: upscaler.title for name, upscaler in UPSCALERS.items()},
        blocks=list(BLOCKS),
        block_presets=presets,
        defaults=defaults,
        limits={names.get(name, name): limits for name, limits in LIMITS.items()},
    )
