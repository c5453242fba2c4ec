"""Rules about single images, and images that are alike; each a function over the inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lorasmith.advice.audit.finding import Finding, Rule
from lorasmith.advice.audit.inputs import AuditInputs
from lorasmith.core.text import quantity
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.sorting.dedupe import DuplicateGroup, find_duplicates, remove_images


def exact_duplicates(inputs: AuditInputs) -> Iterator[Finding]:
    for group in _duplicates(inputs, exact=True):
        yield _told(group, "the same file")


def _duplicates(inputs: AuditInputs, *, exact: bool) -> list[DuplicateGroup]:
    return find_duplicates(inputs.collection, inputs.images, exact=exact, controls=inputs.controls)


def _told(group: DuplicateGroup, what: str) -> Finding:
    images = (group.kept.path, *(image.path for image, _ in group.dropped))
    return Finding(f"{quantity(len(images), 'image', 'is')} {what}", images)


def unreadable(inputs: AuditInputs) -> Iterator[Finding]:
    for image in inputs.images:
        if problem := inputs.facts[image.path].problem:
            yield Finding(problem, (image.path,))


def trash(inputs: AuditInputs, findings: Sequence[Finding]) -> Plan:
    """The images of the findings into the trash, with their captions and side files."""
    plan = inputs.plan(findings[0].rule)
    reasons = {path: finding.what for finding in findings for path in finding.images}
    images = [image for image in inputs.images if image.path in reasons]
    remove_images(plan, inputs.collection, {image: reasons[image.path] for image in images})
    return plan


def keep_the_best(inputs: AuditInputs, findings: Sequence[Finding]) -> Plan:
    """The first image of each finding stays, the others go into the trash."""
    plan = inputs.plan(findings[0].rule)
    images = {image.path: image for image in inputs.images}
    reasons = {
        images[path]: f"as {inputs.name_of(finding.images[0])}, which stays"
        for finding in findings
        for path in finding.images[1:]
    }
    remove_images(plan, inputs.collection, reasons)
    return plan


IMAGE_RULES: tuple[Rule, ...] = (
    Rule(
        "unreadable",
        "Cannot be read",
        "error",
        unreadable,
        "a run stops at a damaged image, or learns its grey lower half",
        fix=trash,
    ),
    Rule(
        "same-file",
        "The same file twice",
        "warning",
        exact_duplicates,
        "what is there twice counts double, and is learned by heart",
        fix=keep_the_best,
        safe=True,
    ),
)
