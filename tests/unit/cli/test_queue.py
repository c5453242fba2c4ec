"""``lorasmith queue``: what is typed, and what is answered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

import lorasmith.cli.queue as cli_queue
from lorasmith.cli.main import cli
from lorasmith.core import job_record
from lorasmith.jobs.queue.ledger import Ledger
from lorasmith.jobs.queue.runner import _ending
from lorasmith.jobs.queue.watch import LOG


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In a workspace with pictures, and no runner: nothing that is queued begins."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli_queue, "ensure_runners", lambda ledger: None)
    (tmp_path / "pictures").mkdir()
    return tmp_path


def queue(*words: str) -> Result:
    return CliRunner().invoke(cli, ["queue", *words])


def test_a_training_and_what_follows_it() -> None:
    told = queue("add", "--title", "my zorp", "train", "pictures", "--adapter.rank", "8")
    assert told.stdout == "queued as job 1: my zorp\n"
    assert queue("add", "--after", "1", "pick", "{run}").exit_code == 0
    listed = queue("list")
    assert "waits for job 1, which is queued" in " ".join(listed.stdout.split())
    one, two = json.loads(queue("list", "--json").stdout)
    assert one["command"][0] == "train"
    assert "rank = 8" in Path(one["command"][1]).read_text()
    assert (two["command"], two["after"]) == (["pick", "{run}"], 1)


def test_each_verb_does_what_it_says(here: Path) -> None:
    for number in range(3):
        queue("add", "tokens", f"a cat {number}")
    for words, states in (
        (("hold", "1", "2"), ["held", "held", "queued"]),
        (("release", "2"), ["held", "queued", "queued"]),
        (("cancel", "3"), ["held", "queued", "cancelled"]),
        (("retry", "3"), ["held", "queued", "queued"]),
    ):
        assert queue(*words).exit_code == 0
        jobs = sorted(Ledger(here).jobs(), key=lambda job: job.id)
        assert [job.state for job in jobs] == states
    queue("move", "3", "--first")
    assert [job.id for job in Ledger(here).jobs()] == [3, 1, 2]
    queue("move", "3", "--before", "2")
    assert [job.id for job in Ledger(here).jobs()] == [1, 3, 2]
    queue("cancel", "1")
    assert queue("clear").stdout == "forgot 1 job\n"
    queue("remove", "2", "3")
    assert "Nothing is queued" in queue("list").stdout


def test_a_running_job_is_ended_at_once_only_when_asked_again(here: Path) -> None:
    queue("add", "tokens", "a\ncat")
    assert Ledger(here).jobs()[0].title == "tokens a cat"
    Ledger(here).claim("auto")
    assert "stops soon" in queue("cancel", "1", "1").stdout
    assert Ledger(here).job(1).wish == "cancel"
    assert "ended at once" in queue("cancel", "1").stdout


def test_clear_keeps_what_another_waits_for(here: Path) -> None:
    queue("add", "tokens", "a")
    queue("add", "--after", "1", "tokens", "b")
    queue("cancel", "1")
    assert queue("clear").stdout == "forgot 0 jobs\n"
    queue("cancel", "2")
    assert queue("clear").stdout == "forgot 2 jobs\n"


def test_a_job_that_would_ask_says_so(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What leaves by an exit status of its own is no crash."""
    record = here / "record"
    record.mkdir()
    monkeypatch.setenv("LORASMITH_JOB", str(record))
    job_record.current.cache_clear()
    Image.new("RGB", (8, 8)).save(here / "pictures" / "a.png")
    (here / "pictures" / "a.txt").write_text("b")
    told = CliRunner().invoke(cli, ["dataset", "edit", "pictures", "--add", "a"])
    job_record.current.cache_clear()
    assert told.exit_code == 2
    (record / LOG).write_text(told.output)
    state, status, message = _ending(Ledger(here).add(["x"], "x", here), record, 2)
    assert (state, status) == ("failed", 2)
    assert "add --yes" in message


def test_a_sweep() -> None:
    told = queue("add", "--sweep", "optimizer.lr=1e-4,2e-4", "train", "pictures")
    assert told.stdout.splitlines() == [
        "queued as job 1: train pictures-lr1e-4",
        "queued as job 2: train pictures-lr2e-4",
    ]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("add", "trian", "pictures"), "No such command 'trian'"),
        (("add", "train", "pictures", "--adapter.rnk", "8"), "--adapter.rnk"),
        (("add", "train", "pictures", "--adapter.rank", "many"), "adapter.rank"),
        (("add", "train", "nowhere"), "nowhere"),
        (("add", "queue", "list"), "has no work that could wait"),
        (("add", "tensorboard"), "tensorboard has no work that could wait"),
        (("add", "--sweep", "a.b=1,2", "tokens", "a"), "--sweep is of trainings"),
        (("add", "--after", "7", "tokens", "a"), "job 7"),
        (("add", "pick", "{run}"), "none is named"),
        (("add", "--device", "banana", "tokens", "a"), "'banana' is no device"),
        (("add", "--device", "banana", "train", "pictures"), "'banana' is no device"),
        (("add", "dataset", "edit", "pictures", "--append", "a"), "--append"),
        (("add", "dataset", "tagg", "pictures"), "tagg"),
        (("list", "--workspace", "nowhere"), "nowhere"),
        (("cancel", "7"), "job 7: is not in the queue"),
        (("pause", "7"), "job 7: is not in the queue"),
        (("move", "7", "--first", "--before", "8"), "contradict"),
        (("show", "7"), "job 7"),
        (("list", "--workspace", "pictures/file"), "file"),
    ],
)
def test_mistakes_are_told_and_queue_nothing(here: Path, words: tuple[str, ...], what: str) -> None:
    (here / "pictures" / "file").write_text("")
    told = queue(*words)
    assert told.exit_code == 2
    assert what in told.output
    assert Ledger(here).jobs() == []


def test_show_says_the_command_as_it_could_be_typed() -> None:
    queue("add", "--hold", "tokens", "a cat's hat")
    shown = queue("show", "1").stdout
    assert """lorasmith tokens 'a cat'"'"'s hat'""" in shown
    assert "held" in shown
