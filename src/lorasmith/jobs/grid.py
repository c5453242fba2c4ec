"""The request for a grid: images in all combinations of what varies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from lorasmith.config.values import UserPath
from lorasmith.core.errors import Problem, RunError, Stopped, UserError, collect_problems
from lorasmith.core.events import Controls, Notice, Observer
from lorasmith.core.files import check_writable
from lorasmith.formats.run_paths import runs_at
from lorasmith.jobs.images import ImageJob, Place, choose_place, say_unused, suited_to
from lorasmith.jobs.request import option

if TYPE_CHECKING:
    from lorasmith.grids.axes import CellSpec
    from lorasmith.grids.plan import Grid, Identity
    from lorasmith.grids.run import Report
    from lorasmith.models.diffusion_model import DiffusionModel
    from lorasmith.models.reference import ModelReference
    from lorasmith.sampling.sources import Sources
    from lorasmith.training.samples import RunPrompts

STRENGTHS = "0.6,0.8,1"
_FIELDS = (
    "negative", "seed", "steps", "cfg", "sampler", "schedule", "clip_skip", "init", "denoise",
)  # fmt: skip


class GridRequest(ImageJob):
    """Draw PROMPT in all combinations of two or three things that vary, to compare them.

    \b
    AXIS    epoch, lora, strength, unet, te, lbw, prompt, negative, sr, triggers, seed,
            steps, cfg, "cfg rescale", eta, sampler, schedule, size, "clip skip",
            denoise, checkpoint or vae; AXIS@NAME for one of several LoRAs
    VALUES  a list (a,b,"c, d"), ranges (1-5, 1-10 (+3), 1-10 [5]); of epoch: RUN,
            RUN:1-15, RUN:1-15:2; of sr: the text that is replaced comes first;
            of triggers: a dataset's DIR, or DIR,I:J for its I-th to J-th tags

    DIR/grid.html shows the pictures in a browser. Pictures that are there are not drawn again: the
    same command goes on where it was stopped.
    """

    verb: ClassVar = "grid"

    prompt: str | None = option(None, "What to draw", positional=True, metavar="[PROMPT]")
    x: str | None = option(None, 'Columns, as "epoch=runs/zorp:1-15"', metavar="AXIS=VALUES")
    y: str | None = option(None, 'Rows, as "strength=0.6,0.8,1"', metavar="AXIS=VALUES")
    z: str | None = option(None, 'Pages, as "seed=1-3"', metavar="AXIS=VALUES")
    epochs: str | None = option(
        None,
        "A run's epochs by strengths, with its own model and sample prompt",
        metavar="RUN",
    )
    strengths: str | None = option(None, "Rows of --epochs", metavar="LIST", default_text=STRENGTHS)
    seed: int = option(0, "Seed of all pictures", metavar="N")
    out: UserPath | None = option(
        None,
        "Folder for the grid",
        metavar="DIR",
        default_text="grid; of --epochs RUN: RUN/grid",
    )
    dry_run: bool = option(False, "Say what would be drawn, and draw nothing")

    def run(self, observer: Observer, controls: Controls) -> GridReport:
        """
        Raises:
            UserError: with everything that is wrong; nothing has been written.
            Stopped: finished images stay.
        """
        work = _prepare(self, observer)
        return _plan(work) if self.dry_run else _generate(work, observer, controls)


@dataclass(frozen=True, slots=True)
class GridReport:
    """
    Args:
        folder: where the grid is.
        images: what was done.
        size: columns, rows and pages.
        missing: images that a dry run would draw.
    """

    folder: Path
    images: Report
    size: tuple[int, int, int]
    missing: int = 0


@dataclass(frozen=True, slots=True)
class _Work:
    """A grid that can be generated, checked but for the weights."""

    job: GridRequest
    grid: Grid
    sources: Sources
    place: Place
    out: Path


def _prepare(job: GridRequest, observer: Observer) -> _Work:
    """
    Raises:
        UserError: with everything that is wrong.
    """
    from lorasmith.grids.run import check_folder

    axes = _axes(job)
    problems: list[Problem] = []
    sources = collect_problems(problems, lambda: job.sources(observer))
    run, out = None, job.out or Path("grid")
    if job.epochs is not None and sources is not None:
        folder = collect_problems(problems, partial(_run_folder, job.epochs, sources))
        if folder is not None:
            axes |= collect_problems(problems, partial(_rows, job, sources)) or {}
            axes = dict(sorted(axes.items()))
            run = collect_problems(problems, partial(_run_prompts, folder, job.prompt))
            out = job.out or folder / "grid"
    # Of a run that is not there or has no prompts, which is said, it is not missing here.
    lost = job.epochs is not None and bool(problems)
    if not (lost or job.prompt is not None or run or _vary_the_prompt(axes.values())):
        problems.append(Problem("prompt", "is missing", "write what is to be drawn"))
    base = collect_problems(problems, lambda: _base(job, run))
    grid, place = None, None
    if sources is not None and base is not None:
        grid = collect_problems(problems, partial(_lay_out, base, axes, sources))
        specs = [cell.spec for cell in grid.cells] if grid else [base]
        clip_skips: dict[ModelReference, set[int]] = {}
        for spec in specs:
            clip_skips.setdefault(spec.model, set()).add(spec.request.clip_skip or 1)
        place = collect_problems(
            problems, lambda: choose_place(clip_skips.items(), job.device, job.precision)
        )
    unusable = check_folder(out)
    problems += unusable
    if not unusable and not job.dry_run:
        collect_problems(problems, lambda: check_writable(out))
    if problems or grid is None or sources is None or place is None:
        raise UserError(dict.fromkeys(problems))
    say_unused((cell.spec.request for cell in grid.cells), sources, observer)
    return _Work(job, grid, sources, place, out)


def _axes(job: GridRequest) -> dict[str, str]:
    """``AXIS=VALUES`` by side.

    Raises:
        UserError: the options do not go together.
    """
    if job.strengths and not job.epochs:
        hint = 'write --y "strength=…", or give --epochs'
        raise UserError.of("strengths", "belongs to --epochs", hint)
    if job.epochs and (job.x or job.y):
        raise UserError.of("epochs", "sets --x and --y itself; only --z can be added")
    x = f"epoch={job.epochs}" if job.epochs else job.x
    given = {side: text for side, text in {"x": x, "y": job.y, "z": job.z}.items() if text}
    if not given:
        raise UserError.of("", "nothing varies", "give --x and --y, or --epochs RUN")
    return given


def _rows(job: GridRequest, sources: Sources) -> dict[str, str]:
    """The rows of ``--epochs``: strengths, of what has any.

    Raises:
        RunError: strengths are given, and it has none.
    """
    from lorasmith.grids.snapshot_forms import form_of
    from lorasmith.grids.snapshots import find_run, find_snapshots, split_run

    assert job.epochs is not None
    run = find_run(split_run(job.epochs)[0], sources.folders)
    if form_of(find_snapshots(run)).has_strength:
        return {"y": f"strength={job.strengths or STRENGTHS}"}
    if job.strengths:
        what = f"{run} has trained no LoRA, and what it trained has no strength"
        raise RunError.of("strengths", what, "leave it out")
    return {}


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


def _vary_the_prompt(axes: Iterable[str]) -> bool:
    from lorasmith.grids.axis_types import axis_type_of

    types = [axis_type_of(text) for text in axes]
    return any(axis_type is not None and axis_type.name == "prompt" for axis_type in types)


def _base(job: GridRequest, run: RunPrompts | None) -> CellSpec:
    """What the axes vary: the run's own words, or the defaults, under the options that are given.

    Raises:
        UserError: a size cannot be read, or something is said of a second pass that there is not.
    """
    from lorasmith.grids.axes import CellSpec
    from lorasmith.models.reference import ModelReference
    from lorasmith.sampling.request import ImageRequest

    model = run.model if run else ModelReference()
    if job.given("model"):
        model = replace(model, path=job.model, vae=None)  # A run's VAE goes with its model.
    if job.vae:
        model = replace(model, vae=job.vae)
    if job.given("prediction"):
        model = replace(model, prediction=job.prediction)
    if job.zero_terminal_snr:
        model = replace(model, zero_terminal_snr=True)
    request = run.request if run else ImageRequest(job.prompt or "", **suited_to(model))
    request = replace(
        request, hires=job.second_pass(request.hires), **(job.changes(_FIELDS) | job.sides())
    )
    return CellSpec(request, model)


def _lay_out(base: CellSpec, sides: dict[str, str], sources: Sources) -> Grid:
    from lorasmith.grids.axis_types import parse_axis
    from lorasmith.grids.plan import lay_out

    problems: list[Problem] = []
    axes = [
        collect_problems(problems, partial(parse_axis, side, text, sources))
        for side, text in sides.items()
    ]
    whole = [axis for axis in axes if axis is not None]
    grid = collect_problems(problems, lambda: lay_out(base, whole, sources))
    if problems or grid is None:
        raise UserError(problems)
    return grid


def _plan(work: _Work) -> GridReport:
    from lorasmith.grids.run import GridFolder, Report, plan_work

    plan = plan_work(work.grid, GridFolder(work.out), _identity(work))
    report = Report(0, plan.kept, plan.switches, plan.in_rows, 0.0)
    return GridReport(work.out, report, _size(work.grid), len(plan.order))


def _size(grid: Grid) -> tuple[int, int, int]:
    columns, rows, pages = (len(axis.values) for axis in grid.axes)
    return columns, rows, pages


def _identity(work: _Work) -> Identity:
    from lorasmith.grids.plan import Identity

    return Identity(
        work.sources,
        {path: str(dtype) for path, dtype in work.place.dtypes.items()},
        [work.job.wildcard_dir] if work.job.wildcard_dir else [],
    )


def _generate(work: _Work, observer: Observer, controls: Controls) -> GridReport:
    from lorasmith.grids.record import PAGE
    from lorasmith.grids.run import make_grid
    from lorasmith.models.load import load_model

    place = work.place

    def load(reference: ModelReference) -> DiffusionModel:
        dtype = place.dtypes[str(reference.path)]
        model = load_model(reference, dtype=dtype, device=place.device)
        for note in model.notes:
            observer(Notice("warning", note))
        return model

    try:
        report = make_grid(
            work.grid,
            work.out,
            _identity(work),
            sources=work.sources,
            load=load,
            observer=observer,
            controls=controls,
        )
    except Stopped as stop:
        kept = f"{work.out / PAGE} shows what is done; the same command goes on from there"
        raise Stopped(f"stopped; {kept}") from stop
    return GridReport(work.out, report, _size(work.grid))
