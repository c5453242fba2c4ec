"""A process that has torch at hand and answers at once what would take seconds to begin.

Front ends that must stay small ask it over pipes, a JSON object a line, one after the other::

    {"id": 3, "ask": "plan", "config": …, "preset": …, "values": {…}}
    {"id": 3, "answer": {…}}

Long work tells how far it is before it answers, and ends early when it is asked to::

    {"id": 4, "ask": "draw", "request": {…}, "previews": FOLDER}
    {"id": 4, "told": {"event": "Progress", "what": "drawing pictures", "done": 1, "total": 20}}
    {"ask": "stop", "of": 4}
    {"id": 4, "stopped": "stopped; 1 picture: …"}

What is wrong with a question is answered as ``{"id": 4, "problems": [{"where", "what", "hint"}]}``.

It ends with the one who asks. What it knows is a cache: it can be ended and begun at any time.
What it answers is in :mod:`.planning` and :mod:`.drawing`, the process itself in :mod:`.serve`.
"""

from __future__ import annotations

import contextlib
import json
import math
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

from lorasmith.core.errors import Problem, RunError, Stopped, UserError
from lorasmith.core.files import parse_json

# The first answer comes after torch is imported, which takes long on a slow disk.
START_SECONDS = 120.0
ANSWER_SECONDS = 60.0
IDLE_SECONDS = 300.0
SHOWN_LINES = 3
LAST_WORDS_SECONDS = 1.0
"""How long what a process said last may take to come; who it started may hold its pipe open."""
LOOKS = 0.1
"""Seconds between two looks of a question that waits, whether it was stopped."""
MODULE = "lorasmith.jobs.engine.serve"

Told = Callable[[dict[str, Any]], object]


class GivenUpError(RunError):
    """The process was ended for a job, before it had answered."""


class BusyError(RunError):
    """Another question is being worked on."""


class Asking:
    """A question from before its turn to its answer: :meth:`Engine.stop` and
    :meth:`Engine.release` mean this one and no other."""

    def __init__(self) -> None:
        self.is_stopped = False

    def raise_if_stopped(self) -> None:
        """
        Raises:
            Stopped: it was, before it began.
        """
        if self.is_stopped:
            raise Stopped("stopped before it began")


class Engine:
    """The asking side; safe to use from any thread, which then wait for each other.

    Args:
        folder: what relative paths are relative to.
        command: that begins the process.
        idle: seconds after the last question at which it ends, to leave its memory to others.
    """

    what = "the process that answers"
    """What it is called where it fails."""
    hint = "ask again"

    def __init__(self, folder: Path, command: Sequence[str], *, idle: float = IDLE_SECONDS) -> None:
        self._folder, self._command, self._idle = folder, command, idle
        self._writing = threading.Lock()
        # Of what is being worked on; taken within the other where both are.
        self._naming = threading.Lock()
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._given_up: subprocess.Popen[bytes] | None = None
        self._answers: queue.Queue[bytes | None] = queue.Queue()
        self._errors: list[str] = []
        self._listener: threading.Thread | None = None
        self._number = 0
        self._current: Asking | None = None
        self._warm = False

    @property
    def running(self) -> bool:
        """Whether the process is there, and takes memory."""
        process = self._process
        return process is not None and process.poll() is None

    def warm_up(self) -> None:
        """Begin the process, so that the first question waits less; returns at once."""
        if self._lock.acquire(blocking=False):  # Else it is being asked, and has begun.
            try:
                with self._awake():
                    self._begin()
            finally:
                self._lock.release()

    def release(self, asking: Asking | None = None) -> None:
        """Give all memory back at once, of the device too; who waits for an answer is told, and
        the next question begins a new process.

        Args:
            asking: only where this is what is being worked on.
        """
        with self._naming:
            process = self._process
            if process is None or (asking is not None and asking is not self._current):
                return
            self._given_up = process
            process.kill()
        process.wait()
        if self._lock.acquire(blocking=False):  # Else who asks is told, and clears away.
            try:
                if self._process is process:
                    self._end()
            finally:
                self._lock.release()

    def stop(self, asking: Asking) -> None:
        """Ask a question to end early, between two of its steps; one that has not begun never
        does."""
        with self._naming:
            asking.is_stopped = True
            process, number = self._process, self._number
            if process is None or self._current is not asking:
                return
        with self._writing, contextlib.suppress(OSError):
            _write(process, {"ask": "stop", "of": number})

    def ask(
        self,
        question: Mapping[str, Any],
        *,
        timeout: float | None = ANSWER_SECONDS,
        told: Told | None = None,
        tries: int = 2,
        wait: float = -1,
        asking: Asking | None = None,
        first: Callable[[], object] = lambda: None,
    ) -> Any:
        """The answer to a question, which is JSON-ready.

        Args:
            timeout: seconds that an answer may take, once the process has begun; ``None`` for any
                number.
            told: called with each event that comes before the answer.
            tries: so often, where the process dies of it.
            wait: seconds for which other questions may be worked on before this one; -1 for any
                number.
            asking: by which it can be stopped.
            first: called when its turn has come; it is not asked where that raises.

        Raises:
            BusyError: another question takes longer than ``wait``.
            RunError: the process died, was ended by :meth:`release`, or gave no answer in time.
            UserError: what is wrong with the question.
            Stopped: by :meth:`stop`.
        """
        asking = asking or Asking()
        with self._turn(wait, asking), self._awake():
            for attempt in range(1, tries + 1):
                asking.raise_if_stopped()
                first()
                self._begin()
                try:
                    return self._asked(question, asking, timeout, told)
                except EOFError:
                    is_given_up = self._process is self._given_up
                    last = self._end()
                    if is_given_up:
                        what = "the answer was given up for a job, which needs the memory"
                        raise GivenUpError.of("", what, "ask again") from None
                    if attempt == tries:
                        what = f"{self.what} ended: {last}"
                        raise RunError.of("", what, self.hint) from None
        raise AssertionError("answered or raised")

    def settings(self, path: Path, lora_dir: Path | None, *, wait: float = -1) -> dict[str, Any]:
        """What a picture says made it; as :func:`.picture_settings.picture_settings`.

        Raises:
            BusyError: as :meth:`ask`.
            UserError: the picture does not say how it was made.
        """
        folder = str(lora_dir) if lora_dir is not None else None
        question = {"ask": "settings", "path": str(path), "lora_dir": folder}
        answer: dict[str, Any] = self.ask(question, wait=wait)
        return answer

    @contextlib.contextmanager
    def _turn(self, wait: float, asking: Asking) -> Iterator[None]:
        """
        Raises:
            BusyError: another question takes longer than ``wait`` seconds.
            Stopped: it was stopped before its turn.
        """
        deadline = math.inf if wait < 0 else time.monotonic() + wait
        while not self._lock.acquire(timeout=max(0.0, min(LOOKS, deadline - time.monotonic()))):
            asking.raise_if_stopped()
            if time.monotonic() >= deadline:
                what = f"{self.what} is at work on something else"
                raise BusyError.of("", what, "ask again later")
        try:
            yield
        finally:
            self._lock.release()

    @contextlib.contextmanager
    def _awake(self) -> Iterator[None]:
        """While the block runs the process does not end by itself; a while after it does."""
        if self._timer is not None:
            self._timer.cancel()
        try:
            yield
        finally:
            self._timer = threading.Timer(self._idle, self._fall_asleep)
            self._timer.daemon = True
            self._timer.start()

    def _fall_asleep(self) -> None:
        if self._lock.acquire(blocking=False):  # Else it is being asked.
            try:
                if threading.current_thread() is self._timer:
                    self._end()
            finally:
                self._lock.release()

    def _asked(
        self,
        question: Mapping[str, Any],
        asking: Asking,
        timeout: float | None,
        told: Told | None,
    ) -> Any:
        """Raises EOFError where the process is gone."""
        try:
            # What stops it comes behind it.
            with self._writing:
                with self._naming:
                    assert self._process is not None
                    asking.raise_if_stopped()
                    self._number += 1
                    self._current = asking
                try:
                    _write(self._process, {"id": self._number, **question})
                except OSError:
                    raise EOFError from None
            return self._answer(timeout, told)
        finally:
            with self._naming:
                self._current = None

    def _answer(self, timeout: float | None, told: Told | None) -> Any:
        """Raises EOFError where the process is gone, or says what is no answer."""
        deadline = None
        if timeout is not None:
            deadline = time.monotonic() + timeout + (0 if self._warm else START_SECONDS)
        while True:
            try:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                reply = self._answers.get(timeout=left)
            except queue.Empty:
                self._end()
                what = f"{self.what} gave no answer within {timeout:g} s"
                raise RunError.of("", what, "ask again") from None
            if reply is None:
                raise EOFError
            try:
                record = parse_json(reply)
            except ValueError:  # As of a process that was killed within a line.
                raise EOFError from None
            self._warm = True
            if record["id"] != self._number:
                continue
            if "told" in record:
                if told is not None:
                    self._tell(told, record["told"])
                continue
            if "stopped" in record:
                raise Stopped(record["stopped"])
            if "problems" in record:
                raise UserError([Problem(**problem) for problem in record["problems"]])
            return record["answer"]

    def _tell(self, told: Told, event: dict[str, Any]) -> None:
        try:
            told(event)
        except BaseException:
            self._end()  # Nobody waits for its answer any more.
            raise

    def _begin(self) -> None:
        if self.running:
            return
        self._end()
        self._answers, self._errors, self._warm = queue.Queue(), [], False
        self._process = subprocess.Popen(
            self._command,
            cwd=self._folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Ctrl-C in a terminal is for the one who asks.
            start_new_session=True,
        )
        read = partial(_answers_of, self._process.stdout, self._answers)
        threading.Thread(target=read, daemon=True).start()
        read = partial(_lines_of, self._process.stderr, self._errors)
        self._listener = threading.Thread(target=read, daemon=True)
        self._listener.start()

    def _end(self) -> str:
        """What it said last."""
        process, self._process = self._process, None
        if process is None:
            return ""
        process.kill()
        process.wait()
        if self._listener is not None:
            self._listener.join(LAST_WORDS_SECONDS)
        with contextlib.suppress(OSError):  # What it did not take any more.
            assert process.stdin is not None
            process.stdin.close()
        return " ".join(self._errors[-SHOWN_LINES:]) or f"status {process.returncode}"


def _write(process: subprocess.Popen[bytes], record: Mapping[str, Any]) -> None:
    """
    Raises:
        OSError: the process is gone.
    """
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps(record).encode() + b"\n")
        process.stdin.flush()
    except ValueError as error:  # It was closed meanwhile.
        raise BrokenPipeError from error


def _answers_of(pipe: IO[bytes] | None, answers: queue.Queue[bytes | None]) -> None:
    assert pipe is not None
    with pipe:
        for line in pipe:
            answers.put(line)
    answers.put(None)


def _lines_of(pipe: IO[bytes] | None, lines: list[str]) -> None:
    assert pipe is not None
    with pipe:
        for line in pipe:
            lines.append(line.decode("utf-8", "replace").strip())
            del lines[:-SHOWN_LINES]
