"""The runner: what becomes of jobs whatever happens to it, with small programs in their place."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest

from lorasmith.core import job_record
from lorasmith.core.disk import write_error
from lorasmith.core.events import Progress, ignore
from lorasmith.core.files import write_json
from lorasmith.core.job_record import PROCESS, VARIABLE, read_record
from lorasmith.jobs.queue import runner
from lorasmith.jobs.queue.ledger import Job, Ledger
from lorasmith.jobs.queue.records import JobRecord
from lorasmith.jobs.queue.runner import ensure_runners, run_queue
from lorasmith.jobs.queue.watch import LOG, last_progress, log_end
from lorasmith.training.runs.folder import RunFolder

# A job that heeds what is asked of it as lorasmith's commands do, without their imports.
JOB = """
import sys, time
from pathlib import Path
from lorasmith.core import job_record
from lorasmith.core.errors import Problem, Stopped
from lorasmith.core.events import Controls, Progress, RunStarted, ignore

record, controls, what = job_record.current(), Controls(), sys.argv[1]
print("hello from", what, flush=True)
if what == "crash":
    import os; os._exit(7)
with record.heeding(controls):
    observe = record.watching(ignore)
    if "run" in what:
        observe(RunStarted(Path("runs/mine"), 9, 0, 1))
    observe(Progress("counting", 3, 9))
    if "long" in what:
        for _ in range(600):
            if controls.stopping and "stubborn" not in what:
                record.end(130, [Problem("", "stopped as asked")])
                sys.exit(130)
            time.sleep(0.05)
if what == "wrong":
    record.end(2, [Problem("optimizer.lr", "is too high", "lower it")])
    sys.exit(2)
if what == "found":
    record.end(2, [])
    sys.exit(2)
record.end(0, [])
"""


def start(command: Sequence[str], folder: Path, record: Path) -> subprocess.Popen[bytes]:
    with open(record / LOG, "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-c", JOB, *command[-1:]],
            cwd=folder,
            stdout=log,
            stderr=log,
            env={**os.environ, VARIABLE: str(record)},
        )


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path)


def add(ledger: Ledger, what: str, **more) -> Job:
    return ledger.add(["train", what], what, ledger.workspace, **more)


def run(ledger: Ledger) -> None:
    run_queue(ledger, "auto", start)


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_looks_for_mistakes_and_finds_some_has_not_failed(ledger: Ledger) -> None:
    looks = [("dataset", "audit"), ("dataset", "check"), ("dataset", "tag")]
    jobs = [ledger.add([*words, "found"], "look", ledger.workspace) for words in looks]
    failing = ledger.add(["dataset", "audit", "wrong"], "look", ledger.workspace)
    run(ledger)
    states = [ledger.job(job.id).state for job in (*jobs, failing)]
    assert states == ["done", "done", "failed", "failed"]


def test_a_training_ends_early_with_what_it_has(ledger: Ledger, tmp_path: Path) -> None:
    job = add(ledger, "long run")
    after = ledger.add(["pick", "{run}"], "pick", ledger.workspace, after=job.id)
    thread = in_background(ledger)
    run = RunFolder(tmp_path / "runs" / "mine")
    with run:
        until(lambda: ledger.job(job.id).run)
        ledger.finish(job.id)
        until(lambda: list(run.control.glob("*")))
        (asked,) = run.control.iterdir()
        assert asked.read_text() == "snapshot\nstop\n"
        stop = ledger.try_folder(ledger.job(job.id)) / "stop"
        assert not stop.exists()
        stop.touch()  # Here nobody reads what is asked of the run.
        until(lambda: ledger.job(job.id).state == "done")
    thread.join(60)
    assert ledger.job(job.id).message == "ended early, as asked"
    assert ledger.job(after.id).state == "done"


def test_a_training_that_cannot_be_asked_yet_is_stopped(ledger: Ledger) -> None:
    job = add(ledger, "long")
    thread = in_background(ledger)
    until(lambda: last_progress(ledger.try_folder(ledger.job(job.id))))
    ledger.finish(job.id)
    thread.join(60)
    assert ledger.job(job.id).state == "done"


def in_background(ledger: Ledger) -> threading.Thread:
    thread = threading.Thread(target=run, args=(ledger,))
    thread.start()
    return thread


def test_each_ends_as_it_says_and_the_next_goes_on(ledger: Ledger) -> None:
    good, wrong, crash = (add(ledger, what) for what in ("run", "wrong", "crash"))
    run(ledger)
    done = ledger.job(good.id)
    assert (done.state, done.status, done.tries) == ("done", 0, 1)
    assert done.run == str(ledger.workspace / "runs" / "mine")
    assert (ledger.job(wrong.id).state, ledger.job(wrong.id).message) == (
        "failed",
        "optimizer.lr: is too high",
    )
    broken = ledger.job(crash.id)
    assert (broken.state, broken.status) == ("failed", 7)
    assert "without a word" in broken.message
    assert log_end(ledger.try_folder(broken), 5) == ["hello from crash"]
    assert str(last_progress(ledger.try_folder(done))) == "counting 3/9"


@pytest.mark.parametrize(
    ("what", "ask", "state"),
    [("long run", "pause", "paused"), ("long", "cancel", "cancelled"), ("long", "pause", "paused")],
)
def test_what_is_asked_while_it_runs_is_done(
    ledger: Ledger, what: str, ask: str, state: str
) -> None:
    job = add(ledger, what)
    thread = in_background(ledger)
    until(lambda: last_progress(ledger.try_folder(ledger.job(job.id))))
    getattr(ledger, ask)(job.id)
    thread.join(60)
    assert ledger.job(job.id).state == state
    assert ledger.job(job.id).wish == ""


def test_what_does_not_heed_is_ended_when_asked_twice(ledger: Ledger) -> None:
    job = add(ledger, "long stubborn")
    thread = in_background(ledger)
    until(lambda: last_progress(ledger.try_folder(ledger.job(job.id))))
    ledger.cancel(job.id)
    ledger.cancel(job.id)
    thread.join(60)
    assert ledger.job(job.id).state == "cancelled"


def process_of(ledger: Ledger, job: Job) -> psutil.Process:
    def written() -> dict | None:
        return read_record(ledger.try_folder(ledger.job(job.id)) / PROCESS)

    until(written)
    return psutil.Process(int(written()["pid"]))


def test_the_next_runner_sees_a_job_through_that_it_did_not_start(ledger: Ledger) -> None:
    job = ledger.claim("auto") if add(ledger, "long run") else None
    assert job is not None
    record = ledger.try_folder(job)
    child = start(job.command, job.folder, record)  # As by a runner that was killed since.
    until((record / PROCESS).exists)
    thread = in_background(ledger)
    until(lambda: ledger.job(job.id).run)
    ledger.pause(job.id)
    assert child.wait(20) == 130
    thread.join(60)
    assert (ledger.job(job.id).state, ledger.job(job.id).tries) == ("paused", 1)


@pytest.mark.parametrize("lost", ["the folder", "the time of its start"])
def test_a_job_that_lives_is_found_and_not_run_twice(ledger: Ledger, lost: str) -> None:
    job = ledger.claim("auto") if add(ledger, "long") else None
    assert job is not None
    record = ledger.try_folder(job)
    child = start(job.command, job.folder, record)
    until((record / PROCESS).exists)
    if lost == "the folder":
        shutil.rmtree(record)
    else:  # As if the clock had been set since.
        write_json(record / PROCESS, {"pid": child.pid, "created": 12.0})
    thread = in_background(ledger)
    time.sleep(0.3)
    assert ledger.job(job.id).state == "running"
    ledger.cancel(job.id)
    ledger.cancel(job.id)
    child.wait(20)
    thread.join(60)
    assert (ledger.job(job.id).state, ledger.job(job.id).tries) == ("cancelled", 1)


def test_words_that_are_no_text_end_no_runner(ledger: Ledger) -> None:
    bad = ledger.add(["quick\udcff"], "bad", ledger.workspace)
    after = add(ledger, "quick")
    run(ledger)
    assert (ledger.job(bad.id).state, ledger.job(after.id).state) == ("done", "done")


def test_the_folder_of_a_running_job_may_be_deleted(ledger: Ledger) -> None:
    job, after = add(ledger, "long"), add(ledger, "quick")
    thread = in_background(ledger)
    until(lambda: last_progress(ledger.try_folder(ledger.job(job.id))))
    shutil.rmtree(ledger.job_folder(job.id))
    ledger.cancel(job.id)
    thread.join(60)
    assert (ledger.job(job.id).state, ledger.job(after.id).state) == ("cancelled", "done")


def test_what_was_cancelled_before_its_runner_started_it_is_not_started(
    ledger: Ledger,
) -> None:
    add(ledger, "quick")
    job = ledger.claim("auto")
    assert job is not None
    ledger.cancel(job.id)
    run(ledger)
    assert (ledger.job(job.id).state, ledger.job(job.id).tries) == ("cancelled", 1)


def test_a_file_that_was_put_away_leaves_no_records_for_new_jobs(ledger: Ledger) -> None:
    add(ledger, "wrong")
    run(ledger)
    for file in ledger.folder.glob("queue.sqlite*"):
        file.unlink()
    anew = Ledger(ledger.workspace)
    job = add(anew, "quick")
    run(anew)
    assert (job.id, anew.job(job.id).state) == (2, "done")
    assert add(anew, "quick").id == 3


def test_a_number_that_another_process_has_now_is_not_the_job(ledger: Ledger) -> None:
    add(ledger, "gone")
    job = ledger.claim("auto")
    assert job is not None
    record = ledger.try_folder(job)
    write_json(record / PROCESS, {"pid": os.getpid(), "created": 12.0})
    run(ledger)
    assert ledger.job(job.id).state == "failed"
    assert psutil.pid_exists(os.getpid())


def test_a_job_whose_runner_ended_before_it_began_is_started_once(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_START", 0.3)
    add(ledger, "quick")
    job = ledger.claim("auto")
    assert job is not None
    run(ledger)
    assert (ledger.job(job.id).state, ledger.job(job.id).tries) == ("done", 2)


def gone_without_a_runner(ledger: Ledger, *, wish: str = "") -> Job:
    """A job that ended, and whose folder somebody deleted, while no runner was there."""
    add(ledger, "quick")
    job = ledger.claim("auto")
    assert job is not None
    if wish:
        getattr(ledger, wish)(job.id)
    shutil.rmtree(ledger.job_folder(job.id))
    return job


@pytest.mark.parametrize(("wish", "state"), [("", "failed"), ("cancel", "cancelled")])
def test_what_is_not_known_any_more_is_said_and_not_run_again(
    ledger: Ledger, wish: str, state: str
) -> None:
    job = gone_without_a_runner(ledger, wish=wish)
    run(ledger)
    assert (ledger.job(job.id).state, ledger.job(job.id).tries) == (state, 1)
    assert "was deleted" in ledger.job(job.id).message
    assert str(JobRecord.of(ledger, ledger.job(job.id)).state) == state
    ledger.retry(job.id)
    run(ledger)
    assert (ledger.job(job.id).state, ledger.job(job.id).tries) == ("done", 2)


def test_what_began_and_left_nothing_but_a_log_is_not_run_again(ledger: Ledger) -> None:
    add(ledger, "quick")
    job = ledger.claim("auto")
    assert job is not None
    (ledger.try_folder(job) / LOG).touch()  # A full disk took no more.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "_START", 0.1)
        run(ledger)
    assert (ledger.job(job.id).state, ledger.job(job.id).tries) == ("failed", 1)


def test_a_record_that_cannot_be_written_ends_no_job(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    record = job_record.JobRecord(tmp_path / "file")
    record.watching(ignore)(Progress("counting", 1, 2))
    record.end(0, [])


@pytest.mark.parametrize(("status", "state"), [(0, "done"), (130, "cancelled"), (1, "failed")])
def test_the_exit_status_tells_where_there_was_no_room_for_a_result(
    ledger: Ledger, status: int, state: str
) -> None:
    job = ledger.add(["tokens"], "t", ledger.workspace)

    def leave(command: Sequence[str], folder: Path, record: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-S", "-c", f"raise SystemExit({status})"])

    run_queue(ledger, "auto", leave)
    assert ledger.job(job.id).state == state


def test_a_training_whose_run_was_deleted_begins_anew(ledger: Ledger) -> None:
    job = add(ledger, "run")
    run(ledger)
    ledger_run = Path(ledger.job(job.id).run)
    (ledger_run / "state" / "step-00000003").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "_ending", lambda *args: ("failed", 1, "by the test"))
        again = add(ledger, "run")
        run(ledger)
    shutil.rmtree(ledger_run)
    ledger.retry(again.id)
    run(ledger)
    words = (ledger.try_folder(ledger.job(again.id)) / "command.txt").read_text()
    assert words == "train\nrun\n"
    assert ledger.job(again.id).state == "done"


def test_a_full_disk_costs_a_runner_nothing_but_time(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It fills up as a job ends, and again before the next one is begun."""
    monkeypatch.setattr(runner, "_FULL", 0.01)
    jobs = [add(ledger, "quick"), add(ledger, "quick")]
    refusals = {"end": 3, "claim": 2}
    for name in refusals:

        def change(self: Ledger, *args, do=getattr(Ledger, name), name=name):  # noqa: B008
            if refusals[name]:
                refusals[name] -= 1
                raise write_error(Path("queue.sqlite"), OSError(errno.ENOSPC, "full")) from OSError(
                    errno.ENOSPC, "full"
                )
            return do(self, *args)

        monkeypatch.setattr(Ledger, name, change)
    run(ledger)
    assert [(ledger.job(job.id).state, ledger.job(job.id).tries) for job in jobs] == [
        ("done", 1)
    ] * 2
    assert capsys.readouterr().out.count("; tried again\n") == 5


def test_a_training_that_was_paused_goes_on_from_its_state(ledger: Ledger) -> None:
    job = add(ledger, "long run")
    ledger.claim("auto")
    run_folder = ledger.workspace / "runs" / "mine"
    (run_folder / "state" / "step-00000003").mkdir(parents=True)
    ledger.set_run(job.id, str(run_folder))
    ledger.end(job.id, "paused", 130, "")
    ledger.resume(job.id)
    started = []

    def note(command: Sequence[str], folder: Path, record: Path) -> subprocess.Popen[bytes]:
        started.append(list(command))
        return start(["quick"], folder, record)

    run_queue(ledger, "auto", note)
    assert started == [["train", "--resume", str(run_folder)]]
    assert ledger.job(job.id).state == "done"


def test_the_run_of_a_training_is_put_into_what_follows_it(ledger: Ledger) -> None:
    first = add(ledger, "run")
    second = ledger.add(["pick", "{run}"], "pick", ledger.workspace, after=first.id)
    third = ledger.add(["pick", "{run}"], "pick", ledger.workspace)
    run(ledger)
    words = (ledger.try_folder(ledger.job(second.id)) / "command.txt").read_text().split("\n")
    assert words[:2] == ["pick", str(ledger.workspace / "runs" / "mine")]
    assert "follows no job" in ledger.job(third.id).message


def test_a_folder_that_is_gone_fails_the_job_alone(ledger: Ledger) -> None:
    lost = ledger.add(["tokens"], "lost", ledger.workspace / "nowhere")
    after = add(ledger, "quick")
    run(ledger)
    assert (ledger.job(lost.id).state, ledger.job(after.id).state) == ("failed", "done")


def test_runners_that_are_killed_lose_nothing(ledger: Ledger) -> None:
    """The real thing: processes of their own, and lorasmith's own command."""
    jobs = [ledger.add(["tokens", f"a cat {n}"], "count", ledger.workspace) for n in range(3)]
    ensure_runners(ledger)
    process = process_of(ledger, jobs[0])
    for each in psutil.process_iter(["cmdline"]):
        words = each.info["cmdline"] or []
        if "lorasmith.jobs.queue.runner" in words and str(ledger.workspace) in words:
            each.kill()
            each.wait(20)
    ensure_runners(ledger)
    until(lambda: all(job.has_ended for job in ledger.jobs()), 60)
    assert [ledger.job(job.id).state for job in jobs] == ["done"] * 3
    assert [ledger.job(job.id).tries for job in jobs] == [1] * 3
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
