"""Settings of how a run goes: length, saving, samples, log, machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from lorasmith.config.fields import Section, setting
from lorasmith.config.sample_prompts import SamplePrompt, SamplerName, sample_prompts
from lorasmith.config.values import AUTO, AutoEvery, Every, FileStem, Size, UserPath
from lorasmith.core.files import PrecisionName
from lorasmith.core.rng import MAX_SEED

SamplePrompts = Annotated[list[str | SamplePrompt], BeforeValidator(sample_prompts)]

Layout = Literal["folder", "flat"]


class RunSettings(Section):
    """What to train, how long and how exactly."""

    kind: Literal["lora", "embedding", "lora+embedding", "full", "slider"] = setting(
        "lora",
        "what is trained: a LoRA, of the type that adapter.type says; or (embedding) words of your "
        "own, by vectors alone, a textual inversion; or both in one file; or (full) the base's own "
        "weights, those that full.layers says, which are saved as a checkpoint; or (slider) a LoRA "
        "that moves an attribute up and down, by the prompts of [slider] or by pairs of pictures",
        why="a small file that every program reads, and that goes with others",
    )

    epochs: Annotated[int, Field(ge=1, le=100_000)] | Literal["auto"] = setting(
        AUTO,
        "times through all pictures, repeats included; auto: as many as `showings` asks for",
        why="pictures differ in number and in repeats, and what they take does not",
        unit="epochs",
    )
    steps: int | None = setting(
        None,
        "optimizer steps in all, in place of epochs; an epoch that is cut short is fine",
        why="epochs decide",
        unit="optimizer steps",
        ge=1,
        le=100_000_000,
    )
    showings: int = setting(
        100,
        "how often each picture is shown in a run, of 20 pictures; what epochs are worked out from",
        why="usual for a character; a base or its family may say another number",
        unit="times",
        ge=1,
        le=1_000_000,
    )
    showings_falloff: float = setting(
        0.5,
        "how much less often each of more than 20 pictures is shown, and how much more often each "
        "of fewer: 0 not at all, 1 so that all sets take equally many steps",
        why="a large set has more to learn, and less of it in each picture",
        ge=0,
        le=1,
    )
    min_steps: int = setting(
        100,
        "optimizer steps that a run has at least, where its length is worked out",
        why="with fewer nothing is learned, however few the pictures",
        unit="optimizer steps",
        ge=1,
        le=100_000_000,
    )
    max_steps: int = setting(
        10_000,
        "optimizer steps that a run has at most, where its length is worked out; regularisation "
        "pictures come on top",
        why="by then even a style is learned",
        unit="optimizer steps",
        ge=1,
        le=100_000_000,
    )
    stop: Literal["end", "best"] = setting(
        "end",
        "when to end: after all epochs or steps, or (best) as soon as snapshots gain nothing more; "
        "best also makes the snapshot that `lorasmith pick` would keep the result",
        why="judging snapshots takes up to 15% more time",
    )
    batch: int = setting(
        1,
        "pictures per step and process",
        why="fits every GPU; 2 to 4 are faster where memory allows",
        unit="pictures",
        ge=1,
        le=4096,
    )
    accumulation: int = setting(
        1,
        "batches per optimizer step: a larger batch without its memory",
        why="every batch is a step",
        unit="batches",
        ge=1,
        le=4096,
    )
    seed: int = setting(
        0,
        "number that fixes every random draw of the run",
        why="runs that differ in one setting then differ in that alone",
        ge=0,
        le=MAX_SEED,
    )
    precision: Literal["auto", "fp32", "fp16", "bf16"] = setting(
        "auto",
        "number format of the frozen model; what is trained is always fp32",
        why="bf16 where the machine has it, else what it does well",
    )
    base_precision: Literal["auto", "fp8", "nf4"] = setting(
        "auto",
        "how the UNet's frozen weights are stored: fp8 and nf4 (4 bits) are unpacked layer by "
        "layer, and their rounding is learned around",
        why="as train.precision says, which is exact",
    )
    gradient_checkpointing: bool | Literal["auto"] | Annotated[int, Field(ge=1, le=64)] = setting(
        "auto",
        "compute the UNet's blocks twice to save memory: all (true), none, or so many of them, "
        "the largest pictures first",
        why="as many blocks as it takes to fit; all of them cost about a third of the speed",
        kind="true, false, auto or a whole number",
    )
    ema: float = setting(
        0.0,
        "decay of a moving average over the trained weights, such as 0.999; the average is what is "
        "saved, sampled and validated; 0 takes the weights as they are",
        why="a learning rate that falls to zero does nearly the same",
        ge=0,
        lt=1,
    )


class SaveSettings(Section):
    """What is written, where and how often."""

    output: UserPath = setting(
        Path("runs"), "folder in which the run's folder is made", why="out of the way"
    )
    name: FileStem = setting(
        None, "name of the run and of its files", why="the name of the data folder", kind="text"
    )
    layout: Layout = setting(
        "folder",
        "where the LoRA files lie: in the run's folder, or (flat) in save.output itself as "
        "sd-scripts has them, for a web UI's LoRA folder; the run's folder is then hidden beside "
        "them, as .NAME.lorasmith",
        why="keeps all of a run together",
    )
    every_epochs: AutoEvery = setting(
        AUTO,
        "write a snapshot each N epochs; 0 and none: never; auto: about ten in a run, by steps "
        "where an epoch is long; none where every_steps is given",
        why="the best epoch is rarely the last",
        unit="epochs",
    )
    every_steps: Every = setting(
        None,
        "write a snapshot each N optimizer steps",
        why="epochs are enough",
        unit="optimizer steps",
    )
    keep_last: Every = setting(
        None, "keep only the newest N snapshots", why="they are small", unit="snapshots"
    )
    precision: PrecisionName = setting(
        "fp16",
        "number format of the LoRA file",
        why="half the size, and every program reads it",
    )
    state_every_steps: Every = setting(
        None,
        "write what --resume needs each N optimizer steps too, not only with snapshots",
        why="snapshots come often enough",
        unit="optimizer steps",
    )
    comment: str = setting("", "note to keep in the file's metadata", why="nothing to say")
    author: str = setting("", "author to name in the file's metadata", why="not known")
    license: str = setting("", "licence to name in the file's metadata", why="not known")


class SampleSettings(Section):
    """Images made while training, to see how it goes."""

    prompts: SamplePrompts = setting(
        [],
        "prompts to draw, one picture each: texts, which may end in sd-scripts' options, or "
        "[tables](#sampleprompts)",
        why="captions of the training pictures are taken",
        kind="list of texts or tables",
    )
    negative: str = setting("", "what the pictures should not show", why="shows the LoRA as it is")
    every_epochs: AutoEvery = setting(
        AUTO,
        "draw each N epochs; 0 and none: never; auto: about ten times in a run, by steps where an "
        "epoch is long; none where every_steps is given",
        why="one picture per snapshot",
        unit="epochs",
    )
    every_steps: Every = setting(
        None, "draw each N optimizer steps", why="epochs are enough", unit="optimizer steps"
    )
    at_start: bool = setting(
        True, "draw before the first step", why="shows what the model knew already"
    )
    steps: int = setting(
        20, "sampling steps per picture", why="enough to judge by", unit="steps", ge=1, le=500
    )
    cfg: float = setting(
        7.0,
        "guidance scale: how closely to follow the prompt",
        why="the web UIs' default",
        ge=1,
        le=50,
    )
    sampler: SamplerName = setting("ddim", "sampler", why="exact repeats, and the plainest of them")
    seed: int = setting(
        0,
        "seed of the first picture, one more for each next",
        why="the same noise each time shows what changed",
        ge=0,
        le=MAX_SEED,
    )
    size: Size = setting(
        None,
        "size of the pictures: a side, or [width, height]",
        why="the size that the base model was made for",
        unit="pixels",
        kind="whole number or [width, height]",
    )


class LogSettings(Section):
    """Numbers that are kept of each step."""

    every_steps: Annotated[int, Field(ge=1)] | Literal["auto"] = setting(
        "auto",
        "read loss and norms each N optimizer steps; reading makes a GPU wait",
        why="1 on a CPU, 10 on a GPU",
        unit="optimizer steps",
    )
    tensorboard: bool = setting(True, "write TensorBoard files", why="the charts that guides show")
    wandb: str = setting(
        "",
        "project of Weights & Biases to send the numbers and samples to as well; needs the package "
        "wandb, and `wandb login` once",
        why="nothing leaves this machine",
    )
    wandb_name: str = setting(
        "", "name of the run in that project", why="the LoRA's name, save.name"
    )
    smoothing: float = setting(
        0.98,
        "how much of the smoothed loss stays at each step",
        why="single losses say nothing; this averages about the last 50",
        ge=0,
        lt=1,
    )


class PerformanceSettings(Section):
    """Speed and memory; none of these changes what is learned."""

    cache_latents: bool = setting(
        True, "encode each picture once, before training", why="the VAE then costs nothing per step"
    )
    cache_dir: UserPath | None = setting(
        None, "folder of the cache", why="beside the pictures, where the next run finds it"
    )
    cache_text: bool | Literal["auto"] = setting(
        "auto",
        "encode each caption once, before training",
        why="done where captions do not vary and the text encoder is not trained",
    )
    deterministic: bool = setting(
        False,
        "on a GPU, only algorithms that give the same bits each time, so that a run that was "
        "stopped ends in the very file of one that was not",
        why="slower on a GPU, and a LoRA is as good without; a CPU is exact in any case",
    )
    compile: bool = setting(
        False, "compile the model with torch.compile", why="takes minutes before the first step"
    )
    channels_last: bool | Literal["auto"] = setting(
        "auto", "memory layout for convolutions", why="on for NVIDIA and AMD GPUs, which gain by it"
    )
    device: str = setting(
        "auto",
        "auto, cpu, cuda, cuda:1, xpu (Intel), mps (Apple), or rocm, which PyTorch calls cuda",
        why="the GPU where there is one",
    )
    threads: int | None = setting(
        None, "CPU threads", why="PyTorch's own choice", unit="threads", ge=1, le=1024
    )
    offload_blocks: int = setting(
        0,
        "blocks of the UNet, the heaviest first, whose weights stay in the computer's memory and "
        "come to the GPU when they are needed",
        why="copying takes time",
        unit="blocks",
        ge=0,
        le=64,
    )
    vae_slicing: bool | Literal["auto"] = setting(
        "auto",
        "let the VAE take pictures one by one",
        why="on where several at once would not fit; nothing else changes",
    )
    vae_tiling: bool | Literal["auto"] = setting(
        "auto",
        "let the VAE take large pictures in tiles of 512 px",
        why="on where a whole picture would not fit; colours may shift slightly between tiles",
    )
    vae_batch: int = setting(
        4,
        "pictures that the VAE encodes at a time",
        why="fits 6 GB at 512 px",
        unit="pictures",
        ge=1,
        le=1024,
    )
