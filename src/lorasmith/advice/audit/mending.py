"""What ``--fix`` does: the plans of several rules as one, which the journal can take back whole."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from lorasmith.advice.audit.audit import findings_of, is_ignored
from lorasmith.advice.audit.finding import Finding, Rule
from lorasmith.advice.audit.inputs import AuditInputs
from lorasmith.core.errors import Problem, UserError
from lorasmith.core.text import did_you_mean, quantity
from lorasmith.curation.changes.change import Change
from lorasmith.curation.changes.plan import Plan

ALL_SAFE = "all-safe"


@dataclass(frozen=True, slots=True)
class Mending:
    """
    Args:
        plan: of what can be done at once.
        later: changes that are left, since others come first to the same files.
    """

    plan: Plan
    later: int


def plan_fixes(
    inputs: AuditInputs, ids: Sequence[str], ignored: Collection[str], rules: Sequence[Rule]
) -> Mending:
    """Mend what was found.

    Args:
        ids: of rules and single findings; "all-safe" is every rule whose fix is safe.
        ignored: ids that are left alone, unless a finding is named by its own.
        rules: that there are.

    Raises:
        UserError: an id is of nothing, or of what cannot be mended by a command.
        Stopped: by the inputs' controls.
    """
    chosen = _chosen_rules(ids, rules)
    plan = Plan(" ".join(["audit", *(f"--fix {one}" for one in ids)]), inputs.collection.roots)
    touched: set[str] = set()
    later = 0
    problems = []
    for rule in chosen:
        found = findings_of(rule, inputs)
        findings = [one for one in found if _is_due(one, ids, ignored)]
        known = {one.key for one in found}
        for one in ids:
            if one.startswith(f"{rule.id}:") and one not in known:
                problems.append(Problem("fix", f"nothing with the id {one!r} is found any more"))
        if findings and rule.fix is not None:
            part = rule.fix(inputs, findings)
            later += _merge(plan, part, touched)
    if problems:
        raise UserError(problems)
    if later:
        what = f"{quantity(later, 'more change')} to the same files will follow"
        plan.notes.append(what)
    return Mending(plan, later)


def _chosen_rules(ids: Iterable[str], rules: Sequence[Rule]) -> list[Rule]:
    by_id = {rule.id: rule for rule in rules}
    chosen: dict[str, Rule] = {}
    problems = []
    for one in ids:
        name = one.partition(":")[0]
        if one == ALL_SAFE:
            chosen |= {rule.id: rule for rule in rules if rule.safe}
        elif name not in by_id:
            hint = did_you_mean(name, [*by_id, ALL_SAFE], "ids stand beside the findings")
            problems.append(Problem("fix", f"{one!r} is the id of no rule and no finding", hint))
        elif by_id[name].fix is None:
            what = f"{name!r} is mended by no command of its own"
            hint = "see what the audit says beside the findings"
            problems.append(Problem("fix", what, hint))
        else:
            chosen[name] = by_id[name]
    if problems:
        raise UserError(problems)
    # In the order of the table: what is thrown away first needs no more care.
    return [rule for rule in rules if rule.id in chosen]


def _is_due(finding: Finding, ids: Sequence[str], ignored: Collection[str]) -> bool:
    if finding.key in ids:
        return True
    by_rule = finding.rule in ids or ALL_SAFE in ids
    return by_rule and not is_ignored(finding, ignored)


def _merge(plan: Plan, part: Plan, touched: set[str]) -> int:
    """Take over the changes that no earlier one stands in the way of.

    Returns:
        how many are left.
    """
    groups: dict[str, list[Change]] = {}
    for change in part.changes:
        groups.setdefault(change.group, []).append(change)
    before = set(touched)
    left = 0
    for group, changes in groups.items():
        places = {group, *(str(change.path) for change in changes)}
        places |= {str(change.target) for change in changes if change.target is not None}
        if places & before:
            left += len(changes)
        else:
            plan.changes += changes
            touched |= places
    # Regularisation images may lie in a dataset of their own.
    plan.roots = tuple(dict.fromkeys((*plan.roots, *part.roots)))
    plan.problems += part.problems
    plan.warnings += part.warnings
    plan.notes += part.notes
    plan.skipped += part.skipped
    plan.when_done += part.when_done
    return left
