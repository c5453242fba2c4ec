"""The one kind of rich console here; see :mod:`lorasmith.core.terminal`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from lorasmith.core.terminal import clean


class TextConsole(Console):
    """Shows every text as it is: no markup, no emoji codes, no colours of its own for numbers, and
    a sign in the place of each control character, wherever in a table or bar it stands."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            # Rich's own control segments move the cursor for bars.
            yield segment if segment.control else segment._replace(text=clean(segment.text))
