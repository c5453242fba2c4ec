"""Which snapshot of a run to keep: measure what was not measured yet, judge, and show.

::

    RUN/pick/
      KEY/measures.json    of each snapshot; another KEY for other images, prompts or options
      KEY/*.png            the drawings
      chart.png            the measures over the run
      candidates.png       the drawings, a row for each snapshot
      verdict.json         what `--json` prints
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lorasmith.advice.pick_charts import save_chart, save_sheet
from lorasmith.advice.pick_run import Candidate, PickRun, open_run
from lorasmith.core.events import Controls, Notice, Observer, Progress, ignore
from lorasmith.core.files import check_writable, write_json
from lorasmith.measures.records import (
    AT_LEISURE,
    FULL,
    HIGH,
    LOW,
    VERSION,
    Measures,
    MeasuresFile,
)
from lorasmith.measures.verdict import WORDS, Facts, State, Verdict, judge
from lorasmith.training.early_stopping import extent_of
from lorasmith.training.kinds.table import kind_of
from lorasmith.training.setup.base_model import model_reference
from lorasmith.training.setup.length import showings_of

if TYPE_CHECKING:
    from lorasmith.config.schema import TrainSettings
    from lorasmith.measures.eval_set import EvalSet
    from lorasmith.measures.snapshot import SnapshotMeasurer
    from lorasmith.models.diffusion_model import DiffusionModel
    from lorasmith.models.families.table import Architecture

IMAGES = 6
STYLES: dict[State, str] = {"under": "yellow", "well": "green", "over": "red"}
BAR_WIDTH = 10
FULL_BLOCK, REST = "█", "·"
HUGE = 9.99


@dataclass(frozen=True, slots=True)
class Picked:
    """What was found; ``measures`` and the verdict's judgements are in the candidates' order.

    Args:
        chart, sheet: files; ``None`` for a sheet without drawings.
    """

    run: PickRun
    measures: tuple[Measures, ...]
    verdict: Verdict
    chart: Path
    sheet: Path | None
    folder: Path

    @property
    def kept(self) -> Candidate:
        return self.run.candidates[self.verdict.keep]

    @property
    def path(self) -> Path:
        """The LoRA to keep."""
        return self.kept.path


def pick(
    path: str | Path,
    *,
    images: int = IMAGES,
    plain: Sequence[str] = (),
    clip: Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> Picked:
    """Judge all snapshots of a run; those that were measured before are not measured again.

    Args:
        path: the run's folder; the run may still be going on.
        images: drawings of each kind for each snapshot, at least 2.
        plain: prompts that the LoRA should leave alone, in place of captions without the trigger.
        clip: a folder with a CLIP image encoder to compare drawings by.
        device, precision: where and in what to compute, as for training.

    Raises:
        UserError: it is no run, has no snapshot, or its images or base model are gone.
        LoraFileError: a snapshot is damaged.
        Stopped: on a stop request; what was measured is kept.
    """
    run = open_run(Path(path), images, plain, AT_LEISURE)
    folder = run.folder.path / "pick"
    check_writable(folder)
    measures_file = MeasuresFile(folder / measures_key(run.settings, run.eval_set, run.base, clip))
    remaining = [one for one in run.candidates if measures_file.get(one.fingerprint) is None]
    if remaining:
        observer(Notice("info", _work(run, remaining)))
        model = load_base(run.settings, run.architecture, device, precision)
        _measure(run, model, remaining, measures_file, clip, observer, controls or Controls())
    measures = tuple(
        entry for one in run.candidates if (entry := measures_file.get(one.fingerprint))
    )
    verdict = judge(measures, facts_of(run, captions_alone=not plain))
    chart = folder / "chart.png"
    save_chart(chart, run, measures, verdict)
    sheet = save_sheet(folder / "candidates.png", run, measures_file.folder, verdict)
    picked = Picked(run, measures, verdict, chart, sheet, measures_file.folder)
    write_json(folder / "verdict.json", record(picked))
    return picked


# Measuring takes seconds to import, and an answer that is known should not: hence imports inside.


def load_base(
    settings: TrainSettings, architecture: Architecture, device: str, precision: str
) -> DiffusionModel:
    """The base model as it is trained on, but for where and in what it computes."""
    from lorasmith.models.load import load_model
    from lorasmith.tensors.device import choose_device, choose_precision

    place, weights = choose_device(device), architecture.denoiser_weights
    dtype = choose_precision(precision, place, weights).dtype
    return load_model(model_reference(settings), dtype=dtype, device=place)


def snapshot_measurer(
    settings: TrainSettings,
    eval_set: EvalSet,
    model: DiffusionModel,
    folder: Path,
    clip: Path | None,
    observer: Observer,
    controls: Controls,
) -> SnapshotMeasurer:
    """Measures at leisure; what is the same for all snapshots is worked out here.

    Args:
        folder: for the drawings.
    """
    from lorasmith.measures.features import ClipImages
    from lorasmith.measures.snapshot import SnapshotMeasurer
    from lorasmith.training.objective import build_objective
    from lorasmith.training.samples import sample_request

    return SnapshotMeasurer(
        model,
        build_objective(settings, model).schedule,
        eval_set,
        extent=extent_of(settings, AT_LEISURE),
        open_snapshot=partial(kind_of(settings).on_model, settings),
        drawing=sample_request(settings.sample, "", 0, model.architecture.native_resolution),
        background=settings.data.background,
        folder=folder,
        content=ClipImages(clip) if clip is not None else None,
        observer=observer,
        controls=controls,
    )


def _measure(
    run: PickRun,
    model: DiffusionModel,
    remaining: Sequence[Candidate],
    measures_file: MeasuresFile,
    clip: Path | None,
    observer: Observer,
    controls: Controls,
) -> None:
    """Measure snapshots, and put each into ``measures_file`` as soon as that is done."""
    measurer = snapshot_measurer(
        run.settings, run.eval_set, model, measures_file.folder, clip, observer, controls
    )
    parts, total = itertools.count(1), len(remaining) * measurer.parts

    def part_done() -> None:
        observer(Progress("measuring", next(parts), total))

    observer(Progress("measuring", 0, total))
    for one in remaining:
        measures = measurer.measure(one.path, one.drawings, part_done)
        measures_file.put(one.fingerprint, measures)


def facts_of(run: PickRun, *, captions_alone: bool = True) -> Facts:
    """What a verdict needs to know of the run besides its measures.

    Args:
        captions_alone: whether no plain prompts were given.
    """
    eval_set, per_step = run.eval_set, run.uses_per_step
    uses = [
        None if one.step is None or per_step is None else one.step * per_step
        for one in run.candidates
    ]
    return Facts(
        labels=tuple(one.label for one in run.candidates),
        epochs=tuple(one.epoch for one in run.candidates),
        uses=tuple(uses),
        usual_uses=showings_of(eval_set.trained, run.settings.train),
        held_out=eval_set.held_out,
        images=eval_set.trained,
        trigger=", ".join(eval_set.triggers),
        regularised=eval_set.regularised,
        captions_alone=captions_alone and bool(eval_set.plain) and not eval_set.regularised,
        state=run.state,
        drawings=len(eval_set.prompts),
        changed=run.changed,
        lr=run.settings.optimizer.full_lr,
    )


def record(picked: Picked) -> dict[str, Any]:
    """What ``--json`` prints. Keys are only ever added."""
    run, verdict = picked.run, picked.verdict
    folder = run.folder.path
    return {
        "version": VERSION,
        "run": str(folder),
        "state": run.state,
        "trigger": ", ".join(run.eval_set.triggers),
        "held_out_pictures": run.eval_set.held_out,
        "keep": {
            "file": picked.kept.path.name,
            "label": picked.kept.label,
            "epoch": picked.kept.epoch,
            "step": picked.kept.step,
            "state": verdict.judged[verdict.keep].state,
        },
        "run_is": verdict.run_is,
        "summary": verdict.summary,
        "advice": list(verdict.advice),
        "limits": list(verdict.limits),
        "snapshots": [
            {
                "file": one.path.name,
                "label": one.label,
                "epoch": one.epoch,
                "step": one.step,
                "state": judgement.state,
                "reasons": list(judgement.reasons),
                "measures": measures.record(),
            }
            for one, judgement, measures in zip(
                run.candidates, verdict.judged, picked.measures, strict=True
            )
        ],
        "chart": str(picked.chart),
        "sheet": str(picked.sheet) if picked.sheet is not None else None,
    }


def measures_key(
    settings: TrainSettings, eval_set: EvalSet, base: str, clip: Path | None = None
) -> str:
    """Changes with whatever makes the numbers of two snapshots not comparable.

    Args:
        base: the base model's fingerprint.
    """
    sample, model, steps = settings.sample, settings.model, AT_LEISURE.drawing_steps
    recipe = (sample.negative, sample.steps, sample.cfg, sample.sampler, sample.size, steps)
    to_noise = settings.loss.zero_terminal_snr
    read = (model.clip_skip, model.max_tokens, model.vae, model.prediction, to_noise)
    facts = (VERSION, eval_set.fingerprint, recipe, base, read, clip)
    return blake2b(repr(facts).encode(), digest_size=6).hexdigest()


def _work(run: PickRun, remaining: list[Candidate]) -> str:
    eval_set = run.eval_set
    strengths = extent_of(run.settings, AT_LEISURE).strengths
    drawings = len(strengths) * len(eval_set.prompts) + len(eval_set.plain)
    at = " at three strengths" if len(strengths) > 1 else ""
    loss = f"{eval_set.held_out or len(eval_set.dataset.items)} "
    kind = "held-out" if eval_set.held_out else "training"
    before = len(run.candidates) - len(remaining)
    already = f" ({before} known already)" if before else ""
    return (
        f"measuring {len(remaining)} snapshots{already}: for each the loss on {loss}{kind} "
        f"pictures{at}, and {drawings} drawings"
    )


def show(picked: Picked, console: Console) -> None:
    """A row for each snapshot, the verdict, what to change, and where the files are."""
    console.print(table(picked))
    verdict = picked.verdict
    console.print()
    console.print(Text(verdict.summary, style="bold"))
    for line in verdict.advice:
        console.print(f"→ {line}", highlight=False, markup=False)
    for line in verdict.limits:
        console.print(f"• {line}", style="dim", highlight=False, markup=False)
    console.print()
    files = {"keep": picked.kept.path, "chart": picked.chart, "drawings": picked.sheet}
    for name, path in files.items():
        if path is not None:
            console.print(f"{name:9} {path}", highlight=False, markup=False, soft_wrap=True)


def table(picked: Picked) -> Table:
    """A row for each snapshot."""
    has_drawings = any(one.drawn for one in picked.measures)
    plain = any(one.plain_moved is not None for one in picked.measures)
    kind = "held-out loss" if picked.run.eval_set.held_out else "loss"
    view = Table(box=None, pad_edge=False, header_style="bold")
    view.add_column("snapshot")
    strengths = [key for key in (LOW, FULL, HIGH) if key in picked.measures[0].loss]
    at = f" at\n{'   '.join(strengths)}" if len(strengths) > 1 else ""
    view.add_column(f"{kind}{at}", justify="right")
    if has_drawings:
        view.add_column("likeness")
        view.add_column("copying", justify="right")
    if plain:
        view.add_column("leak", justify="right")
    view.add_column("", no_wrap=True)
    rows = zip(picked.run.candidates, picked.measures, picked.verdict.judged, strict=True)
    for number, (candidate, one, judgement) in enumerate(rows):
        cells = [candidate.label, "  ".join(_share(one.loss[key]) for key in strengths)]
        if has_drawings:
            cells += [bar(one.likeness.get(FULL)), _plain(one.copying)]
        if plain:
            cells.append(_plain(one.plain_moved))
        mark = " ◀ keep" if number == picked.verdict.keep else ""
        state = Text(WORDS[judgement.state] + mark, style=STYLES[judgement.state])
        view.add_row(*cells, state)
    return view


def bar(value: float | None) -> str:
    """``███████··· 72%``"""
    if value is None:
        return ""
    filled = round(min(max(value, 0.0), 1.0) * BAR_WIDTH)
    return f"{FULL_BLOCK * filled}{REST * (BAR_WIDTH - filled)} {_share(value).strip('+')}"


def _share(value: float) -> str:
    return f"{value:+.0%}" if abs(value) < HUGE else "ruined"


def _plain(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if value < HUGE else "huge"
