"""Settings of what is trained on: model, data, captions, buckets."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from PIL import ImageColor
from pydantic import BeforeValidator, field_validator, model_validator

from lorasmith.config.fields import NONE, Section, setting
from lorasmith.config.sections.augment import AugmentSettings
from lorasmith.config.values import AUTO, Every, Extension, Size, UserPath
from lorasmith.core.files import user_path


def _trigger(value: Any) -> Any:
    """No trigger is the text ""."""
    text = value.strip() if isinstance(value, str) else value
    if text is None or (isinstance(text, str) and text.lower() == NONE):
        return ""
    return AUTO if isinstance(text, str) and text.lower() == AUTO else text


TriggerText = Annotated[str, BeforeValidator(_trigger)]


class ModelSettings(Section):
    """The base model that the LoRA is trained on."""

    shorthand: ClassVar[str | None] = "path"

    path: str = setting(
        "demo",
        "base model: demo (the small model inside the package), a .safetensors or .ckpt file, a "
        "diffusers folder, or a hub id such as runwayml/stable-diffusion-v1-5",
        why="works at once, with nothing to download",
    )
    vae: UserPath | None = setting(
        None, "another VAE file to use in place of the model's own", why="models bring their own"
    )
    family: Literal["auto", "sd1", "sd2", "sdxl"] = setting(
        "auto", "architecture of the model", why="it is read off the shapes of the weights"
    )
    prediction: Literal["auto", "epsilon", "v"] = setting(
        "auto",
        "what the model predicts: the noise (epsilon) or the velocity (v)",
        why="the model's family, or what the file says of itself",
    )
    clip_skip: int = setting(
        1,
        "which layer of the text encoder is used, counted from its end: 1 is the last, "
        "2 what anime models are trained with",
        why="right for realistic models and for the demo model",
        unit="layers",
        ge=1,
        le=12,
    )
    max_tokens: Literal[75, 150, 225] = setting(
        75,
        "longest caption, in CLIP tokens; what is over is cut off",
        why="one chunk is the cheapest; `dataset check` says when captions are longer",
        unit="tokens",
    )

    defaults: bool = setting(
        True,
        "settings that nobody chose are as the base model says that they suit it (in its file's "
        "metadata), else as its family does",
        why="a rate that is right for one model is wrong for another",
    )

    @field_validator("path")
    @classmethod
    def _usable(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("is empty; name a model, or leave it out for the demo model")
        return str(user_path(value)) if value.startswith("~") else value


class CaptionSettings(Section):
    """How captions are found, and how they vary from step to step."""

    extension: Extension = setting(
        "auto",
        "extension of caption files",
        why='takes ".txt", then ".caption", whichever is there',
        kind="auto or an extension",
    )
    separator: str = setting(",", "what stands between tags", why="how taggers write captions")
    shuffle: bool = setting(
        False,
        "put the tags into another order each time",
        why="sentences must not be shuffled; switch it on for tag lists",
    )
    keep_tokens: int = setting(
        0,
        "how many tags at the start stay where they are when tags are shuffled or dropped; "
        "tags between separators, not CLIP tokens",
        why="set it to 1 for one trigger word in front",
        unit="tags",
        ge=0,
        le=255,
    )
    keep_tokens_separator: str = setting(
        "", "a mark in captions such as |||: the tags before it stay", why="counting is simpler"
    )
    dropout: float = setting(
        0.0,
        "how often a picture is trained with an empty caption",
        why="the LoRA answers to its captions alone",
        unit="share of samples",
        ge=0,
        le=1,
    )
    dropout_every_n_epochs: Every = setting(
        None, "train each Nth epoch with empty captions", why="off", unit="epochs"
    )
    tag_dropout: float = setting(
        0.0,
        "how often each single tag is left out",
        why="tags are taken to be right",
        unit="share of tags",
        ge=0,
        lt=1,
    )
    prefix: str = setting("", "text put before every caption", why="captions are used as they are")
    suffix: str = setting("", "text put after every caption", why="captions are used as they are")
    secondary_separator: str = setting(
        "",
        "a mark such as ;;; between tags that stay together when tags are shuffled or dropped; "
        "the separator takes its place in the end",
        why="each tag stands for itself",
    )
    tag_warmup_steps: int = setting(
        0,
        "let the tags that are not kept come in one by one over so many steps",
        why="all tags are there from the start",
        unit="steps",
        ge=0,
        le=1_000_000,
    )
    tag_warmup_min: int = setting(
        1,
        "how many of these tags are there at the first step of the warm-up",
        why="what the others add is then seen against it",
        unit="tags",
        ge=0,
        le=255,
    )
    wildcards: bool = setting(
        False, "read {a|b} in captions as a choice", why="braces are common in tags as they are"
    )
    trigger: TriggerText = setting(
        AUTO,
        "the word that shall call the LoRA up; auto: of each folder the first tag that its "
        "captions share, else its name (10_zorp: zorp); none: there is none. It is written into "
        "the file's metadata",
        why="right for captions that begin with it, and for pictures without captions",
        kind="auto, none or text",
    )
    trigger_in_front: bool = setting(
        True,
        "put the trigger in front of captions that lack it (the files stay as they are), and keep "
        "it there when tags are shuffled or dropped",
        why="a word that stands in no caption calls nothing up",
    )

    @property
    def varies(self) -> bool:
        """Whether the same caption can come out differently (so it can't be encoded once)."""
        return bool(
            self.shuffle
            or self.dropout > 0
            or self.dropout_every_n_epochs
            or self.tag_dropout > 0
            or self.wildcards
            or self.tag_warmup_steps > 0
        )

    @field_validator("separator")
    @classmethod
    def _separates(cls, value: str) -> str:
        if not value:
            raise ValueError('is empty; captions are split at it, usually ","')
        return value


class BucketSettings(Section):
    """Aspect-ratio buckets: the sizes that images of other shapes are trained at."""

    enabled: bool = setting(
        True, "train pictures in their own shape", why="cropping to a square loses heads and feet"
    )
    min: int | None = setting(
        None, "shortest side of a bucket", why="half the resolution", unit="pixels", ge=8, le=8192
    )
    max: int | None = setting(
        None, "longest side of a bucket", why="twice the resolution", unit="pixels", ge=8, le=8192
    )
    step: int | None = setting(
        None,
        "sides are multiples of this",
        why="64, or less where the model is made for small pictures",
        unit="pixels",
        ge=8,
        le=512,
    )
    upscale: bool = setting(
        True, "enlarge pictures that are too small", why="every picture then fills its bucket"
    )


class FolderSettings(Section):
    """One folder of images with settings of its own, a `[[data.folders]]` table.

    The same folder may stand in several tables, to be trained at several sizes.
    """

    path: UserPath = setting(..., "folder of pictures", why="there is no folder to assume")
    repeats: int = setting(
        1,
        "how often each picture comes in one epoch",
        why="more epochs do the same; repeats are for balancing folders against each other",
        unit="times per epoch",
        ge=1,
        le=10_000,
    )
    reg: bool = setting(
        False, "whether these are regularisation pictures", why="most folders are training pictures"
    )
    caption: str | None = setting(
        None,
        "caption of the pictures that have no caption file",
        why="the folder's name without its number",
    )
    weight: float = setting(
        1.0, "factor on the loss of these pictures", why="all pictures count the same", gt=0, le=100
    )
    resolution: Size = setting(
        None,
        "size to train these pictures at: a side, or [width, height]",
        why="data.resolution",
        unit="pixels",
        kind="whole number or [width, height]",
    )
    batch: int | None = setting(
        None,
        "pictures of this folder per step and process",
        why="train.batch",
        unit="pictures",
        ge=1,
        le=4096,
    )
    group: str = setting(
        "",
        "name of a group of folders: they share batches, and their regularisation pictures are "
        "repeated to match the training pictures of the group",
        why="all folders of one size, batch and buckets are a group",
    )
    captions: CaptionSettings | None = setting(
        None,
        "settings of [captions] that are others for this folder, such as {shuffle = true}",
        why="those of [captions]",
        kind="table",
    )
    buckets: BucketSettings | None = setting(
        None,
        "settings of [buckets] that are others for this folder",
        why="those of [buckets]",
        kind="table",
    )
    augment: AugmentSettings | None = setting(
        None,
        "settings of [augment] that are others for this folder, such as {flip = true}",
        why="those of [augment]",
        kind="table",
    )

    @model_validator(mode="before")
    @classmethod
    def _former_names(cls, values: Any) -> Any:
        """Settings files of before [captions] could stand here call it keep_tokens."""
        if not isinstance(values, dict) or "keep_tokens" not in values:
            return values
        values = dict(values)
        own = values.get("captions") or {}
        keep = values.pop("keep_tokens")
        if isinstance(own, dict) and keep is not None:
            values["captions"] = {"keep_tokens": keep, **own}
        return values


class DataSettings(Section):
    """The images. Paths are relative to the folder in which the command is run."""

    shorthand: ClassVar[str | None] = "path"

    path: UserPath | None = setting(
        None,
        "folder of training pictures: either pictures, or folders named N_name "
        "(N repeats of each picture in an epoch)",
        why="there is no folder to assume",
    )
    reg: UserPath | None = setting(
        None,
        "folder of regularisation pictures, laid out like `path`; repeated to match their number",
        why="most LoRAs are trained without",
    )
    folders: list[FolderSettings] = setting(
        [],
        "folders with settings of their own, in place of `path`: one [[data.folders]] table each",
        why="`path` is enough for most",
        kind="list of tables",
    )
    resolution: Size = setting(
        None,
        "size to train at: a side, or [width, height]; buckets keep its area",
        why="the size that the base model was made for (SD1: 512)",
        unit="pixels",
        kind="whole number or [width, height]",
    )
    background: str = setting(
        "white",
        "colour under transparent pictures: a name or #rrggbb",
        why="drawings with alpha are mostly meant for white paper",
    )

    @field_validator("background")
    @classmethod
    def _colour(cls, value: str) -> str:
        name = value.strip().lower()
        if name.startswith("#"):
            valid = len(name) in (4, 7) and all(c in "0123456789abcdef" for c in name[1:])
        else:
            valid = name in ImageColor.colormap
        if not valid:
            raise ValueError(f"{value!r} is not a colour; write a name such as white, or #rrggbb")
        return name
