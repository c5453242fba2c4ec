"""Requests through the run folder, and what they change."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorasmith.core.errors import RunError, UserError
from lorasmith.core.events import REQUESTS, Controls, Event, Request, RequestRefused
from lorasmith.training.interventions import Intervention, Interventions
from lorasmith.training.runs import control
from lorasmith.training.runs.control import Inbox, forget_requests, write_requests
from lorasmith.training.runs.folder import RunFolder


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "POLL_SECONDS", 0.0)


@pytest.mark.parametrize("what", [name for name in REQUESTS if name != "lr"])
def test_plain_requests(what: str) -> None:
    assert str(Request.parse(f" {what}\n")) == what


@given(st.floats(1e-4, 10))
def test_factors_survive_being_written(factor: float) -> None:
    once = Request.parse(f"lr = {factor!r}")
    assert once.factor == factor


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("smaples", "did you mean samples"),
        ("dance", "ask for samples, snapshot, state, stop, lr=FACTOR"),
        ("lr", "lr=0.5"),
        ("lr=", "lr=0.5"),
        ("lr=0", "0.0001 to 10"),
        ("lr=nan", "0.0001 to 10"),
        ("lr=11", "0.0001 to 10"),
        ("stop=now", "is not a request"),
        ("", "is not a request"),
    ],
)
def test_refused(text: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        Request.parse(text)
    assert says in str(caught.value)


def test_in_order_and_removed_when_done(tmp_path: Path) -> None:
    controls, seen = Controls(), list[Event]()
    inbox = Inbox(tmp_path / "control", controls, seen.append)
    inbox.poll(1)  # No folder yet.
    halves = (Request("lr", 0.5), Request("lr", 0.25))
    files = [write_requests(tmp_path / "control", *halves)]
    files.append(write_requests(tmp_path / "control", Request("state")))
    inbox.poll(2)
    inbox.poll(3)
    assert [str(request) for request in controls.take()] == ["lr=0.5", "lr=0.25", "state"]
    assert all(path.exists() for path in files)
    inbox.done()
    assert not any(path.exists() for path in files)
    assert not controls.asked
    assert not seen


def test_one_bad_line_spoils_no_other(tmp_path: Path) -> None:
    controls, seen = Controls(), list[Event]()
    (tmp_path / "by-hand").write_text("samples\n\ndance\nlr=0.5")
    Inbox(tmp_path, controls, seen.append).poll(4)
    assert controls.take() == [Request("samples"), Request("lr", 0.5)]
    assert [type(event) for event in seen] == [RequestRefused]


def test_what_could_not_be_done_is_asked_again(tmp_path: Path) -> None:
    controls = Controls()
    inbox = Inbox(tmp_path, controls, lambda event: None)
    write_requests(tmp_path, Request("snapshot"))
    inbox.poll(1)
    controls.take()
    inbox.put_back()
    inbox.poll(1)
    assert controls.take() == [Request("snapshot")]


def test_files_by_hand(tmp_path: Path) -> None:
    controls, seen = Controls(), list[Event]()
    inbox = Inbox(tmp_path, controls, seen.append)
    (tmp_path / ".snapshot.abc.tmp").write_text("snapsh")  # Being written.
    (tmp_path / "empty").touch()  # Likewise.
    (tmp_path / "bytes").write_bytes(os.urandom(3000))
    (tmp_path / "folder").mkdir()
    (tmp_path / "mine").write_text("stop")
    inbox.poll(5)
    assert controls.stopping
    (refusal,) = seen
    assert isinstance(refusal, RequestRefused)
    assert not (tmp_path / "bytes").exists()
    assert (tmp_path / "empty").exists()
    forget_requests(tmp_path)
    assert not (tmp_path / "empty").exists()


def test_what_others_hold_is_asked_once_and_removed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virus scanner opens each new file; Windows removes none that is open."""
    controls, seen = Controls(), list[Event]()
    inbox = Inbox(tmp_path, controls, seen.append)
    file = write_requests(tmp_path, Request("samples"))
    (tmp_path / "bad").write_text("dance")
    with monkeypatch.context() as patch:
        patch.setattr("lorasmith.training.runs.control.discard", lambda path: None)
        for step in (1, 2):
            inbox.poll(step)
            inbox.done()
    assert controls.take() == [Request("samples")]
    assert len(seen) == 1
    inbox.done()
    assert not file.exists()
    assert not (tmp_path / "bad").exists()


def test_a_request_that_cannot_be_read_yet_is_read_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    controls = Controls()
    inbox = Inbox(tmp_path, controls, lambda event: None)
    write_requests(tmp_path, Request("samples"))
    real = open

    def held(*args: Any, **more: Any) -> Any:
        raise PermissionError(13, "held")

    monkeypatch.setattr("builtins.open", held)
    inbox.poll(1)
    monkeypatch.setattr("builtins.open", real)
    assert not controls.asked
    inbox.poll(2)
    assert controls.take() == [Request("samples")]


def test_busy_is_known_without_taking_the_lock(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    assert not folder.busy
    with folder:
        assert RunFolder(tmp_path / "run").busy
    assert not folder.busy
    # What a killed process leaves is a file that nobody holds.
    (tmp_path / "run" / "run.lock").touch()
    assert not folder.busy
    with folder:
        pass


def test_the_lock_file_stays_the_same(tmp_path: Path) -> None:
    """A process that opened it before the other let go of it holds the one lock that there is."""
    fcntl = pytest.importorskip("fcntl")
    with contextlib.ExitStack() as stack:
        with RunFolder(tmp_path / "run"):
            path = tmp_path / "run" / "run.lock"
            early = stack.enter_context(open(path, "a", encoding="utf-8"))
        fcntl.flock(early, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert RunFolder(tmp_path / "run").busy
        with pytest.raises(RunError, match="another process"), RunFolder(tmp_path / "run"):
            pass
    assert not RunFolder(tmp_path / "run").busy


def test_rates_follow_the_step() -> None:
    changes = Interventions(
        [Intervention(3, "request", lr=0.5), Intervention(5, "watchdog", lr=0.1)]
    )
    assert [changes.lr_factor(step) for step in (0, 2, 3, 4, 5, 99)] == pytest.approx(
        [1, 1, 0.5, 0.5, 0.05, 0.05]
    )


def test_going_further_back_keeps_what_was_changed_before() -> None:
    """The second time, the rate must not rise for the steps before the first time."""
    changes = Interventions([Intervention(3, "request", lr=0.5)])
    changes.add(Intervention(20, "watchdog", lr=0.5))
    changes.add(Intervention(10, "watchdog", lr=0.5))
    assert changes.lr_factor(10) == 0.125
    assert changes.by_watchdog == 2


def test_records_are_read_back() -> None:
    changes = [
        Intervention(3, "watchdog", left_out=(1, 5), in_fp32=("unet.mid_block",), why="nan"),
        Intervention(4, "request", lr=0.5),
    ]
    again = Interventions.of(Interventions(changes).records())
    assert list(again) == changes
    assert again.left_out(2) == frozenset()
    assert again.left_out(3) == {1, 5}
    assert str(changes[0]) == "2 picture(s) left out, unet.mid_block in fp32"
