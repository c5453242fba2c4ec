"""The audit of a dataset: every rule looks, and what the user wants to hear no more of is set
aside."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lorasmith.advice.audit.finding import SEVERITIES, Finding, Rule
from lorasmith.advice.audit.ids import finding_id
from lorasmith.advice.audit.inputs import AuditInputs
from lorasmith.advice.audit.rules import RULES
from lorasmith.core.errors import Problem, UserError
from lorasmith.core.events import Progress
from lorasmith.core.text import did_you_mean
from lorasmith.curation.changes.plan import name_within


@dataclass(frozen=True, slots=True)
class Skipped:
    """A rule that could not look.

    Args:
        missing: what it needs, a sentence.
    """

    rule: Rule
    missing: str


@dataclass(frozen=True, slots=True)
class Audit:
    """
    Args:
        folders: that were looked at.
        images: how many training images there are.
        rules: that looked.
        findings: the gravest first, and of a rule together.
        ignored: what was found, and is not to be told.
        skipped: rules that could not look.
        roots: the folders of the datasets; see :attr:`.Collection.roots`.
    """

    folders: tuple[Path, ...]
    images: int
    rules: tuple[Rule, ...]
    findings: tuple[Finding, ...]
    ignored: tuple[Finding, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    roots: tuple[Path, ...] = ()

    def name_of(self, path: Path) -> str:
        """A file as it is told: within the dataset; of several datasets its whole path."""
        return name_within(self.roots, str(path))

    def by_rule(self) -> dict[Rule, list[Finding]]:
        """The findings under their rules, in the order in which they are shown."""
        rules = {rule.id: rule for rule in self.rules}
        groups: dict[Rule, list[Finding]] = defaultdict(list)
        for finding in self.findings:
            groups[rules[finding.rule]].append(finding)
        return dict(groups)

    def ignoring(self, ids: Collection[str]) -> Audit:
        """With these ids ignored, and no others; errors are told whatever is ignored."""
        findings = _gravest_first((*self.findings, *self.ignored))
        return replace(
            self,
            findings=tuple(one for one in findings if not is_ignored(one, ids)),
            ignored=tuple(one for one in findings if is_ignored(one, ids)),
        )

    def not_looked_at(self) -> dict[str, list[str]]:
        """Titles of the rules that could not look, by what they lack."""
        titles: dict[str, list[str]] = defaultdict(list)
        for one in self.skipped:
            titles[one.missing].append(one.rule.title.lower())
        return dict(titles)

    def counts(self) -> dict[str, int]:
        """Findings by severity."""
        return {
            severity: sum(finding.severity == severity for finding in self.findings)
            for severity in SEVERITIES
        }

    def to_json(self) -> dict[str, Any]:
        return {
            "folders": [str(path) for path in self.folders],
            "images": self.images,
            "counts": self.counts(),
            "findings": [finding.to_json() for finding in self.findings],
            "ignored": [finding.to_json() for finding in self.ignored],
            "skipped": [{"rule": one.rule.id, "missing": one.missing} for one in self.skipped],
        }


def audit_dataset(
    inputs: AuditInputs, ignored: Collection[str] = (), rules: Sequence[Rule] = RULES
) -> Audit:
    """Let every rule look at a dataset.

    Args:
        ignored: ids of rules, or of single findings, that are not to be told.
        rules: that look.

    Raises:
        DatasetError: a folder is not there, or holds no images.
        Stopped: by the inputs' controls.
    """
    findings: list[Finding] = []
    skipped: list[Skipped] = []
    for done, rule in enumerate(rules):
        inputs.controls.check("stopped while looking at the dataset")
        inputs.observer(Progress("looking at the dataset", done, len(rules)))
        missing = rule.missing(inputs) if rule.missing is not None else ""
        if rule.slow and rule.id in ignored:
            missing = "it is ignored, and takes long"
        if missing:
            skipped.append(Skipped(rule, missing))
        else:
            findings += findings_of(rule, inputs)
    inputs.observer(Progress("looking at the dataset", len(rules), len(rules)))
    images, folders = len(inputs.images), tuple(inputs.folders)
    everything = Audit(
        folders,
        images,
        tuple(rules),
        tuple(findings),
        skipped=tuple(skipped),
        roots=inputs.collection.roots,
    )
    return everything.ignoring(ignored)


def _gravest_first(findings: Iterable[Finding]) -> list[Finding]:
    """In the order of the rules otherwise."""
    order = {severity: number for number, severity in enumerate(SEVERITIES)}
    places = {rule.id: number for number, rule in enumerate(RULES)}
    return sorted(
        findings, key=lambda one: (order[one.severity or "note"], places.get(one.rule, len(places)))
    )


def findings_of(rule: Rule, inputs: AuditInputs) -> list[Finding]:
    """What one rule finds, with all that is the rule's own filled in."""
    complete = []
    for finding in rule.find(inputs):
        # The page of rules says every severity that there is.
        assert rule.otherwise or finding.severity in (None, rule.severity), rule.id
        key = finding_id(rule, finding, inputs.collection.roots)
        command = finding.command
        if not command and rule.fix is not None:
            command = inputs.command("audit", "--fix", key)
        complete.append(
            replace(
                finding,
                rule=rule.id,
                severity=finding.severity or rule.severity,
                threshold=rule.threshold if finding.threshold is None else finding.threshold,
                why=finding.why or rule.why,
                command=command,
                key=key,
            )
        )
    return complete


def check_ids(ids: Iterable[str], audit: Audit, option: str) -> None:
    """
    Raises:
        UserError: an id is of no rule, and of nothing that was found.
    """
    keys = {finding.key for finding in (*audit.findings, *audit.ignored)}
    known = [*(rule.id for rule in audit.rules), *keys]
    problems = [
        Problem(
            option,
            f"{one!r} is the id of no rule, and of nothing that was found",
            did_you_mean(one, known, "ids stand beside the findings"),
        )
        for one in ids
        if one not in known
    ]
    if problems:
        raise UserError(problems)


def check_ignorable(ids: Iterable[str], audit: Audit) -> None:
    """
    Raises:
        UserError: an id is of what forbids training, which no run can ignore.
    """
    errors = {rule.id for rule in audit.rules if rule.severity == "error"}
    errors |= {one.key for one in audit.findings if one.severity == "error"}
    hint = "mend it, or remove the pictures; the audit says how"
    problems = [
        Problem("ignore", f"{one!r} forbids training, and cannot be ignored", hint)
        for one in ids
        if one in errors
    ]
    if problems:
        raise UserError(problems)


def is_ignored(finding: Finding, ids: Collection[str]) -> bool:
    """Whether ids name a finding, or its rule; never of an error, at which every run stops."""
    return finding.severity != "error" and (finding.rule in ids or finding.key in ids)
