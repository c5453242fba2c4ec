"""What unit tests of several folders share."""

from __future__ import annotations

import pytest


@pytest.fixture
def lycoris_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that make LyCORIS' networks: it keeps the last preset on its class, where those
    that come later would find it."""
    from lycoris.kohya import LycorisNetworkKohya

    for name, value in vars(LycorisNetworkKohya).items():
        if name.isupper():
            monkeypatch.setattr(LycorisNetworkKohya, name, value)
