"""The ledger: which changes a job's state allows, its order, and several processes at once."""

from __future__ import annotations

import errno
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lorasmith.core.errors import UserError, WriteError
from lorasmith.jobs.queue.database import Database
from lorasmith.jobs.queue.ledger import STATES, Job, Ledger, State


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path)


def add(ledger: Ledger, title: str = "job", **more) -> Job:
    return ledger.add(["train", "pictures"], title, ledger.workspace, **more)


def bring_to(ledger: Ledger, state: State) -> Job:
    job = add(ledger, hold=state == "held")
    if state in ("queued", "held"):
        return job
    if state != "running":
        ledger.claim("auto")
        return ledger.end(job.id, state, 0, "")
    claimed = ledger.claim("auto")
    assert claimed is not None
    return claimed


ALLOWED: dict[str, dict[State, State]] = {
    "hold": {"queued": "held"},
    "release": {"held": "queued"},
    "pause": {"running": "running"},
    "finish": {"running": "running"},
    "resume": {"paused": "queued"},
    "retry": {"failed": "queued", "cancelled": "queued"},
    "cancel": {
        "queued": "cancelled",
        "held": "cancelled",
        "paused": "cancelled",
        "running": "running",
    },
    "move": {"queued": "queued", "held": "held", "paused": "paused"},
    "unclaim": {"running": "queued"},
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("change", ALLOWED)
def test_a_change_is_made_from_the_states_that_allow_it_alone(
    ledger: Ledger, change: str, state: State
) -> None:
    job = bring_to(ledger, state)
    ask: Callable[[int], Job] = getattr(ledger, change)
    if state in ALLOWED[change]:
        assert ask(job.id).state == ALLOWED[change][state]
        return
    before = ledger.jobs()
    with pytest.raises(UserError, match=rf"job {job.id}: cannot"):
        ask(job.id)
    assert ledger.jobs() == before


@pytest.mark.parametrize("state", STATES)
def test_what_does_not_run_is_removed_with_its_folder(ledger: Ledger, state: State) -> None:
    job = bring_to(ledger, state)
    assert ledger.job_folder(job.id).is_dir()
    if state == "running":
        with pytest.raises(UserError, match="cannot remove"):
            ledger.remove(job.id)
        return
    ledger.remove(job.id)
    assert ledger.jobs() == []
    assert not ledger.job_folder(job.id).exists()


def test_cancelled_twice_is_ended_at_once_and_a_paused_one_is_not(ledger: Ledger) -> None:
    job = bring_to(ledger, "running")
    assert ledger.pause(job.id).wish == "pause"
    assert ledger.cancel(job.id).wish == "cancel"
    assert ledger.cancel(job.id).wish == "kill"


def test_only_trainings_pause(ledger: Ledger) -> None:
    job = ledger.add(["tokens", "a cat"], "count", ledger.workspace)
    with pytest.raises(UserError, match="hold it"):
        ledger.pause(job.id)
    ledger.claim("auto")
    with pytest.raises(UserError, match="only a training"):
        ledger.pause(job.id)


def test_jobs_of_a_device_start_in_their_order(ledger: Ledger) -> None:
    first, second, third = (add(ledger, title) for title in "abc")
    other = add(ledger, "d", device="cuda:1")
    ledger.move(third.id, first.id)
    ledger.hold(first.id)
    assert [ledger.claim("auto").id, ledger.claim("auto").id] == [third.id, second.id]
    assert ledger.claim("auto") is None
    assert ledger.devices_with_work() == ["auto", "cuda:1"]
    assert ledger.claim("cuda:1").id == other.id


def test_what_goes_on_is_first_and_what_is_tried_again_last(ledger: Ledger) -> None:
    paused, failed = bring_to(ledger, "paused"), bring_to(ledger, "failed")
    waiting = add(ledger)
    ledger.resume(paused.id)
    ledger.retry(failed.id)
    assert [job.id for job in ledger.jobs()] == [paused.id, waiting.id, failed.id]


def test_a_job_waits_for_the_one_it_follows(ledger: Ledger) -> None:
    first = add(ledger)
    second = add(ledger, after=first.id)
    ledger.claim("auto")
    assert ledger.claim("auto") is None
    ledger.end(first.id, "failed", 2, "no pictures")
    assert ledger.claim("auto") is None
    assert ledger.devices_with_work() == []
    ledger.retry(first.id)
    assert ledger.claim("auto").id == first.id
    ledger.end(first.id, "done", 0, "")
    assert ledger.claim("auto").id == second.id
    with pytest.raises(UserError, match="job 99"):
        add(ledger, after=99)


CLAIMS = """
import sys
from pathlib import Path
from lorasmith.jobs.queue.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
while job := ledger.claim("auto"):
    print(job.id)
"""


def test_two_processes_claim_no_job_twice(ledger: Ledger) -> None:
    numbers = [add(ledger).id for _ in range(30)]
    claiming = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIMS, str(ledger.workspace)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    claimed = [int(line) for each in claiming for line in each.communicate()[0].split()]
    assert sorted(claimed) == numbers


def test_what_another_waits_for_is_not_forgotten(ledger: Ledger) -> None:
    first = add(ledger)
    second = ledger.add(["pick", "{run}"], "pick", ledger.workspace, after=first.id)
    ledger.claim("auto")
    ledger.end(first.id, "failed", 2, "no pictures")
    with pytest.raises(UserError, match="job 2 waits until it is done"):
        ledger.remove(first.id)
    ledger.retry(first.id)
    ledger.claim("auto")
    ledger.set_run(first.id, "/runs/mine")
    ledger.end(first.id, "done", 0, "")
    ledger.remove(first.id)
    assert ledger.claim("auto").command == ("pick", "/runs/mine")
    assert ledger.job(second.id).after is None


def test_names_that_are_no_text_are_taken(ledger: Ledger) -> None:
    job = ledger.add(["tokens", "a\udcff"], "tokens a\udcff", ledger.workspace)
    assert (job.command, job.title) == (("tokens", "a\udcff"), "tokens a?")


def test_what_is_being_cancelled_is_not_paused(ledger: Ledger) -> None:
    job = bring_to(ledger, "running")
    ledger.cancel(job.id)
    with pytest.raises(UserError, match="being cancelled"):
        ledger.pause(job.id)


def test_any_change_by_anyone_is_another_version(ledger: Ledger) -> None:
    other = Ledger(ledger.workspace)
    seen = [ledger.version()]
    for change in (lambda: add(other), lambda: other.hold(1), lambda: other.remove(1)):
        change()
        seen.append(ledger.version())
    assert len(set(seen)) == 4
    ledger.jobs()
    assert ledger.version() == seen[-1]


def test_a_workspace_that_is_no_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError):
        Ledger(tmp_path / "file")


def test_a_damaged_file_is_told_and_kept(ledger: Ledger) -> None:
    file = ledger.folder / "queue.sqlite"
    for each in ledger.folder.glob("queue.sqlite*"):
        each.unlink()
    file.write_bytes(b"not a database at all, but long enough to be read as one" * 40)
    before = file.read_bytes()
    with pytest.raises(UserError, match=r"queue\.sqlite"):
        Ledger(ledger.workspace)
    assert file.read_bytes() == before


class Order(RuleBasedStateMachine):
    """The order of those that wait, beside a list."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.ledger = Ledger(Path(self.folder.name))
        self.expected: list[int] = []

    @rule()
    def add(self) -> None:
        self.expected.append(add(self.ledger).id)

    @rule(data=st.data())
    def move(self, data) -> None:
        if self.expected:
            moved = data.draw(st.sampled_from(self.expected))
            before = data.draw(st.sampled_from([None, *self.expected]))
            self.ledger.move(moved, before)
            if before != moved:
                self.expected.remove(moved)
                place = len(self.expected) if before is None else self.expected.index(before)
                self.expected.insert(place, moved)
            else:
                self.expected.remove(moved)
                self.expected.append(moved)

    @rule()
    def claim(self) -> None:
        job = self.ledger.claim("auto")
        assert (job.id if job else None) == (self.expected.pop(0) if self.expected else None)

    @invariant()
    def same_order(self) -> None:
        waiting = [job.id for job in self.ledger.jobs() if job.state == "queued"]
        assert waiting == self.expected

    def teardown(self) -> None:
        self.folder.cleanup()


Order.TestCase.settings = settings(max_examples=8, stateful_step_count=12, deadline=None)
TestOrder = Order.TestCase


def fill_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's file can grow no more."""
    opened = Database._opened

    def full(self: Database, *, to_look: bool) -> sqlite3.Connection:
        connection = opened(self, to_look=to_look)
        connection.execute("PRAGMA max_page_count = 1")  # At least what it has.
        return connection

    monkeypatch.setattr(Database, "_opened", full)


def test_a_full_disk_is_said_and_changes_nothing(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = add(ledger)
    with monkeypatch.context() as patch:
        fill_disk(patch)
        with pytest.raises(WriteError, match="nothing was changed, as the disk is full"):
            add(ledger, "long" * 5000)
        assert ledger.jobs() == [job]
    assert add(ledger, "long" * 5000).id == 2


@pytest.mark.parametrize("change", ["add", "claim"])
def test_a_job_without_room_for_its_folder_is_not_there(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    job = add(ledger)

    def no_room(self: Path, **options) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", no_room)
    with pytest.raises(WriteError, match="the disk is full"):
        add(ledger) if change == "add" else ledger.claim("auto")
    assert ledger.jobs() == [job]


def test_jobs_can_be_looked_at_without_room_for_anything(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a full disk: not even the files beside it can be made that SQLite shares."""
    jobs = [add(ledger), add(ledger)]
    connect = sqlite3.connect

    class NoRoom(sqlite3.Connection):
        def execute(self, *args):
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_SHMSIZE
            raise error

    def opened(address, **options) -> sqlite3.Connection:
        kind = sqlite3.Connection if "immutable" in str(address) else NoRoom
        return connect(address, factory=kind, **options)

    monkeypatch.setattr(sqlite3, "connect", opened)
    assert Ledger(ledger.workspace).jobs() == jobs
    with pytest.raises(WriteError, match="disk is full"):
        ledger.hold(1)
