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

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from lorasmith.advice.pick_advice import Facts
from lorasmith.advice.pick_chart import save_chart
from lorasmith.advice.pick_run import Candidate, PickRun, open_run
from lorasmith.advice.pick_sheet import save_sheet
from lorasmith.advice.pick_verdict import Verdict, judge
from lorasmith.core.events import Controls, Notice, Observer, ignore
from lorasmith.core.files import check_writable, write_json
from lorasmith.measures.records import DRAWING_STEPS, VERSION, Measures, MeasuresFile

IMAGES = 6


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


def pick(
    path: Path,
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
    run = open_run(path, images, plain)
    folder = run.folder.path / "pick"
    check_writable(folder)
    known = MeasuresFile(folder / _key(run, clip))
    missing = [one for one in run.candidates if known.get(one.fingerprint) is None]
    if missing:
        # Takes seconds to import, and an answer that is known should not.
        from lorasmith.advice.pick_measure import measure

        observer(Notice("info", _work(run, missing)))
        measure(
            run,
            missing,
            known,
            clip=clip,
            device=device,
            precision=precision,
            observer=observer,
            controls=controls or Controls(),
        )
    measures = tuple(found for one in run.candidates if (found := known.get(one.fingerprint)))
    verdict = judge(measures, facts_of(run, captions_alone=not plain))
    chart = folder / "chart.png"
    save_chart(chart, run, measures, verdict)
    sheet = save_sheet(folder / "candidates.png", run, known.folder, verdict)
    picked = Picked(run, measures, verdict, chart, sheet, known.folder)
    write_json(folder / "verdict.json", record(picked))
    return picked


def facts_of(run: PickRun, *, captions_alone: bool = True) -> Facts:
    """What a verdict needs to know of the run besides its measures.

    Args:
        captions_alone: whether no plain prompts were given.
    """
    eval_set, shown = run.eval_set, run.uses_per_step
    uses = [
        None if one.step is None or shown is None else one.step * shown for one in run.candidates
    ]
    return Facts(
        labels=tuple(one.label for one in run.candidates),
        epochs=tuple(one.epoch for one in run.candidates),
        uses=tuple(uses),
        held_out=eval_set.held_out,
        images=eval_set.trained,
        trigger=eval_set.trigger.text,
        no_trigger=eval_set.trigger.source,
        regularised=eval_set.regularised,
        captions_alone=captions_alone and bool(eval_set.plain) and not eval_set.regularised,
        state=run.state,
        drawings=len(eval_set.prompts),
        changed=run.changed,
        lr=run.settings.optimizer.lr,
    )


def record(picked: Picked) -> dict[str, Any]:
    """What ``--json`` prints. Keys are only ever added."""
    run, verdict = picked.run, picked.verdict
    folder = run.folder.path
    return {
        "version": VERSION,
        "run": str(folder),
        "state": run.state,
        "trigger": run.eval_set.trigger.text,
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
                "state": judged.state,
                "reasons": list(judged.reasons),
                "measures": measures.record(),
            }
            for one, judged, measures in zip(
                run.candidates, verdict.judged, picked.measures, strict=True
            )
        ],
        "chart": str(picked.chart),
        "sheet": str(picked.sheet) if picked.sheet is not None else None,
    }


def _key(run: PickRun, clip: Path | None) -> str:
    """Changes with whatever makes the numbers of two snapshots not comparable."""
    sample, model = run.settings.sample, run.settings.model
    drawn = (sample.negative, sample.steps, sample.cfg, sample.sampler, sample.size, DRAWING_STEPS)
    facts = (VERSION, run.eval_set.fingerprint, drawn, run.base, model.clip_skip, clip)
    return blake2b(repr(facts).encode(), digest_size=6).hexdigest()


def _work(run: PickRun, missing: list[Candidate]) -> str:
    eval_set = run.eval_set
    drawings = 3 * len(eval_set.prompts) + len(eval_set.plain)
    loss = f"{eval_set.held_out or len(eval_set.dataset.items)} "
    kind = "held-out" if eval_set.held_out else "training"
    before = len(run.candidates) - len(missing)
    known = f" ({before} known already)" if before else ""
    return (
        f"measuring {len(missing)} snapshots{known}: for each the loss on {loss}{kind} pictures at "
        f"three strengths, and {drawings} drawings"
    )
