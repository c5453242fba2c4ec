"""Say what is wrong with a LoRA, why, and what to change: measure what was not measured yet, and
judge."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorasmith.advice.diagnose import sections
from lorasmith.advice.diagnose.causes import causes_of
from lorasmith.advice.diagnose.diagnosis import Base, Diagnosis
from lorasmith.advice.diagnose.evidence import Evidence
from lorasmith.advice.diagnose.facts import RunFacts, facts_of
from lorasmith.advice.diagnose.measuring import MEASURES, Measure, keep, kept
from lorasmith.advice.diagnose.page import write_page
from lorasmith.advice.diagnose.sections import Section
from lorasmith.advice.diagnose.subject import PROMPTS, Subject, open_subject
from lorasmith.advice.diagnose.workbench import Workbench
from lorasmith.core.events import Controls, Notice, Observer, Progress, ignore
from lorasmith.core.files import check_page, check_writable
from lorasmith.core.text import word_list
from lorasmith.measures.records import FULL, Measures
from lorasmith.measures.verdict import judge_one

if TYPE_CHECKING:
    from lorasmith.models.diffusion_model import DiffusionModel
    from lorasmith.models.reference import ModelReference

_SECONDS = 60.0


ON_OTHERS = ("snapshot", "strengths")
"""Measures that are taken on further base models."""


def diagnose(
    paths: Sequence[str | Path],
    *,
    model: str | None = None,
    models: Sequence[str] = (),
    data: Path | None = None,
    images: int = PROMPTS,
    page: Path | None = None,
    minutes: float | None = None,
    clip: Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> list[Diagnosis]:
    """
    Args:
        paths: runs, snapshots of runs, or LoRA files.
        model: the base model; each run's own where it is ``None``.
        models: further base models to try it on.
        data: the training pictures of files without a run.
        images: drawings of each kind.
        page: HTML file to be written.
        minutes: no measure is begun after them; what is left out is told.
        clip: a folder with a CLIP image encoder to compare drawings by.
        device, precision: where and in what to compute, as for training.

    Raises:
        UserError: there is nothing of a path, or its base model is gone.
        LoraFileError: a file is damaged.
        Stopped: on a stop request; what was measured is kept.
    """
    controls = controls or Controls()
    subjects = [open_subject(Path(path), model, data, images) for path in paths]
    for subject in subjects:
        check_writable(subject.kept)
    if page is not None:
        check_page(page)
    elsewhere = [
        [open_subject(Path(path), other, data, images) for path in paths] for other in models
    ]
    end = None if minutes is None else time.monotonic() + minutes * _SECONDS

    loaded: dict[ModelReference, DiffusionModel] = {}

    def bench_of(subject: Subject) -> Workbench:
        return Workbench(
            subject, clip=clip, device=device, precision=precision,
            observer=observer, controls=controls, loaded=loaded,
        )  # fmt: skip

    # A base model after the other: each is loaded once, and let go before the next.
    diagnoses = [_diagnosed(bench_of(subject), end) for subject in subjects]
    on_others = [
        [Base(one, measured(bench_of(one), end, ON_OTHERS)[0]) for one in others]
        for others in elsewhere
    ]
    if on_others:
        columns = zip(*on_others, strict=True)
        diagnoses = [
            _with_bases(found, bases) for found, bases in zip(diagnoses, columns, strict=True)
        ]
    if page is not None:
        write_page(page, diagnoses)
    return diagnoses


def _diagnosed(bench: Workbench, end: float | None) -> Diagnosis:
    """On the base model of its own."""
    results, unknown = measured(bench, end)
    subject = bench.subject
    facts = facts_of(subject, bench.observer, bench.controls)
    found = judged(subject, facts, results, unknown, _earlier(bench))
    if subject.eval_set is None:
        return found
    return dataclasses.replace(found, drawings=bench.pick_measures.folder)


def _with_bases(found: Diagnosis, others: Sequence[Base]) -> Diagnosis:
    bases = (Base(found.subject, found.results), *others)
    section = Section("models", "On other models", bases_lines(bases))
    return dataclasses.replace(found, sections=(*found.sections, section), bases=bases)


def bases_lines(bases: Sequence[Base]) -> tuple[str, ...]:
    """A sentence for each base: what it gains there, and the strengths that it needs."""
    lines = []
    for base in bases:
        grid, measures = base.results.get("strengths"), base.results.get("snapshot")
        if grid is None:
            lines.append(f"{base.name}: not measured.")
            continue
        loss, error = grid.at(1.0, 1.0)
        parts = [f"loss {loss:+.0%} ± {error:.0%} of the base's"]
        if measures is not None and measures.drawn:
            parts.append(f"likeness {max(0.0, measures.likeness[FULL]):.0%}")
        lines.append(f"{base.name}: {', '.join(parts)}; {sections.best_at(grid)}.")
    return tuple(lines)


def measured(
    bench: Workbench, end: float | None = None, only: Sequence[str] = ()
) -> tuple[dict[str, Any], list[str]]:
    """The result of each measure by its name, and what could not be measured.

    Args:
        only: names of measures; all where there are none.
        end: on the monotonic clock: no measure is begun after it.

    Raises:
        Stopped: what was measured before is kept.
    """
    subject, observer = bench.subject, bench.observer
    results: dict[str, Any] = {}
    missing: dict[str, list[str]] = {}
    for measure in MEASURES:
        if only and measure.name not in only:
            continue
        reason = measure.missing(subject)
        if reason:
            missing.setdefault(reason, []).append(measure.title)
            continue
        result = kept(measure, bench)
        waits = bool(measure.after) and measure.after not in results
        if result is None and (waits or (end is not None and time.monotonic() > end)):
            missing.setdefault("the time was over (--minutes)", []).append(measure.title)
            continue
        if result is None:
            bench.controls.check("stopped; what was measured is kept")
            result = _taken(measure, bench)
            keep(measure, bench, result)
        results[measure.name] = bench.results[measure.name] = result
    if missing and subject.run is None:
        observer(Notice("info", f"{subject.name}: not all of it can be measured"))
    return results, [f"{word_list(titles)}: {reason}" for reason, titles in missing.items()]


def _taken(measure: Measure, bench: Workbench) -> Any:
    total, count = measure.parts(bench.subject), 0

    def done() -> None:
        nonlocal count
        count += 1
        bench.observer(Progress(measure.title, count, max(total, count)))
        bench.controls.check("stopped; what was measured before is kept")

    bench.observer(Progress(measure.title, 0, total))
    return measure.take(bench, done)


def _earlier(bench: Workbench) -> list[Measures]:
    """Of snapshots of the same run that ``pick`` has measured and that came before."""
    from lorasmith.advice.pick_run import find_candidates

    subject = bench.subject
    if subject.run is None or subject.eval_set is None:
        return []
    earlier = []
    for candidate in find_candidates(subject.run, "done"):
        if candidate.fingerprint == subject.fingerprint:
            break
        if (one := bench.pick_measures.get(candidate.fingerprint)) is not None:
            earlier.append(one)
    return earlier


def judged(
    subject: Subject,
    facts: RunFacts,
    results: dict[str, Any],
    unknown: Sequence[str] = (),
    earlier: Sequence[Measures] = (),
) -> Diagnosis:
    """What the results say."""
    evidence = Evidence(
        facts,
        results.get("snapshot"),
        results.get("strengths"),
        results.get("captions"),
        results.get("shown"),
        results.get("drawn"),
    )
    verdict = None
    if evidence.measures is not None:
        labels = ["an earlier snapshot"] * len(earlier)
        verdict = judge_one(evidence.measures, earlier, labels)
    return Diagnosis(
        subject,
        facts,
        evidence,
        verdict,
        tuple(causes_of(evidence)),
        sections.sections_of(subject, results),
        tuple(unknown),
        results,
    )
