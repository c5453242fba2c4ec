"""``lorasmith generate``"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import click

from lorasmith.cli.interrupt import stop_on_interrupt
from lorasmith.errors import Problem, Stopped, UserError
from lorasmith.events import Controls, Notice, Observer

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from lorasmith.sampling.generate import GeneratedPicture, PictureRequest
    from lorasmith.sampling.loras import LoraShelf
    from lorasmith.training.observers import Terminal

T = TypeVar("T")

# Where `lorasmith train` puts its results, so that a fresh LoRA is found without an option.
DEFAULT_LORA_DIR = Path("runs")
MAX_COUNT = 10_000
# Settings and request fields by the option that sets them here.
OPTIONS = {
    "steps": "--steps",
    "cfg": "--cfg",
    "seed": "--seed",
    "sampler": "--sampler",
    "width": "--size",
    "height": "--size",
    "performance.device": "--device",
    "train.precision": "--precision",
}
_NUMBERED = re.compile(r"(\d{5,})-\d+\.png", re.ASCII)


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be drawn and with what, checked but for the weights."""

    requests: list[PictureRequest]
    loras: LoraShelf
    model: str
    vae: str | None
    prediction: str
    zero_terminal_snr: bool | Literal["auto"]
    clip_skip: int
    device: torch.device
    dtype: torch.dtype
    out: Path

    @property
    def model_name(self) -> str:
        path = Path(self.model)
        return path.stem if path.suffix in (".safetensors", ".ckpt") else path.name


@click.command("generate")
@click.argument("prompt")
@click.option(
    "--model", metavar="demo|PATH|HUB_ID", default="demo", show_default=True, help="Base model."
)
@click.option(
    "--lora-dir",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder with LoRAs, searched with its sub-folders.  [default: runs]",
)
@click.option("--negative", metavar="TEXT", default="", help="What the picture should not be.")
@click.option(
    "--seed", type=int, metavar="N", help="Seed of the first picture.  [default: a random one]"
)
@click.option(
    "--count",
    type=int,
    default=1,
    show_default=True,
    metavar="N",
    help="Number of pictures, with seeds N, N+1, …",
)
@click.option(
    "--steps", type=int, default=20, show_default=True, metavar="N", help="Sampling steps."
)
@click.option(
    "--cfg",
    type=float,
    default=7.0,
    show_default=True,
    metavar="X",
    help="Classifier-free guidance: how closely to follow the prompt. 1 is none.",
)
@click.option(
    "--sampler",
    default="ddim",
    show_default=True,
    metavar="NAME",
    help="ddim, euler, euler_a or dpmpp_2m_karras.",
)
@click.option(
    "--size",
    metavar="WxH",
    help="Size in pixels, as 512x768.  [default: the model's own]",
)
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path),
    default=Path("outputs"),
    show_default=True,
    help="Folder for the pictures.",
)
@click.option(
    "--clip-skip",
    type=int,
    default=1,
    show_default=True,
    metavar="N",
    help="Use the N-th last layer of the text encoder.",
)
@click.option("--vae", metavar="PATH", help="A VAE to use instead of the model's own.")
@click.option(
    "--prediction",
    type=click.Choice(["auto", "epsilon", "v"]),
    default="auto",
    show_default=True,
    help="What the model predicts: the noise (epsilon) or the velocity (v).",
)
@click.option(
    "--zero-terminal-snr",
    is_flag=True,
    help="Begin at nothing but noise, for models that were trained so and do not say it.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "fp16", "bf16"]),
    default="auto",
    show_default=True,
    help="Of the UNet and the text encoder; the VAE works in fp32.",
)
@click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="auto|cpu|cuda|…",
    help="Where to compute.",
)
def command(
    prompt: str,
    model: str,
    lora_dir: Path | None,
    negative: str,
    seed: int | None,
    count: int,
    steps: int,
    cfg: float,
    sampler: str,
    size: str | None,
    out: Path,
    clip_skip: int,
    vae: str | None,
    prediction: str,
    zero_terminal_snr: bool,
    precision: str,
    device: str,
) -> None:
    """Draw pictures of PROMPT, with LoRAs named in it.

    PROMPT is written as in the Stable Diffusion web UI: <lora:NAME:0.8> adds a LoRA, (word:1.2)
    and [word] weigh words, BREAK begins a new chunk. Each PNG carries what made it.
    """
    from lorasmith.cli.console import console
    from lorasmith.files import check_writable
    from lorasmith.sampling.generate import PictureRequest
    from lorasmith.training.observers import Terminal

    problems: list[Problem] = []
    width, height = _attempt(lambda: _parse_size(size), problems) or (None, None)
    if not 1 <= count <= MAX_COUNT:
        problems.append(Problem("--count", f"{count} is out of range", f"choose 1 to {MAX_COUNT}"))
    first_seed = secrets.randbelow(2**32) if seed is None else seed
    requests = [
        PictureRequest(prompt, negative, first_seed + i, steps, cfg, sampler, width, height)
        for i in range(min(max(count, 1), MAX_COUNT))
    ]
    terminal = Terminal(console)
    shelf = _attempt(lambda: _shelf(lora_dir, terminal), problems)
    problems += _check(requests, shelf)
    _attempt(lambda: check_writable(out), problems)
    place = _attempt(lambda: _place(model, vae, prediction, clip_skip, precision, device), problems)
    if problems or shelf is None or place is None:
        raise UserError(problems)
    if seed is None:
        console.print(f"seed {first_seed}" + (f" to {first_seed + count - 1}" * (count > 1)))
    to_noise: bool | Literal["auto"] = True if zero_terminal_snr else "auto"
    work = Work(requests, shelf, model, vae, prediction, to_noise, clip_skip, *place, out)
    _draw(work, console, terminal)


def _attempt(work: Callable[[], T], problems: list[Problem]) -> T | None:
    """``work()``, or ``None`` with its problems noted."""
    try:
        return work()
    except UserError as error:
        problems += error.problems
        return None


def _parse_size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d{1,6})\s*[xX×*]\s*(\d{1,6})\s*", text, re.ASCII)
    if match is None:
        raise UserError.of("--size", f'"{text}" is not a size', "write it as 512x768")
    return int(match[1]), int(match[2])


def _shelf(folder: Path | None, observer: Observer) -> LoraShelf:
    from lorasmith.sampling.loras import LoraShelf

    if folder is None:
        folder = DEFAULT_LORA_DIR if DEFAULT_LORA_DIR.is_dir() else None
    elif not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise UserError.of(
            "--lora-dir", f"{folder} {what}", "give the folder that holds your LoRAs"
        )
    return LoraShelf(folder, observer=observer)


def _check(requests: list[PictureRequest], shelf: LoraShelf | None) -> list[Problem]:
    """Problems of the prompts, the settings and the LoRAs' names."""
    from lorasmith.sampling.generate import check_request
    from lorasmith.sampling.prompt import parse_prompt

    # The requests differ in their seeds alone, and the last one's is the largest.
    problems = check_request(requests[0]) + check_request(requests[-1])
    tags = _attempt(lambda: parse_prompt(requests[0].prompt).loras, [])
    if shelf is not None and tags:
        problems += shelf.check(tags)
    return _under_options(dict.fromkeys(problems))


def _under_options(problems: Iterable[Problem]) -> list[Problem]:
    """The problems with settings named as on this command line."""
    return [
        Problem(OPTIONS.get(problem.where, problem.where), problem.what, problem.todo)
        for problem in problems
    ]


def _place(
    model: str, vae: str | None, prediction: str, clip_skip: int, precision: str, device: str
) -> tuple[torch.device, torch.dtype]:
    """Where and in which precision to compute, from the model's header.

    Raises:
        UserError: there is no such model, layer or device, or the device lacks the precision.
    """
    from lorasmith.models.family import check_clip_skip
    from lorasmith.models.source import peek
    from lorasmith.training.device import choose_device, choose_precision
    from lorasmith.training.estimate import unet_weights

    problems: list[Problem] = []
    architecture = _attempt(lambda: peek(model, vae=vae, prediction=prediction), problems)
    chosen = _attempt(lambda: choose_device(device), problems)
    if architecture is not None:
        known = architecture
        _attempt(lambda: check_clip_skip(known, clip_skip, "--clip-skip"), problems)
    if architecture is None or chosen is None or problems:
        raise UserError(_under_options(problems))
    weights = unet_weights(architecture.unet)
    dtype = _attempt(lambda: choose_precision(precision, chosen, weights).dtype, problems)
    if dtype is None:
        raise UserError(_under_options(problems))
    return chosen, dtype


def _draw(work: Work, console: Console, terminal: Terminal) -> None:
    from lorasmith.models.checkpoint import load_model
    from lorasmith.sampling.generate import generate

    model = load_model(
        work.model,
        dtype=work.dtype,
        device=work.device,
        vae=work.vae,
        prediction=work.prediction,
        zero_terminal_snr=work.zero_terminal_snr,
        clip_skip=work.clip_skip,
    )
    for note in model.notes:
        terminal(Notice("warning", note))
    controls = Controls()
    saved: list[Path] = []
    with stop_on_interrupt(controls), contextlib.closing(terminal):
        try:
            hashes = _lora_hashes(work)
            for picture in generate(
                model, work.requests, loras=work.loras, observer=terminal, controls=controls
            ):
                saved.append(_save(work, picture, hashes))
        except Stopped as stop:
            raise Stopped(f"stopped; {_places(saved)}") from stop
    console.print(_places(saved), soft_wrap=True, markup=False)


def _lora_hashes(work: Work) -> dict[str, str]:
    """The hashes that web UIs know LoRAs by, by the names in the prompt."""
    from lorasmith.sampling.loras import short_hash
    from lorasmith.sampling.prompt import parse_prompt

    names = [tag.name for tag in parse_prompt(work.requests[0].prompt).loras]
    return {name: short_hash(work.loras.find(name)) for name in names}


def _save(work: Work, picture: GeneratedPicture, hashes: dict[str, str]) -> Path:
    from lorasmith.sampling.infotext import describe, save_picture

    path = _new_path(work.out, picture.seed)
    info = describe(
        picture.request, model=work.model_name, clip_skip=work.clip_skip, lora_hashes=hashes
    )
    try:
        save_picture(path, picture.image, info)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def _new_path(folder: Path, seed: int) -> Path:
    """``NNNNN-SEED.png``, numbered on from the last in ``folder``; an empty file reserves it, so
    that two commands that draw into one folder never take the same."""
    numbers = (_NUMBERED.fullmatch(path.name) for path in folder.iterdir())
    number = max((int(match[1]) for match in numbers if match), default=0)
    while True:
        number += 1
        path = folder / f"{number:05d}-{seed}.png"
        with contextlib.suppress(FileExistsError):
            path.touch(exist_ok=False)
            return path


def _places(saved: list[Path]) -> str:
    if not saved:
        return "no picture was finished"
    if len(saved) == 1:
        return f"1 picture: {saved[0]}"
    return f"{len(saved)} pictures: {saved[0]} to {saved[-1].name}"
