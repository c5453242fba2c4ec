"""Requests of the verbs that read and write LoRA files and checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from lorasmith.config.values import UserPath
from lorasmith.core.events import Controls, Observer
from lorasmith.core.files import PrecisionName
from lorasmith.jobs.request import JobRequest, option

if TYPE_CHECKING:
    from lorasmith.lora_tools.bake.bake import BakeReport
    from lorasmith.lora_tools.convert.convert import Conversion
    from lorasmith.lora_tools.extract import ExtractReport
    from lorasmith.lora_tools.inspect.report import Report
    from lorasmith.lora_tools.merge import MergeReport
    from lorasmith.lora_tools.resize import ResizeReport


class ResizeRequest(JobRequest):
    """Write the LoRA IN as OUT at lower ranks, at the least error that they allow.

    Say one of --rank, --ratio, --retain, --cumulative and --size. LoHa, LoKr and whole differences
    become LoRAs; DoRA keeps its magnitudes; a DyLoRA is cut to its first N ranks. A module whose
    rank is low enough stays as it is. The preview beside IN is OUT's, too. OUT must not exist yet.
    """

    verb: ClassVar = "resize"

    source: UserPath = option(..., "The LoRA", metavar="IN", positional=True)
    out: UserPath = option(..., "The new file", metavar="OUT", positional=True)
    rank: int | None = option(None, "The same rank for every module", metavar="N")
    ratio: float | None = option(
        None, "Keep singular values above the module's largest divided by X", metavar="X"
    )
    retain: float | None = option(
        None, "Keep as many as hold this share of the module's Frobenius norm, up to 1", metavar="X"
    )
    cumulative: float | None = option(
        None, "Keep as many as add up to this share of the sum of all, up to 1", metavar="X"
    )
    size_mb: float | None = option(
        None,
        "Make a file of this size, ranks going where they are worth most",
        flag="size",
        metavar="MB",
        unit="MB",
    )
    max_rank: int | None = option(
        None,
        "With --ratio, --retain and --cumulative: the most that a module keeps",
        metavar="N",
        default_text="no limit",
    )
    precision: PrecisionName | None = option(None, "Of the new file", default_text="as the old")
    dry_run: bool = option(False, "Say ranks, size and error; write nothing")

    def run(self, observer: Observer, controls: Controls) -> ResizeReport:
        from lorasmith.jobs.drawings.loras import copy_preview
        from lorasmith.lora_tools.resize import resize

        report = resize(**self.values(), observer=observer, controls=controls)
        if not self.dry_run:
            copy_preview(self.source, self.out)
        return report


class MergeRequest(JobRequest):
    """Merge LoRAs, each at its weight, into one file.

    A weight is written after the file: a.safetensors:0.8, a.safetensors:unet=0.8:te=0.5 by part,
    a.safetensors:0.8:lbw=OUTALL by block, in all forms that `train` and prompts take.

    concat adds exactly, and ranks add up. svd gives the best sum of --rank. average divides the
    weights by their sum. ties keeps each file's largest numbers and averages those that agree in
    sign; dare drops numbers at random and scales up the rest. OUT must not exist yet.
    """

    verb: ClassVar = "merge"

    sources: list[str] = option(..., "The LoRAs", metavar="A[:WEIGHT] B[:WEIGHT]…", positional=True)
    out: UserPath = option(..., "File to write", metavar="OUT")
    rank: int | None = option(
        None,
        "The most that a module has",
        metavar="N",
        default_text="all; for svd, ties and dare the files' largest",
    )
    method: Literal["concat", "svd", "average", "ties", "dare"] | None = option(
        None, "How to put them together", default_text="concat, or svd with --rank"
    )
    density: float | None = option(
        None,
        "Of ties and dare: the share of each file's numbers that stays",
        metavar="X",
        default_text="0.5",
    )
    seed: int | None = option(None, "Of dare's random choice", metavar="N", default_text="0")
    precision: PrecisionName | None = option(
        None, "Of the new file", default_text="the files', or fp32 if they differ"
    )
    dry_run: bool = option(False, "Say ranks, size and error; write nothing")

    def run(self, observer: Observer, controls: Controls) -> MergeReport:
        from lorasmith.lora_tools.merge import merge

        return merge(**self.values(), observer=observer, controls=controls)


class ExtractRequest(JobRequest):
    """Make a LoRA from the difference of two checkpoints of one family.

    MODEL is a checkpoint file, a diffusers folder or a hub id. The error of the result is measured
    and said; it is within 1 % of the least possible at that rank, or within single precision's
    rounding (0.03 % of the change). Nothing that exists is overwritten.
    """

    verb: ClassVar = "extract"

    base: str = option(..., "The model that was tuned", metavar="MODEL")
    tuned: str = option(..., "What became of it", metavar="MODEL")
    out: UserPath = option(..., "New .safetensors file", metavar="FILE")
    rank: int | None = option(None, "Rank of every layer; at most, with --retain", metavar="N")
    retain: float | None = option(
        None,
        "Each layer's smallest rank that keeps this share of its change's norm, as 0.9",
        metavar="X",
    )
    type: Literal["lora", "locon", "lokr"] = option(
        "lora",
        "lora: attention and feed-forward; locon: residual blocks and resamplers too; lokr: the "
        "nearest Kronecker products of locon's layers",
    )
    conv_rank: int | None = option(
        None,
        "Rank of convolutions, 0 for none",
        metavar="N",
        default_text="none for lora, else as --rank",
    )
    parts: Literal["all", "unet", "text-encoder"] = option("all", "Which networks to compare")
    norms: bool = option(
        False,
        "Hold the norms that differ too, as LyCORIS' w_norm and b_norm, which ComfyUI, A1111 and "
        "lorasmith apply and diffusers does not",
    )
    min_diff: float = option(
        0.01,
        "Leave out a text encoder that differs by no more than this in any weight",
        metavar="X",
    )
    clamp_quantile: float | None = option(
        None,
        "Clamp factors to this quantile, as sd-scripts at 0.99; it loses accuracy",
        metavar="X",
        default_text="no clamping",
    )
    factor: int | None = option(
        None,
        "lokr: size of the first factor, -1 for the square root",
        metavar="N",
        default_text="-1",
    )
    load_precision: PrecisionName = option("fp32", "Take the difference in this precision")
    precision: PrecisionName = option("fp16", "Of the numbers in the file")
    seed: int = option(0, "Of the random vectors", metavar="N")
    dry_run: bool = option(False, "Check the two models and say sizes; write nothing")

    def run(self, observer: Observer, controls: Controls) -> ExtractReport:
        from lorasmith.lora_tools.extract import extract

        return extract(**self.values(), observer=observer, controls=controls)


class BakeRequest(JobRequest):
    """Write a checkpoint with LoRAs in it.

    The result has the model's own format, names and types. FILE:0.8 gives UNet and text encoders
    the strength 0.8, FILE:0.8:0.5 each its own. Nothing that exists is overwritten.
    """

    verb: ClassVar = "bake"

    model: str = option(..., "Checkpoint or diffusers folder", metavar="demo|PATH|HUB_ID")
    sources: list[str] = option(
        ...,
        "LoRA of any type and its strengths; :lbw=OUTALL weighs blocks. May be repeated",
        flag="lora",
        metavar="FILE[:UNET[:TE]]",
    )
    out: UserPath = option(
        ..., "New .safetensors file, or new folder if the model is one", metavar="PATH"
    )
    precision: PrecisionName | None = option(
        None, "Round all weights to this", default_text="each as it is"
    )
    hash: bool = option(
        False, "Name the model by its SHA-256 in the metadata, which takes as long again"
    )
    dry_run: bool = option(False, "Check everything and say sizes; write nothing")

    def run(self, observer: Observer, controls: Controls) -> BakeReport:
        from lorasmith.lora_tools.bake.bake import bake

        return bake(**self.values(), observer=observer, controls=controls)


class ConvertRequest(JobRequest):
    """Write the LoRA or checkpoint IN as the .safetensors file OUT.

    A LoRA may have kohya's, LyCORIS', diffusers', peft's or ComfyUI's names, or be a list that
    cloneofsimo's program or sd_dreambooth_extension wrote; a checkpoint may be a .ckpt. Nothing in
    a pickle is ever run. Converting back gives the first file again, byte for byte, where no
    precision was lost.
    """

    verb: ClassVar = "convert"

    source: UserPath = option(..., "A LoRA or a checkpoint", metavar="IN", positional=True)
    out: UserPath = option(..., "The new file", metavar="OUT", positional=True)
    to: Literal["kohya", "kohya-diffusers", "diffusers", "comfy", "safetensors"] | None = option(
        None,
        "Whose names the tensors get; safetensors keeps them",
        default_text="kohya, of a LoRA",
    )
    precision: PrecisionName | None = option(None, "Round the numbers", default_text="as they are")
    preview: UserPath | None = option(
        None, "A picture to embed, which model managers show", metavar="PNG"
    )
    dry_run: bool = option(False, "Check everything and say the size; write nothing")

    def run(self, observer: Observer, controls: Controls) -> Conversion:
        from lorasmith.lora_tools.convert.convert import convert

        return convert(**self.values(), observer=observer, controls=controls)


class InspectRequest(JobRequest):
    """Say what FILE is: a LoRA of any type, a checkpoint, or demo, the model of the package.

    Of a LoRA: its family, ranks, the layers that it adapts, how much it changes in which block, the
    words that trigger it, its training, and which programs read it. Nothing in the file is run.
    """

    verb: ClassVar = "inspect"

    path: UserPath = option(..., "The file", metavar="FILE", positional=True)

    def run(self, observer: Observer, controls: Controls) -> Report:
        from lorasmith.lora_tools.inspect.inspect import inspect

        return inspect(self.path)
