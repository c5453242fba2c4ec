"""What is queued is frozen, checked, and made several of by a sweep."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorasmith.config.load import load_settings
from lorasmith.core.errors import UserError, WriteError
from lorasmith.jobs.queue import submit as submit_module
from lorasmith.jobs.queue.ledger import Job, Ledger
from lorasmith.jobs.queue.submit import submit, submit_training, sweep_option
from lorasmith.jobs.training import TrainRequest


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    (tmp_path / "10_zorp").mkdir()
    return Ledger(tmp_path / "workspace")


def train(ledger: Ledger, *given: str, config: Path | None = None, **more) -> list[Job]:
    settings = [f"data.path={ledger.workspace.parent / '10_zorp'}", *given]
    request = TrainRequest(config=config, settings=settings)
    return submit_training(ledger, request, ledger.workspace, **more)


def settings_of(job: Job):
    assert job.command[0] == "train"
    return load_settings(Path(job.command[1]))


def test_what_the_file_says_later_changes_nothing(ledger: Ledger, tmp_path: Path) -> None:
    config = tmp_path / "mine.toml"
    config.write_text("[optimizer]\nlr = 3e-4\n[save]\nname = 'früh'\n")
    (job,) = train(ledger, config=config)
    config.write_text("[optimizer]\nlr = 9e-4\n")
    assert settings_of(job).optimizer.lr == 3e-4
    assert settings_of(job).save.name == "früh"
    assert (job.state, job.title) == ("queued", "train früh")


def test_only_what_was_given_is_frozen_so_that_the_base_may_say_the_rest(ledger: Ledger) -> None:
    (job,) = train(ledger, "adapter.rank=8")
    text = Path(job.command[1]).read_text()
    assert "rank = 8" in text
    assert "alpha" not in text
    assert "[optimizer]" not in text


def test_a_sweep_makes_a_job_of_each_combination_named_by_what_differs(ledger: Ledger) -> None:
    sweep = ["optimizer.lr=1e-4,2e-4", "adapter.rank=4, 8"]
    jobs = train(ledger, sweep=sweep, hold=True)
    seen = [(settings_of(job).optimizer.lr, settings_of(job).adapter.rank) for job in jobs]
    assert seen == [(1e-4, 4), (1e-4, 8), (2e-4, 4), (2e-4, 8)]
    names = [settings_of(job).save.name for job in jobs]
    assert len(set(names)) == 4
    assert names[1].endswith("-lr1e-4-rank8")
    assert [job.title for job in jobs] == [f"train {name}" for name in names]
    assert {job.state for job in jobs} == {"held"}


def test_values_with_commas_stand_in_brackets(ledger: Ledger) -> None:
    jobs = train(ledger, sweep=['adapter.targets=["attention"],["attention", "full"]'])
    assert [len(settings_of(job).adapter.targets) for job in jobs] == [1, 2]


@pytest.mark.parametrize(
    ("sweep", "what"),
    [
        (["optimizer.lr=1e-4"], "two values"),
        (["optimizer.lr"], "two values"),
        (["optimizer.lr=1e-4,fast"], "fast"),
        (["optimizer.lt=1,2"], "lt"),
        (["train.seed=" + ",".join(map(str, range(300)))], "300 jobs"),
    ],
)
def test_a_wrong_sweep_queues_nothing(ledger: Ledger, sweep: list[str], what: str) -> None:
    with pytest.raises(UserError, match=what):
        train(ledger, sweep=sweep)
    assert ledger.jobs() == []


def test_wrong_settings_queue_nothing(ledger: Ledger) -> None:
    with pytest.raises(UserError, match=r"optimizer\.lr"):
        train(ledger, "optimizer.lr=high")
    assert ledger.jobs() == []


def test_a_device_is_the_trainings_too(ledger: Ledger) -> None:
    (job,) = train(ledger, device="cuda:1")
    assert job.device == settings_of(job).performance.device == "cuda:1"


def test_a_run_stands_for_that_of_another_job(ledger: Ledger) -> None:
    with pytest.raises(UserError, match="none is named"):
        submit(ledger, ["pick", "{run}"], ledger.workspace)
    (first,) = train(ledger)
    assert submit(ledger, ["pick", "{run}"], ledger.workspace, after=first.id).after == first.id


def test_a_sweep_for_which_there_is_no_room_is_not_queued_at_all(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []

    def write(path: Path, text: str) -> None:
        if written:
            raise WriteError.of(path, "the disk is full")
        written.append(path)

    monkeypatch.setattr(submit_module, "write_text", write)
    with pytest.raises(WriteError):
        train(ledger, sweep=["adapter.rank=4,8"])
    assert written
    assert ledger.jobs() == []


def test_paths_are_those_of_the_folder_in_which_it_is_run(ledger: Ledger, tmp_path: Path) -> None:
    request = TrainRequest(settings=["data.path=10_zorp", "save.output=out"])
    (job,) = submit_training(ledger, request, tmp_path / "elsewhere")
    assert settings_of(job).data.path == tmp_path / "elsewhere" / "10_zorp"
    assert settings_of(job).save.output == tmp_path / "elsewhere" / "out"


def test_values_with_commas_of_their_own_are_swept(ledger: Ledger) -> None:
    values = ["a cat", 'zorp, "standing"', "it's, \\ here"]
    jobs = train(ledger, sweep=[sweep_option("captions.prefix", values)], hold=True)
    assert [settings_of(job).captions.prefix for job in jobs] == values
    sizes = [sweep_option("data.resolution", ["[64, 96]", "64"])]
    resolutions = [settings_of(job).data.resolution for job in train(ledger, sweep=sizes)]
    assert len(resolutions) == 2
    assert resolutions[1] == 64
