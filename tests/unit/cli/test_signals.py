"""What closes a terminal stops a training as Ctrl-C does: with its state saved, and once."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from lorasmith.cli import signals
from lorasmith.cli.signals import stop_on_interrupt
from lorasmith.core.events import Controls

TRAINING = """
import os, sys, time, traceback
from pathlib import Path
from lorasmith.cli.signals import stop_on_interrupt
from lorasmith.core.events import Controls
from lorasmith.core.terminal import echo

def tell(kind, error, trace):  # the terminal may be gone
    Path(sys.argv[1]).write_text("".join(traceback.format_exception(error)))

sys.excepthook = tell
controls = Controls()
with stop_on_interrupt(controls):
    echo("training")
    for _ in range(500):
        if controls.stopping:
            break
        time.sleep(0.01)
    time.sleep(0.1)  # the second signal comes meanwhile
    echo("to a terminal that is gone")
    Path(sys.argv[1]).write_text("saved" if controls.stopping else "ran to its end")
"""


def in_terminal(path: Path) -> tuple[int, subprocess.Popen[bytes]]:
    """A training in a terminal of its own, and that terminal's other end."""
    pty = pytest.importorskip("pty")
    own, its = pty.openpty()

    def begin() -> None:
        os.login_tty(its)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which the tests' own nohup would hide

    child = subprocess.Popen([sys.executable, "-c", TRAINING, str(path)], preexec_fn=begin)
    os.close(its)
    said = b""
    while b"training" not in said:
        said += os.read(own, 1000)
    return own, child


def test_a_terminal_that_is_closed_stops_with_all_saved(tmp_path: Path) -> None:
    own, child = in_terminal(tmp_path / "end")
    os.close(own)  # the system sends SIGHUP; a shell would send its own after it
    child.send_signal(signal.SIGHUP)
    child.send_signal(signal.SIGTERM)  # as systemd does at a log-out
    assert child.wait(60) is not None
    assert (tmp_path / "end").read_text(encoding="utf-8") == "saved"
    assert child.returncode == 0


def test_under_nohup_a_terminal_may_go(tmp_path: Path) -> None:
    end = tmp_path / "end"
    script = f"import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n{TRAINING}"
    script = script.replace("range(500)", "range(5)")
    child = subprocess.Popen([sys.executable, "-c", script, str(end)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"training\n"
    child.send_signal(signal.SIGHUP)
    child.communicate()
    assert end.read_text(encoding="utf-8") == "ran to its end"


def test_ctrl_break_stops_as_ctrl_c_does(monkeypatch: pytest.MonkeyPatch) -> None:
    # Windows alone has it; another signal that nobody uses stands for it.
    monkeypatch.setattr(signal, "SIGBREAK", signal.SIGUSR2, raising=False)
    controls = Controls()
    with stop_on_interrupt(controls):
        os.kill(os.getpid(), signal.SIGUSR2)
    assert controls.stopping
    assert signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL


def test_a_windows_console_that_is_closed_waits_for_the_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handlers: list[object] = []

    def set_handler(handler: object, add: int) -> None:
        handlers.append(handler) if add else handlers.remove(handler)

    kernel = SimpleNamespace(SetConsoleCtrlHandler=set_handler)
    monkeypatch.setattr(signals, "sys", SimpleNamespace(platform="win32"))
    monkeypatch.setattr(ctypes, "WINFUNCTYPE", ctypes.CFUNCTYPE, raising=False)
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=kernel), raising=False)
    controls, order = Controls(), []
    with stop_on_interrupt(controls):
        (handler,) = handlers
        assert callable(handler)
        assert handler(0) == 0  # Ctrl-C is a signal
        assert not controls.stopping

        def close() -> None:
            assert handler(2) == 1
            order.append("the process may end")

        closing = threading.Thread(target=close)
        closing.start()
        while not controls.stopping:
            closing.join(0.01)
        order.append("saved")
    closing.join(60)
    assert order == ["saved", "the process may end"]
    assert not handlers
