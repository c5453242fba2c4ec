"""An engine that has a device only while no job of the queue needs it.

A training comes first. While a job has the device, nothing is begun on it here; and when one
begins, the process is ended, with the models in its memory, within a second: a job takes longer
than that to load its own. So a graphics card that has room for one model holds one. What is
computed on the processor is in nobody's way, nor are jobs that are.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lorasmith.core.errors import UserError
from lorasmith.jobs.engine.drawing import DrawingEngine
from lorasmith.jobs.engine.process import GivenUpError
from lorasmith.jobs.queue.ledger import AUTO, Job, Ledger

LOOKS = 0.3
"""Seconds between two looks for a job that needs the device."""
CPU = "cpu"

Jobs = Callable[[], Sequence[Job]]


def jobs_of(workspace: Path) -> Jobs:
    """What reads a workspace's jobs; none where there can be no queue."""

    def read() -> Sequence[Job]:
        try:
            return Ledger(workspace).jobs()
        except UserError:  # Its folder cannot be written to.
            return ()

    return read


class GivingWay:
    """
    Args:
        engine: what is ended for jobs.
        jobs: what reads the jobs of the queue.
    """

    def __init__(self, engine: DrawingEngine, jobs: Jobs) -> None:
        self.engine = engine
        self._jobs = jobs
        # Those of the process: on which it works, or keeps models.
        self._devices: set[str] = set()
        self._asking = 0
        self._lock = threading.Lock()
        self._minder: threading.Thread | None = None

    def job_on(self, device: str) -> Job | None:
        """The job that has a device.

        Args:
            device: as jobs and requests name it; "auto" may be any but the processor.
        """
        for job in self._jobs():
            same = AUTO in (job.device, device) or job.device == device
            if job.state == "running" and CPU not in (job.device, device) and same:
                return job
        return None

    @contextlib.contextmanager
    def using(self, device: str) -> Iterator[Callable[[], None]]:
        """While the engine is asked for something on a device, and for as long as it keeps models
        there: it is ended for jobs.

        What it gives is called when the question's turn has come, and raises
        :class:`.GivenUpError` where a job has got the device meanwhile.
        """

        def take() -> None:
            with self._lock:
                is_new = device not in self._devices
                self._devices.add(device)
            if job := self.job_on(device):
                with self._lock:
                    self._devices -= {device} if is_new else set()
                what = f"job {job.id} ({job.title}) has the device"
                raise GivenUpError.of("", what, "ask again")

        with self._lock:
            self._asking += 1
            if self._minder is None:
                self._minder = threading.Thread(target=self._mind, daemon=True)
                self._minder.start()
        try:
            yield take
        finally:
            with self._lock:
                self._asking -= 1

    def _mind(self) -> None:
        try:
            while self._is_used():
                with self._lock:
                    devices = set(self._devices)
                if any(self.job_on(device) for device in devices):
                    self._give_way()
        except BaseException:
            # Nobody would look for jobs any more.
            with self._lock:
                self._minder = None
            self._give_way()
            raise

    def _is_used(self) -> bool:
        """After a while; where it is not, whoever minds it ends."""
        time.sleep(LOOKS)
        with self._lock:
            if self._asking or self.engine.running:
                return True
            self._devices.clear()
            self._minder = None
            return False

    def _give_way(self) -> None:
        with self._lock:
            self._devices.clear()
        self.engine.release()
