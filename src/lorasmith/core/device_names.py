"""Names of devices, as users write them; without PyTorch."""

from __future__ import annotations

import re

from lorasmith.core.errors import SettingsError

ALIASES = {"gpu": "auto", "nvidia": "cuda", "rocm": "cuda", "hip": "cuda", "amd": "cuda",
           "intel": "xpu", "metal": "mps"}  # fmt: skip
KNOWN = "auto, or cpu, cuda, cuda:1, mps, xpu"
_NAME = re.compile(r"auto|cpu|(?:cuda|mps|xpu)(?::\d{1,4})?")


def device_text(name: str) -> str:
    """PyTorch's name for what is meant: "cuda" for "nvidia"; others, and "auto", as they are."""
    return ALIASES.get(name.strip().lower(), name.strip())


def check_device_name(name: str) -> str:
    """As :func:`device_text`.

    Raises:
        SettingsError: it is no device's name.
    """
    text = device_text(name)
    if not text:
        raise SettingsError.of("device", "is empty", f"use {KNOWN}")
    if not _NAME.fullmatch(text):
        raise SettingsError.of("device", f"{name!r} is no device", f"use {KNOWN}")
    return text
