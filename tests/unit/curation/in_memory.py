"""Collections that lie on no disk."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from lorasmith.curation.collection import Collection, CollectionImage
from lorasmith.curation.facts import ImageFacts
from lorasmith.data.captions import split_tags

ROOT = Path("/data/Pictures")
PLAIN = ImageFacts(
    "", 512, 512, 1000, "PNG", 1, "", False, 0, bytes(48), bytes(576), 0.0, 0.5, 0.2, 0.5
)


def image(name: str, caption: str = "", folder: str = "") -> CollectionImage:
    """One whose caption is never read."""
    made = CollectionImage(ROOT / folder / name, folder, ROOT)
    made._caption, made._tags = caption, split_tags(caption)
    return made


def facts(**changes: object) -> ImageFacts:
    return replace(PLAIN, **changes)


@dataclass
class InMemory(Collection):
    """Remembers what it was asked for that takes time."""

    known: dict[Path, ImageFacts] = field(default_factory=dict)
    headers_read: int = 0
    measured: set[str] = field(default_factory=set)

    def sizes(self, images=None) -> dict[Path, tuple[int, int]]:
        self.headers_read += 1
        paths = [one.path for one in (self.images if images is None else images)]
        known = {path: self.known[path] for path in paths}
        return {path: (one.width, one.height) for path, one in known.items() if one.width}

    def measure(
        self, images=None, observer=None, controls=None, *, closely=False
    ) -> dict[Path, ImageFacts]:
        paths = [one.path for one in (self.images if images is None else images)]
        self.measured |= {path.name for path in paths}
        return {path: self.known[path] for path in paths}


def collection(
    images: Iterable[CollectionImage], known: dict[str, ImageFacts] | None = None
) -> InMemory:
    """
    Args:
        known: facts by name of the file; all others are 512 x 512.
    """
    images = list(images)
    all_facts = {one.path: (known or {}).get(one.path.name, PLAIN) for one in images}
    return InMemory((ROOT,), (ROOT,), images, known=all_facts)
