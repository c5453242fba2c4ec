"""What libraries tell their makers, switched off."""

from __future__ import annotations

import os


def switch_off_telemetry() -> None:
    """Before onnxruntime is imported, which else writes an identifier of this computer into the
    user's caches (``Microsoft/DeveloperTools``) and, in some builds, sends what it does. Who has
    set the variable is heeded."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
