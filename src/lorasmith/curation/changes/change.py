"""One file that a plan changes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lorasmith.data.caption_files import decode

Kind = Literal["write", "new", "move", "remove", "folder"]


@dataclass(frozen=True, slots=True)
class Change:
    """
    Args:
        kind: "write" gives it another content, "new" makes it, "move" another name, "remove" puts
            it into the trash; "folder" makes an empty folder.
        path: the file.
        target: of a move.
        before: bytes of a caption that is rewritten.
        after: bytes that a caption gets.
        what: of an image: what is done to it ("cropped to 512x512"), or why it goes.
        make: writes the new content of an image to the path that it is given.
        link: what a symbolic link is to lead to.
        image: the one that it is done for: with other changes for images of this name it is done,
            or left out.
    """

    kind: Kind
    path: Path
    target: Path | None = None
    before: bytes | None = None
    after: bytes | None = None
    what: str = ""
    make: Callable[[Path], None] | None = None
    link: str | None = None
    image: Path | None = field(default=None, compare=False)

    @property
    def group(self) -> str:
        """The same for changes that are done together."""
        return os.path.abspath(self.image.with_suffix("") if self.image is not None else self.path)

    def texts(self) -> tuple[str, str] | None:
        """A caption before and after; ``None`` of other changes."""
        if self.after is None and self.before is None:
            return None
        return decode(self.before or b"")[0], decode(self.after or b"")[0]

    def to_json(self) -> dict[str, Any]:
        value: dict[str, Any] = {"change": self.kind, "path": str(self.path)}
        if self.target is not None:
            value["target"] = str(self.target)
        if self.what:
            value["what"] = self.what
        if (texts := self.texts()) is not None:
            value["before"], value["after"] = texts
        return value
