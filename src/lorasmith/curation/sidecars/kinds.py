"""Which tags of a dataset are artists, characters …: what side-cars said when images came in.

Captions do not say it, and the side-cars stay where the images came from; so it is remembered in
``.lorasmith/tag_kinds.json``, for ``dataset edit --prune artist``. The file can be deleted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from lorasmith.core.errors import RunError
from lorasmith.core.files import parse_json, write_json
from lorasmith.curation.changes.trash import STORE
from lorasmith.curation.sidecars.tags import CATEGORIES, GENERAL, Tag

NAME = "tag_kinds.json"


def remembered_kinds(root: Path) -> dict[str, set[str]]:
    """Names of tags by their kind; without general ones.

    Args:
        root: the dataset's folder.
    """
    kinds: dict[str, set[str]] = {}
    with contextlib.suppress(OSError, ValueError):
        value = parse_json((root / STORE / NAME).read_text("utf-8"))
        for kind, names in value.items() if isinstance(value, dict) else ():
            if kind in CATEGORIES and isinstance(names, list):
                kinds[kind] = {name for name in names if isinstance(name, str)}
    return kinds


def remember_kinds(root: Path, tags: Iterable[Tag]) -> None:
    """Add what is known of these tags; where that cannot be written, nothing happens."""
    kinds = remembered_kinds(root)
    before = {kind: set(names) for kind, names in kinds.items()}
    for tag in tags:
        if tag.category != GENERAL:
            kinds.setdefault(tag.category, set()).add(tag.name)
    if kinds != before:
        with contextlib.suppress(RunError):
            value = {kind: sorted(names) for kind, names in sorted(kinds.items())}
            write_json(root / STORE / NAME, value)
