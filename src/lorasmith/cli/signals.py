"""Signals: Ctrl-C once asks for a clean stop, twice stops at once; a terminal whose window is
closed, and a system that shuts down, ask for the same; SIGUSR1 asks a training for samples and a
snapshot."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from lorasmith.core.events import Controls, Request
from lorasmith.core.terminal import echo

# SIGTERM is how a system that shuts down, or a container, asks for the same; SIGHUP a terminal that
# goes away; SIGBREAK is Ctrl-Break on Windows. Where a system has them.
_NAMES = ("SIGINT", "SIGTERM", "SIGBREAK", "SIGHUP")
_HANGUP = getattr(signal, "SIGHUP", None)
STOPPING = "stopping after this step (Ctrl-C again stops at once)"
# Windows' numbers of Ctrl-C and Ctrl-Break, which come as signals, too.
_KEYS = (0, 1)


@contextlib.contextmanager
def stop_on_interrupt(controls: Controls, says: str = STOPPING) -> Iterator[None]:
    """While the block runs, Ctrl-C asks ``controls`` to stop; a second one interrupts the block.

    Args:
        says: what is printed then.

    Raises:
        KeyboardInterrupt: in the block, at the second signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Only the main thread gets signals.
        return
    terminals = [handle for handle in (0, 1, 2) if _is_terminal(handle)]
    hung_up = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal hung_up
        if number == _HANGUP:
            hung_up = True
            _leave(terminals)
        elif controls.stopping and not hung_up:
            raise KeyboardInterrupt
        if controls.stopping:
            return  # Who closes a window sends it more than once, and is not impatient.
        controls.stop()
        with contextlib.suppress(OSError):  # where nohup hides that the terminal is gone
            echo(f"\n{says}", err=True)

    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    # Under nohup a terminal may go away, and nothing stops.
    ignored = _HANGUP is not None and signal.getsignal(_HANGUP) == signal.SIG_IGN
    before = {n: signal.signal(n, ask) for n in numbers if n != _HANGUP or not ignored}
    try:
        with _stop_on_closed_window(controls):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_terminal(handle: int) -> bool:
    try:
        return os.isatty(handle)
    except OSError:
        return False


def _leave(terminals: list[int]) -> None:
    """Let what is printed vanish: to a terminal that is gone, printing fails."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for handle in terminals:
        os.dup2(nowhere, handle)
    os.close(nowhere)


@contextlib.contextmanager
def _stop_on_closed_window(controls: Controls) -> Iterator[None]:
    """On Windows, ask ``controls`` to stop when the console's window is closed, or the user logs
    off. Windows ends the process as soon as the answer is given, or after 5 seconds: so the answer
    waits until the block is done."""
    if sys.platform == "win32":
        import ctypes

        done = threading.Event()

        def ask(event: int) -> int:
            if event in _KEYS:
                return 0  # The next handler's: Python's own, which makes signals of them.
            controls.stop()
            done.wait()
            return 1

        handler = ctypes.WINFUNCTYPE(ctypes.c_int, ctypes.c_uint)(ask)
        kernel = ctypes.windll.kernel32
        kernel.SetConsoleCtrlHandler(handler, 1)
        try:
            yield
        finally:
            done.set()
            kernel.SetConsoleCtrlHandler(handler, 0)
    else:
        yield


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
