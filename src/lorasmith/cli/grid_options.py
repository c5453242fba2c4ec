"""The options of ``lorasmith grid``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

STRENGTHS = "0.6,0.8,1"


@dataclass(frozen=True, slots=True)
class GridOptions:
    """As given; ``None`` where nothing was said, so that a run's own words can stand."""

    x: str | None
    y: str | None
    z: str | None
    epochs: str | None
    strengths: str | None
    model: str | None
    vae: str | None
    lora_dir: Path | None
    embedding_dir: Path | None
    wildcard_dir: Path | None
    negative: str | None
    seed: int | None
    steps: int | None
    cfg: float | None
    sampler: str | None
    schedule: str | None
    size: str | None
    clip_skip: int | None
    init: Path | None
    denoise: float | None
    hires: float | None
    hires_denoise: float | None
    hires_steps: int | None
    hires_upscaler: str | None
    out: Path | None
    prediction: str | None
    zero_terminal_snr: bool
    precision: str
    device: str

    def sides(self) -> dict[str, str]:
        """``AXIS=VALUES`` by option.

        Raises:
            UsageError: the options do not go together.
        """
        if self.strengths and not self.epochs:
            raise click.UsageError('--strengths belongs to --epochs; else write --y "strength=…".')
        if self.epochs and (self.x or self.y):
            raise click.UsageError("--epochs sets --x and --y itself; only --z can be added.")
        x, y = self.x, self.y
        if self.epochs:
            x, y = f"epoch={self.epochs}", f"strength={self.strengths or STRENGTHS}"
        given = {"--x": x, "--y": y, "--z": self.z}
        sides = {option: text for option, text in given.items() if text is not None}
        if not sides:
            raise click.UsageError("What is to vary? Give --x and --y, or --epochs RUN.")
        return sides


def _path(name: str, metavar: str, told: str) -> Any:
    return click.option(name, metavar=metavar, type=click.Path(path_type=Path), help=told)


def _word(name: str, metavar: str, told: str, kind: Any = None) -> Any:
    return click.option(name, metavar=metavar, type=kind, help=told)


_OPTIONS = [
    _word("--x", "AXIS=VALUES", 'Columns, as "epoch=runs/zorp:1-15".'),
    _word("--y", "AXIS=VALUES", 'Rows, as "strength=0.6,0.8,1".'),
    _word("--z", "AXIS=VALUES", 'Pages, as "seed=1-3".'),
    _word("--epochs", "RUN", "A run's epochs by strengths, with its own model and sample prompt."),
    _word("--strengths", "LIST", f"Rows of --epochs.  [default: {STRENGTHS}]"),
    _word("--model", "demo|PATH|HUB_ID", "Base model.  [default: demo]"),
    _word("--vae", "PATH", "A VAE to use instead of the model's own."),
    _path("--lora-dir", "DIR", "Folder with LoRAs and its sub-folders.  [default: runs]"),
    _path("--embedding-dir", "DIR", "Folder with textual inversion embeddings."),
    _path("--wildcard-dir", "DIR", "Folder with the lists that __NAME__ in prompts draws from."),
    _word("--negative", "TEXT", "What the pictures should not be."),
    _word("--seed", "N", "Seed of all pictures.  [default: 0]", int),
    _word("--steps", "N", "Sampling steps.  [default: 20]", int),
    _word("--cfg", "X", "Classifier-free guidance; 1 is none.  [default: 7]", float),
    _word("--sampler", "NAME", "As for `lorasmith generate`.  [default: ddim]"),
    _word("--schedule", "NAME", "Spacing of the steps.  [default: automatic]"),
    _word("--size", "WxH", "Size in pixels, as 512x768.  [default: the model's own]"),
    _word("--clip-skip", "N", "Use the N-th last layer of the text encoder.  [default: 1]", int),
    _path("--init", "PICTURE", "Begin with this picture (img2img)."),
    _word("--denoise", "X", "How much of it is drawn anew, 0 to 1.  [default: 0.6]", float),
    _word("--hires", "SCALE", "Draw each a second time, so much larger.", float),
    _word("--hires-denoise", "X", "How much the second time draws anew.  [default: 0.5]", float),
    _word("--hires-steps", "N", "Steps of the second time.  [default: as many]", int),
    _word("--hires-upscaler", "NAME", "As for `lorasmith generate`.  [default: latent]"),
    _path("--out", "DIR", "Folder for the grid.  [default: grid; of --epochs RUN: RUN/grid]"),
    _word(
        "--prediction", "auto|epsilon|v", "What the model predicts.  [default: auto]",
        click.Choice(["auto", "epsilon", "v"]),
    ),
    click.option(
        "--zero-terminal-snr", is_flag=True,
        help="Begin at nothing but noise, for models that were trained so and do not say it.",
    ),
    click.option(
        "--precision", type=click.Choice(["auto", "fp32", "fp16", "bf16"]), default="auto",
        show_default=True, help="Of the UNet and the text encoder; the VAE works in fp32.",
    ),
    click.option(
        "--device", default="auto", show_default=True, metavar="auto|cpu|cuda|…",
        help="Where to compute.",
    ),
]  # fmt: skip


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with all of them, in this order."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
