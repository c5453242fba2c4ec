"""Ids of findings: from what they concern, so that they stay while that does.

A finding of one dataset has the same id whether that is looked at alone or with others, but for
the dataset's name behind it: ``blurred:12ab34cd`` alone, ``blurred:12ab34cd@vellu`` among several,
which may all have a ``0001.png``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

from lorasmith.advice.audit.finding import Finding, Rule
from lorasmith.core.file_names import whole_path

_BYTES = 4


def finding_id(rule: Rule, finding: Finding, roots: Sequence[Path]) -> str:
    """From the files that a finding concerns, as they lie in their dataset, and its tags; where it
    concerns none, the rule's.

    Args:
        roots: the folders of the datasets.
    """
    places = {path: _place(path, roots) for path in finding.images}
    datasets = {root for root, _ in places.values()}
    subjects = [name for _, name in places.values()]
    names = dataset_names(roots) if len(roots) > 1 else {}
    if len(datasets) > 1:  # Of several datasets at once.
        subjects = [f"{names.get(root, '')}/{name}" for root, name in places.values()]
    subjects = sorted(subjects) + [f"tag:{tag}" for tag in sorted(finding.tags)]
    if not subjects:
        return rule.id
    text = "\0".join(subjects).encode("utf-8", "surrogateescape")
    one = f"{rule.id}:{blake2b(text, digest_size=_BYTES).hexdigest()}"
    return within(one, names.get(datasets.pop(), "")) if len(datasets) == 1 else one


def within(one: str, dataset: str) -> str:
    """An id of a finding as it is among several datasets.

    Args:
        dataset: its name; "" where there is no other.
    """
    return f"{one}@{dataset}" if dataset and ":" in one else one


def dataset_names(roots: Sequence[Path]) -> dict[str, str]:
    """What datasets are told apart by: where they lie in the folder that holds all of them; "" for
    one alone. By their folders."""
    folders = [str(root) for root in roots]
    if len(folders) < 2:
        return dict.fromkeys(folders, "")
    try:
        above = os.path.commonpath(folders)
    except ValueError:  # On several drives.
        return {folder: Path(folder).as_posix() for folder in folders}
    return {folder: os.path.relpath(folder, above).replace(os.sep, "/") for folder in folders}


def _place(path: Path, roots: Sequence[Path]) -> tuple[str, str]:
    """The dataset's folder, "" for none of them, and the file's name in it, with ``/``."""
    whole = whole_path(path)
    for root in roots:
        if whole.startswith(inside := os.path.join(root, "")):
            return str(root), whole[len(inside) :].replace(os.sep, "/")
    return "", Path(path).as_posix()
