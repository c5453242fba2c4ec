"""The commands' console on standard output, for tables and bars."""

from __future__ import annotations

from lorasmith.core.progress import TextConsole

console = TextConsole()
