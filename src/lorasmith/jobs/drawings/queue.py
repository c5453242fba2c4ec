"""Drawings one after the other, by a process that keeps the model loaded.

While a job of the queue has the device (see :mod:`.engine.giving_way`), drawings wait, and say for
which job; they begin by themselves when it ends or is paused. What a job finds being drawn is
given up, and drawn from its beginning afterwards.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from lorasmith.core.disk import discard
from lorasmith.core.errors import Problem, Stopped, UserError
from lorasmith.formats.run_paths import DRAWINGS
from lorasmith.jobs.drawings.records import (
    DrawingRecord,
    NewDrawing,
    PreviewRecord,
    State,
    drawing_line,
)
from lorasmith.jobs.engine.giving_way import LOOKS, GivingWay
from lorasmith.jobs.engine.process import Asking, GivenUpError
from lorasmith.jobs.generate import GenerateRequest
from lorasmith.jobs.runs.records import problem_records

PATIENCE = 10.0
"""Seconds until a drawing that was cancelled is ended by force."""
MOST_ENDED = 200
"""Drawings that have ended, of which is told."""
MOST_TRIALS = 100
"""Pictures of trials that are kept."""
_OLD = 86_400.0


class Drawings:
    """The drawings of one workspace. Safe to use from any thread.

    Args:
        guard: has the engine that draws.
    """

    def __init__(self, workspace: Path, guard: GivingWay) -> None:
        self._workspace, self._guard, self._engine = workspace, guard, guard.engine
        self._changed = threading.Condition()
        self._records: dict[str, DrawingRecord] = {}
        self._requests: dict[str, GenerateRequest] = {}
        self._versions: dict[str, int] = {}
        self._version = 0
        self._ends = 0
        self._cancelled: set[str] = set()
        self._asking = Asking()
        self._worker: threading.Thread | None = None

    # What pages ask

    def add(self, drawing: NewDrawing, request: GenerateRequest) -> DrawingRecord:
        """Draw it when those before it are done.

        Args:
            request: what `drawing` asks for, with its folder ``out``.
        """
        number = secrets.token_hex(6)
        record = DrawingRecord(
            id=number,
            drawing=drawing,
            command_line=drawing_line(request),
            created=time.time(),
        )
        with self._changed:
            self._requests[number] = request
            self._put(record)
            if self._worker is None:
                self._begin_worker()
        return record

    def warm_up(self, request: GenerateRequest) -> None:
        """Load the model for a drawing that will be asked for, so that it waits less; returns at
        once. What is wrong with it is told when it is asked for."""

        def load() -> None:
            values = request.model_dump(mode="json", exclude_unset=True)
            with contextlib.suppress(UserError), self._guard.using(request.device) as first:
                self._engine.load(values, first=first)

        if self._guard.job_on(request.device) is None:
            threading.Thread(target=load, daemon=True).start()

    def cancel(self, number: str) -> DrawingRecord:
        """Forget one that waits; stop one that is being drawn, between two steps. Pictures that
        are finished stay.

        Raises:
            UserError: there is none of that name.
        """
        with self._changed:
            record = self.get(number)
            if record.state == "waiting":
                record = self._end(record, "cancelled", "cancelled before it began")
            elif record.state == "drawing" and number not in self._cancelled:
                self._cancelled.add(number)
                stop = partial(self._stop, number, self._asking)
                threading.Thread(target=stop, daemon=True).start()
        return record

    def get(self, number: str) -> DrawingRecord:
        """
        Raises:
            UserError: there is none of that name.
        """
        with self._changed:
            if number not in self._records:
                raise UserError.of(number, "there is no such drawing any more", "draw it again")
            return self._records[number]

    def all(self) -> list[DrawingRecord]:
        """What is being drawn, then what waits, in their order, then what has ended since this
        began, the last first."""
        with self._changed:
            records = list(self._records.values())
        open_ones = [record for record in records if not record.has_ended]
        ended = [record for record in records if record.has_ended]
        open_ones.sort(key=lambda record: record.state != "drawing")
        return [*open_ones, *reversed(ended)]

    def changes(self, since: int) -> tuple[int, list[DrawingRecord]]:
        """A number that grows with every change, and what has changed since it was ``since``."""
        with self._changed:
            changed = [self._records[n] for n, at in self._versions.items() if at > since]
            return self._version, changed

    @property
    def ends(self) -> int:
        """A number that grows when one is asked for, begins or ends, and with each picture."""
        return self._ends

    @property
    def is_busy(self) -> bool:
        with self._changed:
            return any(not record.has_ended for record in self._records.values())

    # The work

    def _begin_worker(self) -> None:
        self._worker = threading.Thread(target=self._work, daemon=True)
        self._worker.start()

    def _work(self) -> None:
        _remove_old(self._previews_folder)
        while True:
            with self._changed:
                while (record := self._next()) is None:
                    self._changed.wait()
                request = self._requests[record.id]
            try:
                if job := self._guard.job_on(request.device):
                    self._say_why(record.id, f"job {job.id} ({job.title}) has the device")
                    time.sleep(LOOKS)
                else:
                    self._draw(record.id, request)
            except BaseException as error:
                self._fail(record.id, error)
                self._begin_worker()  # The others are drawn.
                raise

    def _next(self) -> DrawingRecord | None:
        waiting = (record for record in self._records.values() if record.state == "waiting")
        return next(waiting, None)

    def _draw(self, number: str, request: GenerateRequest) -> None:
        previews = self._previews_folder / number
        with self._changed:
            if self._records[number].state != "waiting":
                return
            self._change(number, state="drawing", why="", began=time.time())
            asking = self._asking = Asking()
        ending: tuple[State, str, list[Problem]] = ("done", "", [])
        try:
            previews.mkdir(parents=True, exist_ok=True)
            values = request.model_dump(mode="json", exclude_unset=True)
            told = partial(self._take, number)
            with self._guard.using(request.device) as first:
                self._engine.draw(values, previews, told, asking=asking, first=first)
        except GivenUpError:
            ending = ("waiting", "", [])
        except Stopped as stop:
            ending = ("cancelled", str(stop), [])
        except UserError as error:
            ending = ("failed", "\n".join(p.what for p in error.problems), error.problems)
        except OSError as error:
            problem = Problem(str(previews), f"cannot be written: {error}", "free some space")
            ending = ("failed", problem.what, [problem])
        finally:
            discard(previews)
        state, why, problems = ending
        with self._changed:
            if number in self._cancelled:
                self._cancelled.discard(number)
                if state in ("waiting", "failed"):
                    state, why, problems = "cancelled", "ended at once, as asked", []
            if state == "waiting":
                fresh = {"what": "", "done": 0, "total": 0, "previews": []}
                self._change(number, state="waiting", began=None, **fresh)
            else:
                record = self._change(number, problems=problem_records(problems), previews=[])
                self._end(record, state, why)

    def _fail(self, number: str, error: BaseException) -> None:
        what = f"a bug in lorasmith: {type(error).__name__}: {error}"
        problem = Problem("", what, "draw it again, and report this")
        with self._changed:
            self._cancelled.discard(number)
            record = self._records.get(number)
            if record is not None and not record.has_ended:
                self._change(number, problems=problem_records([problem]), previews=[])
                self._end(self._records[number], "failed", what)

    def _stop(self, number: str, asking: Asking) -> None:
        """By asking, and where that does not help by force."""
        deadline = time.monotonic() + PATIENCE
        self._engine.stop(asking)
        while time.monotonic() < deadline:
            time.sleep(LOOKS)
            if number not in self._cancelled:
                return
        self._engine.release(asking)

    def _take(self, number: str, event: dict[str, Any]) -> None:
        """What is told of a drawing."""
        with self._changed:
            record = self._records[number]
            match event["event"]:
                case "Progress":
                    done, what = event["done"], event["what"]
                    if what == "drawing pictures" and done and record.first is None:
                        self._change(number, first=time.time() - record.created)
                    self._change(number, what=what, done=done, total=event["total"])
                case "Preview":
                    preview = PreviewRecord.model_validate(event)
                    others = [p for p in record.previews if p.place != preview.place]
                    self._change(number, previews=[*others, preview])
                case "PictureDrawn":
                    picture = str((self._workspace / event["path"]).absolute())
                    self._change(number, pictures=[*record.pictures, picture])
                    self._ends += 1
                case "Notice":
                    self._change(number, notes=[*record.notes, event["text"]])

    def _say_why(self, number: str, why: str) -> None:
        with self._changed:
            record = self._records.get(number)
            if record is not None and record.state == "waiting" and record.why != why:
                self._change(number, why=why)

    def _end(self, record: DrawingRecord, state: State, why: str) -> DrawingRecord:
        record = self._change(record.id, state=state, why=why, ended=time.time())
        del self._requests[record.id]
        # Behind those that are open: listed in the order of their ends.
        self._records[record.id] = self._records.pop(record.id)
        ended = [each for each in self._records.values() if each.has_ended]
        for old in ended[:-MOST_ENDED]:
            del self._records[old.id], self._versions[old.id]
        return record

    def _change(self, number: str, **values: Any) -> DrawingRecord:
        """Under the lock."""
        record = self._records[number].model_copy(update=values)
        self._put(record, tells="state" in values)
        return record

    def _put(self, record: DrawingRecord, *, tells: bool = True) -> None:
        self._records[record.id] = record
        self._version += 1
        self._versions[record.id] = self._version
        self._ends += tells
        self._changed.notify_all()

    @property
    def _previews_folder(self) -> Path:
        return self._workspace / ".lorasmith" / DRAWINGS


def folder_of_trials(workspace: Path) -> Path:
    """Where the pictures of trials go; all but the last :data:`MOST_TRIALS` are removed."""
    folder = workspace / ".lorasmith" / DRAWINGS / "trials"
    for old in sorted(folder.glob("*.png"))[:-MOST_TRIALS]:
        discard(old)
    return folder


def folder_of_today(base: Path) -> Path:
    """Where a project's or workspace's drawings go today."""
    return base / DRAWINGS / date.today().isoformat()


def _remove_old(folder: Path) -> None:
    """Previews of a studio that was killed."""
    with contextlib.suppress(OSError):
        for each in folder.iterdir():
            if time.time() - each.stat().st_mtime > _OLD:
                discard(each)
