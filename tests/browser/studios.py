"""Studios for the tests of pages: as the command line starts them, or sooner, by a fork."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from urllib.parse import urlencode


@dataclass(frozen=True)
class Server:
    """A running studio."""

    address: str
    workspace: Path
    process: subprocess.Popen[str] | BaseProcess

    def page(self, address: str = "/", /, **query: object) -> str:
        return self.address + address.lstrip("/") + ("?" + urlencode(query) if query else "")

    def wait(self, seconds: float = 60) -> None:
        if isinstance(self.process, BaseProcess):
            self.process.join(seconds)
            assert not self.process.is_alive()
        else:
            self.process.wait(seconds)

    def kill(self) -> None:
        """At once, as a crash does."""
        self.process.kill()
        self.wait()

    def end(self) -> None:
        """As Ctrl-C does; nothing, where it has ended."""
        if isinstance(self.process, BaseProcess):
            gone = not self.process.is_alive()
        else:
            gone = self.process.poll() is not None
        if not gone:
            assert self.process.pid is not None
            os.kill(self.process.pid, signal.SIGINT)
            self.wait()


def start_command(workspace: Path, *options: str) -> Server:
    """``lorasmith studio``."""
    command = [sys.executable, "-m", "lorasmith", "studio", str(workspace), "--no-browser"]
    process = subprocess.Popen(
        [*command, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"The studio is at (\S+)", line):
            return Server(found[1], workspace, process)
    raise AssertionError("the studio ended before it was there")


def start(workspace: Path) -> Server:
    """A process of its own, too, but one whose modules have been read already: most of the seconds
    of a start are theirs."""
    if sys.platform == "win32":
        return start_command(workspace)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lorasmith.studio.app", "uvicorn", __name__])
    ours, its = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(workspace, its), daemon=True)
    process.start()
    its.close()
    try:
        return Server(ours.recv(), workspace, process)
    except EOFError:
        raise AssertionError("the studio ended before it was there") from None


def _serve(workspace: Path, said: Connection) -> None:
    from lorasmith.studio.serve import serve

    os.setsid()
    serve(workspace, browse=said.send)
