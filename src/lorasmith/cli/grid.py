"""``lorasmith grid``"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lorasmith.cli.generate_options import NAMES
from lorasmith.cli.grid_options import GridOptions, with_options
from lorasmith.cli.signals import stop_on_interrupt
from lorasmith.core.errors import Problem, Stopped, UserError
from lorasmith.core.events import Controls, Notice
from lorasmith.core.text import quantity
from lorasmith.formats.run_paths import DEFAULT_OUTPUT, lora_folder, runs_at

if TYPE_CHECKING:
    import torch

    from lorasmith.core.terminal_view import Terminal
    from lorasmith.grids.axes import CellSpec, Sources
    from lorasmith.grids.plan import Grid
    from lorasmith.grids.run import Report
    from lorasmith.models.diffusion_model import DiffusionModel
    from lorasmith.models.reference import ModelReference
    from lorasmith.sampling.request import Hires
    from lorasmith.training.samples import RunPrompts

DEFAULT_OUT = Path("grid")
# Request fields that are options of the same name.
_PLAIN = (
    "negative", "seed", "steps", "cfg", "sampler", "schedule", "clip_skip", "init", "denoise",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """Where pictures are computed, and how precisely for each model by its path."""

    device: torch.device
    dtypes: dict[str, torch.dtype]


@dataclass(frozen=True, slots=True)
class Work:
    """A grid that can be drawn, checked but for the weights."""

    grid: Grid
    sources: Sources
    place: Place
    out: Path
    options: GridOptions


@click.command("grid")
@click.argument("prompt", required=False)
@with_options
def grid(prompt: str | None, **values: Any) -> None:
    """Draw PROMPT in all combinations of two or three things that vary, to compare them.

    \b
    AXIS    epoch, lora, strength, unet, te, lbw, prompt, negative, sr, seed, steps,
            cfg, "cfg rescale", eta, sampler, schedule, size, "clip skip", denoise,
            checkpoint or vae; AXIS@NAME for one of several LoRAs
    VALUES  a list (a,b,"c, d"), ranges (1-5, 1-10 (+3), 1-10 [5]); of epoch: RUN,
            RUN:1-15, RUN:1-15:2; of sr: the text that is replaced comes first

    DIR/grid.html shows the pictures in a browser. Pictures that are there are not drawn again: the
    same command goes on where it was stopped.
    """
    from lorasmith.cli.console import console
    from lorasmith.core.terminal_view import Terminal

    terminal = Terminal(console)
    work = _work(prompt, GridOptions(**values), terminal)
    report = _draw(work, terminal)
    console.print(_told(report, work.out), soft_wrap=True, markup=False)


def _work(prompt: str | None, options: GridOptions, terminal: Terminal) -> Work:
    """All that is to be drawn and with what.

    Raises:
        UserError: with everything that is wrong.
    """
    from lorasmith.core.errors import collect_problems
    from lorasmith.core.files import check_writable
    from lorasmith.grids.run import check_folder

    sides = options.sides()
    problems: list[Problem] = []
    sources = collect_problems(problems, lambda: _sources(options, terminal))
    run, folder, out = None, None, options.out or DEFAULT_OUT
    if options.epochs is not None and sources is not None:
        folder = collect_problems(problems, functools.partial(_run_folder, options.epochs, sources))
        if folder is not None:
            run = collect_problems(problems, functools.partial(_run_prompts, folder, prompt))
            out = options.out or folder / "grid"
    # Of a run that is not there or has no prompts, which is said, it is not missing here.
    lost = options.epochs is not None and bool(problems)
    if not (lost or prompt is not None or run or _vary_the_prompt(sides.values())):
        problems.append(Problem("PROMPT", "is missing", "write what is to be drawn"))
    base = collect_problems(problems, lambda: _base(prompt, run, options))
    grid, place = None, None
    if sources is not None and base is not None:
        grid = collect_problems(problems, functools.partial(_lay_out, base, sides, sources))
        specs = [cell.spec for cell in grid.cells] if grid else [base]
        place = collect_problems(problems, functools.partial(_place, specs, options))
    found = check_folder(out)
    problems += found
    if not found:
        collect_problems(problems, lambda: check_writable(out))
    if problems or grid is None or sources is None or place is None:
        raise UserError(_under_options(dict.fromkeys(problems)))
    return Work(grid, sources, place, out, options)


def _under_options(problems: Iterable[Problem]) -> list[Problem]:
    """The problems with settings named as on this command line."""
    names = {**NAMES, "clip_skip": "--clip-skip"}
    return [replace(problem, where=names.get(problem.where, problem.where)) for problem in problems]


def _sources(options: GridOptions, terminal: Terminal) -> Sources:
    """
    Raises:
        UserError: a folder that was given is none.
    """
    from lorasmith.grids.axes import Sources
    from lorasmith.prompts.wildcards import Wildcards
    from lorasmith.sampling.embeddings import EmbeddingLibrary
    from lorasmith.sampling.lora_library import LoraLibrary

    lora_dir = options.lora_dir and lora_folder(options.lora_dir)
    folders = {
        "--lora-dir": lora_dir,
        "--embedding-dir": options.embedding_dir,
        "--wildcard-dir": options.wildcard_dir,
    }
    problems = [
        Problem(option, f"{folder} is not a folder")
        for option, folder in folders.items()
        if folder is not None and not folder.is_dir()
    ]
    if problems:
        raise UserError(problems)
    usual = DEFAULT_OUTPUT if DEFAULT_OUTPUT.is_dir() else None
    folder = lora_dir or usual
    return Sources(
        LoraLibrary(folder, observer=terminal),
        EmbeddingLibrary(options.embedding_dir, observer=terminal),
        Wildcards(options.wildcard_dir),
        [folder] if folder else [],
    )


def _run_folder(epochs: str, sources: Sources) -> Path:
    """The folder of the run in ``RUN`` or ``RUN:1-15``, or what another program's files lie in.

    Raises:
        RunError: there are none.
    """
    from lorasmith.grids.snapshots import find_run, find_snapshots, split_run

    run = find_run(split_run(epochs)[0], sources.folders)
    find_snapshots(run)
    if len(own := runs_at(run.absolute())) == 1:
        return own[0]
    return run if run.is_dir() else run.parent


def _run_prompts(folder: Path, prompt: str | None) -> RunPrompts | None:
    from lorasmith.training.samples import read_run

    return read_run(folder, prompt)


def _vary_the_prompt(sides: Iterable[str]) -> bool:
    from lorasmith.grids.axis_types import axis_type_of

    kinds = [axis_type_of(text) for text in sides]
    return any(kind is not None and kind.name == "prompt" for kind in kinds)


def _base(prompt: str | None, run: RunPrompts | None, options: GridOptions) -> CellSpec:
    """What the axes vary: the run's own words, or the defaults, under the options that are given.

    Raises:
        UserError: a size cannot be read.
    """
    from lorasmith.core.text import parse_size
    from lorasmith.grids.axes import CellSpec
    from lorasmith.models.reference import ModelReference
    from lorasmith.sampling.request import ImageRequest

    request = run.request if run else ImageRequest(prompt or "")
    said = {name: value for name in _PLAIN if (value := getattr(options, name)) is not None}
    if "sampler" in said and "schedule" not in said:
        said["schedule"] = "automatic"
    if options.size is not None:
        try:
            said["width"], said["height"] = parse_size(options.size)
        except ValueError as error:
            raise UserError.of("--size", str(error), "write it as 512x768") from None
    request = replace(request, hires=_hires(options) or request.hires, **said)
    model = run.model if run else ModelReference()
    model = replace(
        model,
        path=options.model or model.path,
        # A run's VAE goes with its model.
        vae=options.vae or (None if options.model else model.vae),
        prediction=options.prediction or model.prediction,
        zero_terminal_snr=options.zero_terminal_snr or model.zero_terminal_snr,
    )
    return CellSpec(request, model)


def _hires(options: GridOptions) -> Hires | None:
    """
    Raises:
        UserError: something is said of a second pass that there is not.
    """
    from lorasmith.sampling.request import Hires

    given = {name: getattr(options, f"hires_{name}") for name in ("denoise", "steps", "upscaler")}
    said = {name: value for name, value in given.items() if value is not None}
    if options.hires is not None:
        return Hires(options.hires, **said)
    if said:
        problems = [Problem(f"--hires-{name}", "does nothing without --hires") for name in said]
        raise UserError(problems)
    return None


def _lay_out(base: CellSpec, sides: dict[str, str], sources: Sources) -> Grid:
    from lorasmith.core.errors import collect_problems
    from lorasmith.grids.axis_types import parse_axis
    from lorasmith.grids.plan import lay_out

    problems: list[Problem] = []
    axes = [
        collect_problems(problems, functools.partial(parse_axis, option, text, sources))
        for option, text in sides.items()
    ]
    whole = [axis for axis in axes if axis is not None]
    grid = collect_problems(problems, lambda: lay_out(base, whole, sources))
    if problems or grid is None:
        raise UserError(problems)
    return grid


def _place(specs: Sequence[CellSpec], options: GridOptions) -> Place:
    """From the headers of the models.

    Raises:
        UserError: a model, VAE, layer or device is not there, or the device lacks the precision.
    """
    from lorasmith.core.errors import collect_problems
    from lorasmith.models.families.table import check_clip_skip
    from lorasmith.models.flops import unet_weights
    from lorasmith.models.open import read_architecture
    from lorasmith.tensors.device import choose_device, choose_precision

    problems: list[Problem] = []
    device = collect_problems(problems, lambda: choose_device(options.device))
    dtypes: dict[str, torch.dtype] = {}
    for model in dict.fromkeys(spec.model for spec in specs):
        opened = functools.partial(read_architecture, model)
        architecture = collect_problems(problems, opened)
        if architecture is None or device is None:
            continue
        for skip in {s.request.clip_skip or 1 for s in specs if s.model.path == model.path}:
            collect_problems(
                problems, functools.partial(check_clip_skip, architecture, skip, "clip_skip")
            )
        weights = unet_weights(architecture.denoiser)
        choice = functools.partial(choose_precision, options.precision, device, weights)
        if (chosen := collect_problems(problems, choice)) is not None:
            dtypes[str(model.path)] = chosen.dtype
    if problems or device is None:
        raise UserError(problems)
    return Place(device, dtypes)


def _draw(work: Work, terminal: Terminal) -> Report:
    from lorasmith.grids.gallery import PAGE
    from lorasmith.grids.plan import Identity
    from lorasmith.grids.run import make_grid
    from lorasmith.models.load import load_model

    place, sources = work.place, work.sources

    def load(reference: ModelReference) -> DiffusionModel:
        dtype = place.dtypes[str(reference.path)]
        model = load_model(reference, dtype=dtype, device=place.device)
        for note in model.notes:
            terminal(Notice("warning", note))
        return model

    identity = Identity(
        sources.library,
        {path: str(dtype) for path, dtype in place.dtypes.items()},
        [folder for folder in (work.options.embedding_dir, work.options.wildcard_dir) if folder],
    )
    controls = Controls()
    with stop_on_interrupt(controls), contextlib.closing(terminal):
        try:
            return make_grid(
                work.grid,
                work.out,
                identity,
                sources=sources,
                load=load,
                observer=terminal,
                controls=controls,
            )
        except Stopped as stop:
            kept = f"{work.out / PAGE} shows what is done; the same command goes on from there"
            raise Stopped(f"stopped; {kept}") from stop


def _told(report: Report, out: Path) -> str:
    from lorasmith.grids.gallery import PAGE, SHEET, SMALL_SHEET

    kept = f", {report.kept} were there already" if report.kept else ""
    lines = [f"{quantity(report.drawn, 'picture')} drawn in {report.seconds:.0f} s{kept}"]
    if report.drawn:
        done, rows = report.switches, report.in_rows
        lines.append(
            f"loaded: base models {done.models}, VAEs {done.vaes}, LoRAs {done.loras}  "
            f"(row by row it would be {rows.models}, {rows.vaes}, {rows.loras})"
        )
    lines.append(f"to compare them, open in a browser: {out / PAGE}")
    lines.append(f"on one sheet: {out / SHEET} and {SMALL_SHEET}")
    return "\n".join(lines)
