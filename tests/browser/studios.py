"""Studios for the tests of pages: as the command line starts them, or sooner, by a fork."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests import warm

PATIENCE = 120
"""Seconds for what a studio does at once, on a computer that is busy."""


@dataclass(frozen=True)
class Server:
    """A running studio."""

    address: str
    workspace: Path
    process: subprocess.Popen[bytes] | warm.Warm

    def page(self, address: str = "/", /, **query: object) -> str:
        return self.address + address.lstrip("/") + ("?" + urlencode(query) if query else "")

    def kill(self) -> None:
        """At once, as a crash does."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def end(self) -> None:
        """As Ctrl-C does; nothing, where it has ended."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(PATIENCE)


def start_command(workspace: Path, begin: Callable[..., Any] = subprocess.Popen) -> Server:
    """``lorasmith studio``."""
    process = begin(
        [sys.executable, "-m", "lorasmith", "studio", str(workspace), "--no-browser"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    for line in process.stdout:
        if found := re.search(r"The studio is at (\S+)", line.decode()):
            return Server(found[1], workspace, process)
    raise AssertionError("the studio ended before it was there")


def start(workspace: Path) -> Server:
    """The same, whose modules have been read already: most of the seconds of a start are theirs,
    and of what it starts in turn."""
    return start_command(workspace, warm.popen)
