"""Resident memory of this process, as Linux counts it."""

from __future__ import annotations

from pathlib import Path


def resident(name: str) -> int:
    """``VmRSS`` now, or ``VmHWM``, its peak, in bytes."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in text.splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def forget_peak() -> None:
    """From now on the peak is that of what follows."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
