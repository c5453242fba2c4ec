"""Processes of the program that have imported everything already: forks of one that did.

What a command that takes torch does first, five seconds of processor time, is to import. Here one
process takes them, and is asked over a socket for forks that go on as ``python -m MODULE`` would.
What these start in turn is warm, too. Windows has no fork: there all are started as ever.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import io
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

MODULES = (
    "uvicorn", "lorasmith.cli.main", "lorasmith.cli.train", "lorasmith.studio.app",
    "lorasmith.studio.serve", "lorasmith.jobs.training", "lorasmith.training.run",
    "lorasmith.training.plan", "lorasmith.training.samples", "lorasmith.jobs.engine.draw",
    "lorasmith.jobs.engine.tag", "lorasmith.jobs.picture_settings", "lorasmith.jobs.queue.ledger",
    "lorasmith.grids.run",
)  # fmt: skip
READY = b"ready\n"
_SIZE = struct.Struct("I")
_real = subprocess.Popen
_address: str | None = None
"""Of the process that forks."""


class Warm:
    """What :class:`subprocess.Popen` is of other processes, as far as the program asks."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        stdin: int | None = None,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        start_new_session: bool = False,
    ) -> None:
        self.args = command
        self.returncode: int | None = None
        self.stdin: IO[bytes] | None = None
        self.stdout: IO[bytes] | None = None
        self.stderr: IO[bytes] | None = None
        with contextlib.ExitStack() as its:
            handles: list[int] = []
            for number, given in enumerate((stdin, stdout, stderr)):
                if given == subprocess.PIPE:
                    read, write = os.pipe()
                    handle, own = (read, write) if number == 0 else (write, read)
                    file = os.fdopen(own, "wb" if number == 0 else "rb")
                    setattr(self, ("stdin", "stdout", "stderr")[number], file)
                    its.callback(os.close, handle)
                elif given == subprocess.DEVNULL:
                    handle = os.open(os.devnull, os.O_RDWR)
                    its.callback(os.close, handle)
                elif given == subprocess.STDOUT:
                    handle = handles[1]
                elif given is None:
                    handle = number
                else:
                    handle = given if isinstance(given, int) else given.fileno()
                handles.append(handle)
            asked = {
                "command": [str(word) for word in command],
                "cwd": os.fspath(cwd or os.getcwd()),
                "env": dict(os.environ if env is None else env),
                "session": start_new_session,
            }
            self._line = _ask(asked, handles)
        (self.pid,) = _SIZE.unpack(_received(self._line, _SIZE.size))

    def poll(self) -> int | None:
        """Safe from several threads, as the line is looked at before it is taken away."""
        if self.returncode is None and select.select([self._line], [], [], 0)[0]:
            said = self._line.recv(_SIZE.size, socket.MSG_PEEK)
            # Nobody is left to say how it ended where the process that forks was killed.
            status = struct.unpack("i", said)[0] if len(said) == _SIZE.size else -signal.SIGKILL
            self.returncode = status
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            select.select([self._line], [], [], left)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def popen(command: Sequence[str], **options: Any) -> Any:
    """``subprocess.Popen``, warm where the command is ``python -m lorasmith…``."""
    if sys.platform == "win32" or not _is_ours(command):
        return _real(command, **options)
    return Warm(command, **options)


def end_all() -> None:
    """At once, what was begun and has not ended."""
    if _address is not None:
        with _ask({"end": True}, [0, 1, 2]) as line:
            _received(line, len(READY))


def _is_ours(command: Sequence[str]) -> bool:
    if isinstance(command, str):
        return False
    words = [str(word) for word in command[:3]]
    return words[:2] == [sys.executable, "-m"] and words[2].split(".")[0] == "lorasmith"


def _ask(what: dict[str, Any], handles: Sequence[int]) -> socket.socket:
    line = socket.socket(socket.AF_UNIX)
    line.connect(_address or begin())
    data = json.dumps(what).encode()
    socket.send_fds(line, [_SIZE.pack(len(data))], handles)
    line.sendall(data)
    return line


def _received(line: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = line.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data


@functools.cache
def begin() -> str:
    """The address of a process that forks, begun if there is none; it ends with this one."""
    folder = tempfile.TemporaryDirectory(prefix="warm-")
    address = str(Path(folder.name) / "s")
    program = f"import sys; sys.path[:] = {sys.path!r}; from tests import warm; warm.main()"
    process = _real(
        [sys.executable, "-c", program, address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # Ctrl-C in a terminal is for the tests.
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def end() -> None:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
        folder.cleanup()

    atexit.register(end)
    with process.stdout:
        assert process.stdout.readline() == READY
    global _address
    _address = address
    return address


class _Patched(_real):  # type: ignore[misc, valid-type]
    def __new__(cls, command: Any, *_: Any, **options: Any) -> Any:
        if cls is _Patched and _is_ours(command):
            return Warm(command, **options)
        return super().__new__(cls)


def main() -> None:
    """Fork as often as asked; comes back, to end, in none but the process itself."""
    global _address
    _address = sys.argv[1]
    gc.disable()
    for module in MODULES:
        importlib.import_module(module)
    gc.freeze()
    asked = _forks(_address)
    if asked is None:
        return
    gc.enable()
    subprocess.Popen = _Patched  # type: ignore[misc, assignment]
    module, *arguments = asked
    sys.argv = [module, *arguments]
    status: object = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        status = ended.code
    if status is None or isinstance(status, int):
        # As Python ends, but for the second in which it takes all modules apart.
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status or 0)
    sys.exit(status)  # type: ignore[arg-type]


def _forks(address: str) -> list[str] | None:
    """In a fork, the words after ``-m``; ``None`` when nobody asks any more."""
    ended, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    os.write(1, READY)
    os.close(1)
    os.open(os.devnull, os.O_WRONLY)
    lines: dict[int, socket.socket] = {}
    while True:
        watched: list[Any] = [0, ended, listener]
        ready = select.select(watched, [], [])[0]
        if ended in ready:
            os.read(ended, 1000)
            _reap(lines)
        if 0 in ready:
            _kill(lines)
            return None
        if listener not in ready:
            continue
        line = listener.accept()[0]
        size, handles, _, _ = socket.recv_fds(line, _SIZE.size, 3)
        asked = json.loads(_received(line, _SIZE.unpack(size)[0]))
        if asked.get("end"):
            _kill(lines)
            line.sendall(READY)
        elif pid := os.fork():
            lines[pid] = line
            line.sendall(_SIZE.pack(pid))
        else:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for other in (listener, line, *lines.values()):
                other.close()
            os.close(ended)
            os.close(wake)
            if asked["session"]:
                os.setsid()
            for number, handle in enumerate(handles):
                os.dup2(handle, number)
            for handle in handles:
                os.close(handle)
            _open_streams()
            os.chdir(asked["cwd"])
            os.environ.clear()
            os.environ.update(asked["env"])
            words: list[str] = asked["command"][2:]
            return words
        for handle in handles:
            os.close(handle)


def _open_streams() -> None:
    """Those of Python know of the handles that were there before."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = io.TextIOWrapper(
            io.open(number, "wb" if number else "rb", closefd=False),  # noqa: SIM115, UP020
            encoding="utf-8",
            errors="backslashreplace" if number == 2 else "strict",
            line_buffering=number == 2,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _reap(lines: dict[int, socket.socket]) -> None:
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            with lines.pop(found[0]) as line, contextlib.suppress(OSError):
                line.sendall(struct.pack("i", os.waitstatus_to_exitcode(found[1])))


def _kill(lines: dict[int, socket.socket]) -> None:
    for pid in list(lines):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    while lines:
        pid, status = os.waitpid(-1, 0)
        with lines.pop(pid) as line, contextlib.suppress(OSError):
            line.sendall(struct.pack("i", os.waitstatus_to_exitcode(status)))
