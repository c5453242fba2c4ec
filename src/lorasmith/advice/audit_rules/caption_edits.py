"""What mends captions: the operations of ``dataset edit``, as a plan and as a command."""

from __future__ import annotations

import os
import shlex
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lorasmith.advice.audit.finding import Finding
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.collection import Collection
from lorasmith.curation.edit.operations import shown
from lorasmith.curation.edit.plan_edit import plan_edit
from lorasmith.curation.filter_language.words import at_place

if TYPE_CHECKING:
    from lorasmith.advice.audit.inputs import AuditInputs


def remove_tags(inputs: AuditInputs, findings: Sequence[Finding]) -> Plan:
    """A plan that takes the findings' tags out of the captions of their images."""
    return edit_plan(inputs, findings, lambda finding: [f"remove={tag}" for tag in finding.tags])


def edit_plan(
    inputs: AuditInputs,
    findings: Sequence[Finding],
    operations: Callable[[Finding], Iterable[str]],
    collection: Collection | None = None,
) -> Plan:
    """A plan that edits the captions of the findings' images; an image that several findings are
    about gets the operations of each, in their order.

    Args:
        operations: of a finding, as :func:`.operations.read_operations` takes them.
        collection: where the images are, if that is not among the training images.
    """
    collection = collection or inputs.collection
    by_image: dict[Path, list[str]] = defaultdict(list)
    for finding in findings:
        for path in finding.images:
            by_image[path] += operations(finding)
    groups: dict[tuple[str, ...], set[Path]] = defaultdict(set)
    for path, some in by_image.items():
        groups[tuple(dict.fromkeys(some))].add(path)
    plan = Plan(f"audit --fix {findings[0].rule}", collection.roots)
    for edits, paths in groups.items():
        images = [image for image in collection.images if image.path in paths]
        part = plan_edit(
            replace(collection, images=images),
            edits,
            observer=inputs.observer,
            controls=inputs.controls,
        )
        plan.changes += part.changes
        plan.warnings += part.warnings
        plan.skipped += part.skipped
    return plan


def edit_command(inputs: AuditInputs, *operations: str, where: str = "") -> str:
    """The ``lorasmith dataset edit`` that does the same by hand.

    Args:
        where: a filter for the images.
    """
    options = [word for operation in operations for word in shlex.split(shown(operation))]
    return inputs.command("edit", *options, *(["--where", where] if where else []))


def edit_images_command(inputs: AuditInputs, operation: str, images: Sequence[Path]) -> str:
    """The ``lorasmith dataset edit`` of a few images by their places; "" where they lie in several
    datasets, of which a filter cannot tell one."""
    roots = {image.root for image in inputs.of_paths(images)}
    if len(roots) > 1:
        return ""
    # Other datasets may have images with these places.
    inside = tuple(os.path.join(root, "") for root in roots)
    folders = [
        folder
        for folder in inputs.folders
        if os.path.join(os.path.abspath(folder), "").startswith(inside)
    ]
    where = " or ".join(at_place(inputs.name_of(path)) for path in images)
    options = shlex.split(shown(operation))
    return inputs.command("edit", *options, "--where", where, folders=folders)


def train_command(inputs: AuditInputs, setting: str) -> str:
    """The ``lorasmith train`` of these folders with another setting."""
    folders = map(str, inputs.folders)
    return shlex.join(["lorasmith", "train", *folders, "--set", setting])
