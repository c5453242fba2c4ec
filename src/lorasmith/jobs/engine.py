"""A process that has torch at hand and answers at once what would take seconds to begin.

Front ends that must stay small ask it over pipes, a JSON object a line, one after the other::

    {"id": 3, "ask": "plan", "config": …, "preset": …, "values": {…}}
    {"id": 4, "ask": "advice", "folder": …, "model": …, "answers": {…}}
    {"id": 3, "answer": {…}}

It ends with the one who asks. What it knows is a cache: it can be ended and begun at any time.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, BinaryIO

from lorasmith.core.errors import RunError, UserError
from lorasmith.core.files import parse_json
from lorasmith.jobs.advice import AdviceAnswer, advice
from lorasmith.jobs.plan import PlanAnswer, answer, plan_request, problem_records

# The first answer comes after torch is imported, which takes long on a slow disk.
START_SECONDS = 120.0
ANSWER_SECONDS = 60.0
IDLE_SECONDS = 300.0
SHOWN_LINES = 3
COMMAND = (sys.executable, "-m", "lorasmith.jobs.engine")


class Engine:
    """The asking side; safe to use from any thread, which then wait for each other.

    Args:
        folder: what relative paths are relative to.
        command: that begins the process.
        idle: seconds after the last question at which it ends, to leave its memory to others.
    """

    def __init__(
        self, folder: Path, command: Sequence[str] = COMMAND, *, idle: float = IDLE_SECONDS
    ) -> None:
        self._folder, self._command, self._idle = folder, command, idle
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._given_up: subprocess.Popen[bytes] | None = None
        self._answers: queue.Queue[bytes | None] = queue.Queue()
        self._errors: list[str] = []
        self._number = 0
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

    def plan(
        self,
        values: Mapping[str, Any],
        *,
        config: Path | None = None,
        preset: str | None = None,
        timeout: float = ANSWER_SECONDS,
    ) -> PlanAnswer:
        """What training with these settings would do.

        Args:
            values: settings by path, JSON values.
            config: a settings file, or the folder of images.
            timeout: seconds that an answer may take, once the process has begun.

        Raises:
            RunError: the process died twice, or gave no answer in time.
        """
        question = {
            "ask": "plan",
            "config": str(config) if config is not None else None,
            "preset": preset,
            "values": dict(values),
        }
        return PlanAnswer.model_validate(self._ask(question, timeout))

    def advice(
        self,
        folder: Path,
        model: str,
        answers: Mapping[str, str],
        *,
        timeout: float = ANSWER_SECONDS,
    ) -> AdviceAnswer:
        """What suits the pictures of a folder; as :func:`lorasmith.jobs.advice.advice`.

        Raises:
            RunError: as :meth:`plan`.
        """
        question = {
            "ask": "advice", "folder": str(folder), "model": model, "answers": dict(answers),
        }  # fmt: skip
        return AdviceAnswer.model_validate(self._ask(question, timeout))

    def release(self) -> None:
        """Give all memory back at once, of the device too; who waits for an answer is told, and
        the next question begins a new process."""
        process = self._process
        if process is not None:
            self._given_up = process
            process.kill()
        with self._lock:
            self._end()

    def _ask(self, question: dict[str, Any], timeout: float) -> Any:
        with self._lock, self._awake():
            for attempt in (1, 2):
                self._begin()
                try:
                    return self._asked(question, timeout)
                except EOFError:
                    is_given_up = self._process is self._given_up
                    last = self._end()
                    if is_given_up:
                        what = "the answer was given up for a job, which needs the memory"
                        raise RunError.of("", what, "ask again") from None
                    if attempt == 2:
                        what = f"the process that makes plans ended: {last}"
                        raise RunError.of("", what, "`lorasmith train --plan` shows why") from None
        raise AssertionError("answered or raised")

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

    def _asked(self, question: dict[str, Any], timeout: float) -> Any:
        """Raises EOFError where the process is gone."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._number += 1
        line = json.dumps({"id": self._number, **question}) + "\n"
        try:
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
        except OSError:
            raise EOFError from None
        deadline = time.monotonic() + timeout + (0 if self._warm else START_SECONDS)
        while True:
            try:
                reply = self._answers.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                self._end()
                what = f"the process that makes plans gave no answer within {timeout:g} s"
                raise RunError.of("", what, "ask again") from None
            if reply is None:
                raise EOFError
            record = parse_json(reply)
            self._warm = True
            if record["id"] == self._number:
                return record["answer"]

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
        for work in (
            partial(_answers_of, self._process.stdout, self._answers),
            partial(_lines_of, self._process.stderr, self._errors),
        ):
            threading.Thread(target=work, daemon=True).start()

    def _end(self) -> str:
        """What it said last."""
        process, self._process = self._process, None
        if process is None:
            return ""
        process.kill()
        process.wait()
        with contextlib.suppress(OSError):  # What it did not take any more.
            assert process.stdin is not None
            process.stdin.close()
        return " ".join(self._errors[-SHOWN_LINES:]) or f"status {process.returncode}"


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


# The process


def reply(question: Mapping[str, Any]) -> Any:
    """The answer to one question, JSON-ready."""
    if question["ask"] == "advice":
        told = advice(Path(question["folder"]), question["model"], question["answers"])
        return told.model_dump(mode="json")
    assert question["ask"] == "plan"
    config = question["config"]
    try:
        request = plan_request(
            question["values"],
            Path(config) if config is not None else None,
            question["preset"],
        )
    except UserError as error:
        wrong = PlanAnswer(ok=False, problems=problem_records(error.problems))
        return wrong.model_dump(mode="json")
    return answer(request).model_dump(mode="json")


def serve(questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer until there are no more questions."""
    import lorasmith.training.plan  # noqa: F401  what takes long

    for line in questions:
        question = parse_json(line)
        record = {"id": question["id"], "answer": reply(question)}
        answers.write(json.dumps(record).encode() + b"\n")
        answers.flush()


def main() -> None:
    # What libraries print must not stand among the answers.
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
