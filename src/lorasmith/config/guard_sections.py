"""Settings of what watches over a run: held-out loss and the watchdog."""

from __future__ import annotations

from lorasmith.config.fields import Section


class ValidationSettings(Section):
    """Loss on pictures that are not trained on, always with the same noise."""


class WatchdogSettings(Section):
    """What happens when numbers go wrong."""
