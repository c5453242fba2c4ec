"""``train.stop = "best"``: a run's snapshots are judged while it goes on, and it ends when there is
nothing more to gain.

Each is measured from its file, on the base model, with images, prompts and noise as ``pick`` has
them, only fewer of them; the rules are the same (:mod:`lorasmith.measures.verdict`). Which are
measured is a function of the settings, and whether the run ends one of the files' bytes: a run that
was stopped and resumed ends where it would have ended.

::

    RUN/best/
      snapshots.json       the measures of each snapshot that was judged
      *.png                the drawings
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorasmith.config.kinds import kind_facts
from lorasmith.config.schema import TrainSettings
from lorasmith.config.sections.loss import PreservationSettings
from lorasmith.core.errors import Problem, RunError
from lorasmith.core.events import SnapshotJudged
from lorasmith.core.files import parse_json, quick_fingerprint, write_json
from lorasmith.core.text import quantity
from lorasmith.data.holdout import HeldOut
from lorasmith.data.triggers import Trigger, trigger_words
from lorasmith.measures.eval_set import EvalSet, choose_eval_set
from lorasmith.measures.records import VERSION, Extent, Measures
from lorasmith.measures.verdict import (
    PATIENCE,
    WORDS,
    Facts,
    SnapshotVerdict,
    Verdict,
    judge,
    nothing_gained,
)
from lorasmith.models.families.table import Architecture
from lorasmith.training.kinds.table import kind_of
from lorasmith.training.lr_schedules import LearningRate, learning_rate
from lorasmith.training.memory.estimates import passes as passes_of_step
from lorasmith.training.samples import sample_request
from lorasmith.training.setup.length import showings_of
from lorasmith.training.setup.preflight import RunPlan, process_count, sample_groups, should

if TYPE_CHECKING:
    from lorasmith.diffusion.schedule import NoiseSchedule
    from lorasmith.measures.snapshot import SnapshotMeasurer
    from lorasmith.models.diffusion_model import DiffusionModel
    from lorasmith.training.kinds.trained import Trained
    from lorasmith.training.setup.context import RunContext

# Of the arithmetic of a run's steps: what judging may take, that of the base model included.
SHARE = 0.15
# Prompts of each kind; with fewer, likeness is mostly chance.
DRAWINGS = 4
EXTENT = Extent(
    loss_images=4,
    references=8,
    timesteps=4,
    drawing_steps=6,
    strengths=(1.0,),
    plain_drawings=False,
)
# In passes of the denoiser: a step goes forward, and back for what flows on and for the weights (on
# the demo model's CPU it takes as long as four); the VAE's as on SD1.5 at 512 px, and one to look.
STEP_PASSES, DECODE_PASSES, ENCODE_PASSES, LOOK_PASSES = 3, 3, 2, 1
# Weights that are trained at more than this share of the highest rate have not settled.
SETTLED = 0.5


def eval_set_of(
    settings: TrainSettings,
    architecture: Architecture,
    held_out: HeldOut,
    triggers: Sequence[Trigger],
    *,
    count: int,
    extent: Extent,
    plain: Sequence[str] = (),
) -> EvalSet:
    """What snapshots of a run are measured on; arguments as of :func:`.choose_eval_set`."""
    return choose_eval_set(
        held_out.training,
        held_out.images,
        held_out.everything,
        sizes=sample_groups(settings, architecture),
        rules=settings.captions,
        triggers=trigger_words(triggers),
        separator=settings.captions.separator,
        count=count,
        extent=extent,
        plain=plain,
    )


def extent_of(settings: TrainSettings, extent: Extent) -> Extent:
    """As much of it as snapshots of the run have to be measured."""
    return extent if kind_facts(settings).has_strength else extent.without_strength()


# When


@dataclass(frozen=True, slots=True)
class JudgingCost:
    """Multiply-adds of a run's step in one process, of measuring the base model, and of measuring
    a snapshot."""

    step: float
    base: float
    snapshot: float

    def snapshots(self, done: int) -> int:
        """How many may have been judged after ``done`` steps, the last one aside."""
        free = SHARE * self.step * done - self.base - self.snapshot
        return int(free // self.snapshot)


def relative_step(preserves: PreservationSettings | None) -> float:
    """Of a step in the mean, beside one that keeps nothing of the base model's output."""
    once = passes_of_step(checkpointing=False)
    return passes_of_step(checkpointing=False, preserves=preserves) / once


def judging_cost(run_plan: RunPlan) -> JudgingCost:
    settings, architecture = run_plan.settings, run_plan.architecture
    tokens = settings.model.max_tokens + 2
    buckets = run_plan.dataset.buckets
    epoch = sum(
        len(bucket.samples) * architecture.multiply_adds(*bucket.size, tokens) for bucket in buckets
    )
    one = epoch / sum(len(bucket.samples) for bucket in buckets)
    size = settings.sample.size or architecture.native_resolution
    width, height = size if isinstance(size, tuple) else (size, size)
    guided = 2 if settings.sample.cfg > 1 else 1
    passes = guided * min(settings.sample.steps, EXTENT.drawing_steps)
    passes += DECODE_PASSES + ENCODE_PASSES + LOOK_PASSES
    drawing = passes * architecture.multiply_adds(width, height, tokens)
    measured = EXTENT.loss_images * EXTENT.timesteps * one
    held_out = measured if run_plan.held_out.images else 0.0
    plain = DRAWINGS * EXTENT.timesteps * one if trigger_words(run_plan.triggers) else 0.0
    plain_drawings = DRAWINGS * drawing if plain else 0.0
    encoded = EXTENT.references + EXTENT.loss_images * (2 if held_out else 1)
    seen = (encoded * ENCODE_PASSES + EXTENT.references * LOOK_PASSES) * one
    steps = run_plan.steps_per_epoch * process_count()
    times = len(extent_of(settings, EXTENT).loss_strengths(drawn=True))
    return JudgingCost(
        relative_step(run_plan.preserves) * STEP_PASSES * epoch / steps,
        measured + held_out + plain + plain_drawings + seen + DRAWINGS * drawing,
        times * measured + held_out + plain + DRAWINGS * drawing,
    )


def judged_steps(run_plan: RunPlan) -> tuple[int, ...]:
    """After which steps a snapshot is judged; none where the run is too short for it to pay.

    Whether one is does not depend on the run's length, but for the last.
    """
    if run_plan.settings.train.stop != "best":
        return ()
    cost, due = judging_cost(run_plan), list[int]()
    for done in range(1, run_plan.steps):
        epoch, ends = run_plan.epoch_at(done)
        if should(run_plan.settings.save, done, epoch, ends) and cost.snapshots(done) > len(due):
            due.append(done)
    return (*due, run_plan.steps) if due else ()


def oddities(run_plan: RunPlan) -> Iterator[Problem]:
    """What cannot be said before the number of steps is known."""
    if run_plan.settings.train.stop != "best":
        return
    judged = len(judged_steps(run_plan))
    if judged > PATIENCE + 1:
        return
    cost = judging_cost(run_plan)
    enough = (cost.base + (PATIENCE + 2) * cost.snapshot) / (SHARE * cost.step)
    what = f"judges {quantity(judged, 'snapshot')} of this run, too few to end it early"
    hint = f"it takes {SHARE:.0%} of a run's time, and about {enough:.0f} steps to be of use"
    if run_plan.steps > enough:
        hint = "save snapshots more often: save.every_epochs or save.every_steps"
    yield Problem('train.stop = "best"', what, hint)


# What


@dataclass(frozen=True, slots=True)
class JudgedSnapshot:
    """
    Args:
        file: its name; the file itself may be gone.
    """

    step: int
    epoch: int | None
    file: str
    measures: Measures

    @property
    def label(self) -> str:
        return f"step {self.step}" if self.epoch is None else f"epoch {self.epoch}"


@dataclass(frozen=True, slots=True)
class Best:
    """What a run has come to.

    Args:
        snapshot: the one to keep.
        nothing_gained: whether those after it say that the run may end.
    """

    snapshot: JudgedSnapshot
    verdict: Verdict
    nothing_gained: bool

    @property
    def last(self) -> SnapshotVerdict:
        """On the snapshot that was judged last."""
        return self.verdict.judged[-1]

    def why(self, done: int, steps: int) -> str:
        """Why the run has ended after ``done`` of ``steps`` steps, and what to do next time."""
        judged = self.verdict.judged
        text = [self.verdict.summary, *self.verdict.advice]
        if done < steps:
            over = all(one.state == "over" for one in judged[-PATIENCE:])
            what = "overtrained" if over else "no better"
            last = f"the last {PATIENCE} snapshots that were judged are {what}"
            text.insert(0, f"Ended after step {done} of {steps}: {last}.")
        return " ".join(text)


class EarlyStopping:
    """Judges the snapshots of one run; only the main process needs one.

    Args:
        model: with ``trained`` attached.
    """

    def __init__(
        self,
        context: RunContext,
        model: DiffusionModel,
        trained: Trained,
        schedule: NoiseSchedule,
    ) -> None:
        self._context, self._model, self._trained = context, model, trained
        self._schedule = schedule
        self._due = frozenset(judged_steps(context.run_plan))
        self._folder = context.folder.path / "best"
        run_plan = context.run_plan
        self._eval_set = eval_set_of(
            run_plan.settings,
            run_plan.architecture,
            run_plan.held_out,
            run_plan.triggers,
            count=DRAWINGS,
            extent=EXTENT,
        )
        self._measurer: SnapshotMeasurer | None = None

    def due(self, step: int) -> bool:
        """Whether the snapshot after ``step`` steps is judged."""
        return step in self._due

    def judge(self, path: Path, step: int, epoch: int | None) -> Best:
        """Judge a snapshot, and say how the run stands; a file that was measured is not measured
        again.

        Args:
            epoch: that it ends, if it does.

        Raises:
            Stopped: on a stop request; the snapshot is to be judged when the run goes on.
        """
        fingerprint = quick_fingerprint(path)
        records = [record for record in self._read() if record["step"] <= step]
        if not records or records[-1]["fingerprint"] != fingerprint:
            records = [record for record in records if record["step"] < step]
            measures = self._measure(path, fingerprint)
            place = {"step": step, "epoch": epoch, "file": path.name, "fingerprint": fingerprint}
            records.append({**place, "measures": measures.record()})
            write_json(self._folder / "snapshots.json", {"version": VERSION, "snapshots": records})
        best = self.best(step)
        assert best is not None, "there is one now"
        self._context.observer(
            SnapshotJudged(path, step, WORDS[best.last.state], list(best.last.reasons))
        )
        return best

    def best(self, step: int) -> Best | None:
        """How the run stands by what was judged in its first ``step`` steps; ``None`` for nothing.

        It is read from the file each time, so that what is decided is the same after a resume.
        """
        snapshots = [
            JudgedSnapshot(r["step"], r["epoch"], r["file"], Measures(**r["measures"]))
            for r in self._read()
            if r["step"] <= step
        ]
        if not snapshots:
            return None
        measures = [one.measures for one in snapshots]
        verdict = judge(measures, self._facts(snapshots))
        states = [one.state for one in verdict.judged]
        gained = not nothing_gained(measures, states, verdict.keep)
        rate = learning_rate(self._context.settings, self._context.steps)
        settled = has_settled(rate, snapshots[-1].step, well=states[verdict.keep] == "well")
        return Best(snapshots[verdict.keep], verdict, not gained and settled)

    def _measure(self, path: Path, fingerprint: str) -> Measures:
        # Here, as it imports diffusers, and who asks what a run would take measures nothing.
        from lorasmith.measures.snapshot import SnapshotMeasurer

        settings = self._context.settings
        with self._context.stopwatch.phase("judging"), self._trained.detached():
            if self._measurer is None:
                self._measurer = SnapshotMeasurer(
                    self._model,
                    self._schedule,
                    self._eval_set,
                    extent=extent_of(settings, EXTENT),
                    open_snapshot=partial(kind_of(settings).on_model, settings),
                    drawing=sample_request(settings.sample, "", 0),
                    background=settings.data.background,
                    folder=self._folder,
                    draw_batch=self._context.memory.draw_batch,
                    observer=self._context.observer,
                    controls=self._context.controls,
                )
            return self._measurer.measure(path, fingerprint[:12])

    def _facts(self, snapshots: Sequence[JudgedSnapshot]) -> Facts:
        run_plan, eval_set = self._context.run_plan, self._eval_set
        report = run_plan.report
        at_end = snapshots[-1].step == run_plan.steps
        per_step = report.steps.train_samples / run_plan.steps_per_epoch / eval_set.trained
        return Facts(
            labels=tuple(one.label for one in snapshots),
            epochs=tuple(one.epoch for one in snapshots),
            # A run that gains nothing before its end is not too short.
            uses=tuple(per_step * one.step for one in snapshots) if at_end else (),
            usual_uses=showings_of(eval_set.trained, run_plan.settings.train),
            held_out=eval_set.held_out,
            images=eval_set.trained,
            trigger=", ".join(eval_set.triggers),
            regularised=eval_set.regularised,
            drawings=DRAWINGS,
            lr=run_plan.settings.optimizer.full_lr,
        )

    def _read(self) -> list[dict[str, Any]]:
        file = self._folder / "snapshots.json"
        if not file.exists():
            return []
        try:
            content = parse_json(file.read_text(encoding="utf-8"))
            records: list[dict[str, Any]] = content["snapshots"]
            for record in records:
                Measures(**record["measures"])
        except (ValueError, LookupError, TypeError) as error:
            what = "is damaged: it tells what the snapshots until now were like"
            hint = "put back a copy; or go on without it: --train.stop end"
            raise RunError.of(file, what, hint) from error
        return records


def has_settled(rate: LearningRate, step: int, *, well: bool) -> bool:
    """Whether the schedule leaves nothing to wait for after ``step`` steps.

    While the rate is still to rise, nothing has been tried yet. A rate that falls lets weights
    settle, so that what was not good at a high rate may be so at a low one; what is well trained
    already need not wait for that.

    Args:
        well: whether there is something good to keep.
    """
    ahead = [rate.factor(later) for later in range(step, rate.steps)]
    now = rate.factor(max(step - 1, 0))
    if not ahead:
        return True
    if max(ahead) > now:
        return False
    highest = max(rate.factor(earlier) for earlier in range(step))
    return well or ahead[-1] > SETTLED * highest or now <= SETTLED * highest
