"""TensorBoard over the runs of a folder, each under its own name, those that begin later too.

TensorBoard reads a folder and everything below it. It is given one of links to the runs' logs: so
it goes through no images, and takes runs from several places.
"""

from __future__ import annotations

import contextlib
import importlib.util
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lorasmith.config.values import UserPath
from lorasmith.core.errors import DOCTOR, RunError, UserError, collect_each
from lorasmith.core.events import Controls, Event, Notice, Observer
from lorasmith.core.installation import package_line
from lorasmith.core.text import quantity
from lorasmith.formats.run_paths import find_run_folder
from lorasmith.jobs.request import JobRequest, option
from lorasmith.jobs.runs.reader import find_runs
from lorasmith.training.runs.folder import RunFolder

HOST = "127.0.0.1"
FIRST_PORT, PORTS_TRIED = 6006, 20
# It imports TensorFlow, where that is installed.
START_SECONDS = 120.0
END_SECONDS = 5.0
LOOKS = 5.0
"""Seconds between two looks for runs that began meanwhile."""

# Ends by itself when the process that began it is gone, however that ended.
PROGRAM = """\
import signal, sys, threading
def end():
    sys.stdin.buffer.read()
    signal.raise_signal(signal.SIGTERM)
threading.Thread(target=end, daemon=True).start()
from tensorboard.main import run_main
run_main()
"""


@dataclass(frozen=True, slots=True)
class TensorBoardReady(Event):
    """TensorBoard answers at ``address``; ``runs`` are the names that runs have there, and their
    folders."""

    address: str
    runs: dict[str, str]


class TensorBoardRequest(JobRequest):
    """Show the curves of runs in TensorBoard, on this computer alone.

    RUN is a run's folder, or a folder with runs in it; without any, the current folder. Runs that
    begin later appear by themselves. Ctrl-C ends it, and no training.
    """

    verb: ClassVar = "tensorboard"

    runs: list[UserPath] = option(
        [], "Runs, or folders with runs", metavar="[RUN...]", positional=True
    )
    port: int | None = option(
        None, "Port of the address", metavar="N", ge=1, le=65535,
        default_text=f"the first free one from {FIRST_PORT} on",
    )  # fmt: skip

    def run(self, observer: Observer, controls: Controls) -> None:
        """Serve until ``controls`` ask it to stop; where it is, a :class:`TensorBoardReady` says.

        Raises:
            UserError: TensorBoard is not installed or ends by itself, there is no run with its
                logs, or the port is taken.
        """
        if importlib.util.find_spec("tensorboard") is None:
            hint = f"install it: {package_line('tensorboard')}"
            raise UserError.of("", "TensorBoard is not installed", hint)
        places = self.runs or [Path.cwd()]
        collect_each(runs_at_place, places)
        with tempfile.TemporaryDirectory(prefix="lorasmith-tensorboard-") as folder:
            links = _Links(Path(folder, "runs"))
            links.renew(places)
            _require_logs(links, places, observer)
            port = free_port(self.port)
            with _serving(Path(folder), port) as is_there:
                while not controls.stopping and not is_there():
                    time.sleep(0.1)
                if not controls.stopping:
                    named = {name: str(run) for run, name in links.names.items()}
                    observer(TensorBoardReady(f"http://{HOST}:{port}/", named))
                looked = time.monotonic()
                while not controls.stopping and is_there():
                    time.sleep(0.1)
                    if time.monotonic() - looked > LOOKS:
                        links.renew(places)
                        looked = time.monotonic()


def runs_at_place(place: Path) -> list[Path]:
    """The folders of runs that ``place`` means: one, or all that lie in it.

    Raises:
        RunError: there are none.
    """
    if found := find_runs(place):
        return [run.absolute() for run in found]
    if place.is_dir():
        what = "there is no run in this folder"
        raise RunError.of(place, what, "name the folder that `lorasmith train` printed")
    return [find_run_folder(place)]


class _Links:
    """A folder of links to the logs of runs."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self.names: dict[Path, str] = {}

    def renew(self, places: Sequence[Path]) -> None:
        """Link the runs that have logs and no link yet."""
        for place in places:
            with contextlib.suppress(RunError):  # Removed meanwhile.
                for run in runs_at_place(place):
                    if run not in self.names and RunFolder(run).tensorboard.is_dir():
                        self._add(run)

    def _add(self, run: Path) -> None:
        name = RunFolder(run).name
        taken = set(self.names.values())
        if name in taken:
            name = f"{name} in {run.parent.name}"
        tries = (name, *(f"{name} {number}" for number in range(2, len(taken) + 3)))
        self.names[run] = next(each for each in tries if each not in taken)
        _link(self._folder / self.names[run], RunFolder(run).tensorboard)


def _link(link: Path, target: Path) -> None:
    if sys.platform == "win32":
        import _winapi

        # A symbolic link takes rights that few users have there.
        _winapi.CreateJunction(str(target), str(link))
    else:
        link.symlink_to(target, target_is_directory=True)


def _require_logs(links: _Links, places: Sequence[Path], observer: Observer) -> None:
    runs = list(dict.fromkeys(run for place in places for run in runs_at_place(place)))
    without = [RunFolder(run).name for run in runs if run not in links.names]
    if not links.names:
        what = (
            f"{without[0]} has no logs"
            if len(without) == 1
            else f"none of {len(without)} runs has logs"
        )
        hint = "log.tensorboard = true writes them; `lorasmith control RUN` shows numbers without"
        raise RunError.of("", f"{what} for TensorBoard", hint)
    if without:
        shown = ", ".join(without[:5]) + (", …" if len(without) > 5 else "")
        observer(Notice("info", f"{quantity(len(without), 'run')} without its logs: {shown}"))


def free_port(port: int | None = None) -> int:
    """``port``, or the first from :data:`FIRST_PORT` on at which nobody listens.

    Raises:
        UserError: it is taken.
    """
    ports = [port] if port else range(FIRST_PORT, FIRST_PORT + PORTS_TRIED)
    reason = ""
    for each in ports:
        with socket.socket() as probe:
            # On Windows it would let two programs share a port.
            if sys.platform != "win32":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, each))
            except OSError as error:
                reason = error.strerror or str(error)
            else:
                return each
    tried = f"--port {port}" if port else f"ports {ports[0]} to {ports[-1]}"
    raise UserError.of(tried, f"cannot listen there: {reason}", "choose another with --port")


@contextlib.contextmanager
def _serving(folder: Path, port: int) -> Iterator[Callable[[], bool]]:
    """TensorBoard over ``folder / "runs"`` while the block runs, which gets what says whether it
    answers yet.

    Raises:
        UserError: when that is asked, and it has ended by itself.
    """
    arguments = ["--logdir", str(folder / "runs"), "--host", HOST, "--port", str(port)]
    # Its own reader of logs is quick enough for some thousand numbers, and one process less.
    arguments += ["--load_fast", "false", "--reload_interval", str(int(LOOKS))]
    log = folder / "log"
    with open(log, "wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments],
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=said,
            # Ctrl-C in a terminal is for the one who began it.
            start_new_session=True,
        )
    began, answers = time.monotonic(), False

    def is_there() -> bool:
        nonlocal answers
        late = not answers and time.monotonic() - began > START_SECONDS
        if process.poll() is not None or late:
            lines = log.read_text("utf-8", "replace").strip().splitlines() or ["it said nothing"]
            what = f"gave no answer within {START_SECONDS:g} s" if late else "ended by itself"
            raise UserError.of("TensorBoard", f"{what}: {lines[-1]}", DOCTOR)
        answers = answers or _listens(port)
        return answers

    try:
        yield is_there
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True
