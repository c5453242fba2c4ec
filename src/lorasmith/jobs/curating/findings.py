"""What the last audit found, as cards, and how each is mended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from lorasmith.advice.audit.finding import Rule, Severity
from lorasmith.advice.audit.ignored import ignored_in, remember
from lorasmith.advice.audit.last import LastAudit, last_audit
from lorasmith.core.errors import DatasetError, Problem, UserError
from lorasmith.core.events import Controls, ignore
from lorasmith.curation.changes.plan import Plan
from lorasmith.jobs.curating.changes import ChangesRecord, Part, answer, apply, command_line
from lorasmith.jobs.curating.open_dataset import OpenDataset
from lorasmith.jobs.dataset.audit import AuditRequest

KINDS = ("character", "style", "concept", "object")
_MOST_IMAGES = 500
_MOST_PASSES = 8
"""A fix that clears nothing must end, too."""
_RESOLUTIONS = range(64, 8193)


class FindingRecord(BaseModel):
    """One finding; see :class:`.finding.Finding`.

    Args:
        id: what mends or ignores it.
        title, why, source: its rule's.
        images: names of those that it concerns and that are there, the first of many.
        mendable: the rule has a fix; ``safe``: it loses nothing.
        command: what mends it in a shell; "" where only a person can.
    """

    id: str
    rule: str
    title: str
    severity: Severity
    what: str
    why: str
    source: str
    images: list[str]
    tags: list[str]
    value: float | None
    threshold: float | None
    unit: str
    mendable: bool
    safe: bool
    command: str


class FindingsRecord(BaseModel):
    """
    Args:
        looked: whether there was an audit.
        time: when, in Unix seconds.
        changed: files were changed since.
        images: it looked at.
        kind, resolution: what it was told.
        skipped: what rules that could not look lack, by their titles.
    """

    looked: bool
    time: float | None = None
    changed: bool = False
    images: int = 0
    kind: str | None = None
    resolution: int | None = None
    findings: list[FindingRecord] = []
    ignored: list[FindingRecord] = []
    skipped: dict[str, str] = {}


def findings(dataset: OpenDataset) -> FindingsRecord:
    """What the last audit of this folder found."""
    audit = _last(dataset)
    if audit is None:
        return FindingsRecord(looked=False)
    titles = {name: rule.title for name, rule in _rules().items()}
    kind, resolution = _question(audit)
    told, quiet = audit.parted(set(ignored_in([dataset.root])))
    return FindingsRecord(
        looked=True,
        time=audit.time,
        changed=dataset.changed_since(audit.time),
        images=audit.images,
        kind=kind,
        resolution=resolution,
        findings=_records(dataset, told),
        ignored=_records(dataset, quiet),
        skipped={titles[rule]: what for rule, what in audit.skipped.items() if rule in titles},
    )


def mend(dataset: OpenDataset, ids: Sequence[str], part: Part) -> ChangesRecord:
    """What mending findings, or all of rules, changes.

    Args:
        ids: of findings or rules, or "all-safe".

    Raises:
        UserError: nothing has that id any more, or only a person can mend it.
    """
    audit = _last(dataset)
    kind, resolution = _question(audit) if audit is not None else (None, None)
    options: dict[str, Any] = {"kind": kind, "resolution": resolution}
    request = AuditRequest(folders=[dataset.folder], fix=list(ids), **options)

    def work_out() -> Plan:
        return _planned(dataset, request)

    words = ["audit", str(dataset.folder)]
    words += ["--kind", kind] if kind else []
    words += ["--resolution", str(resolution)] if resolution else []
    line = command_line([*words, *(f"--fix {one}" for one in ids)])
    done = answer(dataset, ("mend", *ids, kind, resolution), work_out, part, line)
    entry, conflicts = done.entry, len(done.conflicts)
    # What had to wait for other changes to the same files.
    for _ in range(_MOST_PASSES if entry is not None else 0):
        if conflicts:
            break
        rest = _rest(dataset, request)
        if not rest.changes:
            break
        conflicts = len(apply(dataset, rest, entry).conflicts)
    return done.model_copy(update={"version": dataset.version})


def _planned(dataset: OpenDataset, request: AuditRequest) -> Plan:
    """Without what would read or change files that links lead to from here, and nobody may."""
    plan = request.mending(ignore, Controls()).plan
    outside = {one.group for one in plan.changes if not dataset.allows(one.path)}
    plan.changes = [one for one in plan.changes if one.group not in outside]
    return plan


def _rest(dataset: OpenDataset, request: AuditRequest) -> Plan:
    """What is left to mend; nothing where an id is of nothing any more."""
    try:
        plan = _planned(dataset, request)
    except UserError:
        return Plan("", request.folders)
    plan.leave_out_infeasible()
    return plan


def ignore_findings(
    dataset: OpenDataset, ids: Sequence[str], *, again: bool = False
) -> FindingsRecord:
    """Hear no more of findings or rules, or hear of them again.

    Raises:
        DatasetError: an id is of nothing that was found, or of what forbids training.
    """
    shown = findings(dataset)
    known = {one for each in (*shown.findings, *shown.ignored) for one in (each.id, each.rule)}
    known.update(ignored_in([dataset.root]))
    grave = {
        one for each in shown.findings if each.severity == "error" for one in (each.id, each.rule)
    }
    problems = [Problem(one, "was not found") for one in ids if one not in known]
    problems += [
        Problem(one, "forbids training, and cannot be ignored", "mend it")
        for one in ids
        if one in grave and not again
    ]
    if problems:
        raise DatasetError(problems)
    if again:
        remember([dataset.root], unignore=ids)
    else:
        remember([dataset.root], ids)
    return findings(dataset)


def audit_command(
    dataset: OpenDataset,
    kind: Literal["character", "style", "concept", "object"] | None,
    resolution: int | None,
) -> list[str]:
    """The words after ``lorasmith`` of an audit."""
    words = ["dataset", "audit", str(dataset.folder)]
    words += ["--kind", kind] if kind else []
    return words + (["--resolution", str(resolution)] if resolution else [])


def _rules() -> dict[str, Rule]:
    # With SciPy, of which a server that shows no findings has no need.
    from lorasmith.advice.audit.rules import RULES

    return {rule.id: rule for rule in RULES}


def _last(dataset: OpenDataset) -> LastAudit | None:
    audit = last_audit(dataset.root)
    return audit if audit is not None and audit.folder == dataset.folder else None


def _question(audit: LastAudit) -> tuple[Any, int | None]:
    """Kind and resolution, as far as the file says what they may be."""
    kind, resolution = (audit.question.get(name) for name in ("kind", "resolution"))
    is_size = type(resolution) is int and resolution in _RESOLUTIONS
    return kind if kind in KINDS else None, resolution if is_size else None


def _records(dataset: OpenDataset, values: Sequence[Mapping[str, Any]]) -> list[FindingRecord]:
    rules = _rules()
    records = []
    for value in values:
        rule = rules.get(value["rule"])
        if rule is None:  # Of another version of lorasmith.
            continue
        names = _names(dataset, value["images"])
        if value["images"] and not names:  # All of them are gone.
            continue
        records.append(
            FindingRecord(
                **{**value, "images": names},
                title=rule.title,
                source=rule.source,
                unit=rule.unit,
                mendable=rule.fix is not None,
                safe=rule.safe,
            )
        )
    return records


def _names(dataset: OpenDataset, paths: Sequence[str]) -> list[str]:
    names = []
    for path in paths[:_MOST_IMAGES]:
        place = Path(path)
        if place.is_relative_to(dataset.folder):
            name = place.relative_to(dataset.folder).as_posix()
            names += [name] if dataset.has(name) else []
    return names
