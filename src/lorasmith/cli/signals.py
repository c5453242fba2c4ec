"""Signals: Ctrl-C once asks for a clean stop, twice stops at once; SIGUSR1 asks a training for
samples and a snapshot."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from lorasmith.core.events import Controls, Request
from lorasmith.core.terminal import echo

# SIGTERM is how a system that shuts down, or a container, asks for the same.
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def stop_on_interrupt(controls: Controls) -> Iterator[None]:
    """While the block runs, Ctrl-C asks ``controls`` to stop; a second one interrupts the block.

    Raises:
        KeyboardInterrupt: in the block, at the second signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Only the main thread gets signals.
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if controls.stopping:
            raise KeyboardInterrupt
        controls.stop()
        echo("\nstopping after this step (Ctrl-C again stops at once)", err=True)

    before = {number: signal.signal(number, ask) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def heed_signals(controls: Controls) -> Iterator[None]:
    """As :func:`stop_on_interrupt`, and SIGUSR1, where the system has it, asks for samples and a
    snapshot after the step in progress."""
    user_signal = getattr(signal, "SIGUSR1", None)
    if user_signal is None or threading.current_thread() is not threading.main_thread():
        with stop_on_interrupt(controls):
            yield
        return

    def ask(number: int, frame: FrameType | None) -> None:
        controls.ask(Request("snapshot"))
        controls.ask(Request("samples"))

    before = signal.signal(user_signal, ask)
    try:
        with stop_on_interrupt(controls):
            yield
    finally:
        signal.signal(user_signal, before)
