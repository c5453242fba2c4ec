"""Runs as they are told to those who watch them."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.made_up_runs import metrics_line, safetensors, write_run

from lorasmith.core.errors import RunError, UserError
from lorasmith.core.growing_log import GrowingLog, last_record
from lorasmith.jobs.runs.asking import ask_run
from lorasmith.jobs.runs.logs import EventsLog, MetricsLog
from lorasmith.jobs.runs.reader import RunReader, find_runs
from lorasmith.jobs.runs.settings import compare_runs
from lorasmith.training.runs.control import read_status
from lorasmith.training.runs.folder import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "project" / "runs" / "cat")


def test_a_run_in_a_list(run: Path) -> None:
    (only,) = RunReader().runs(run.parents[2])
    assert (only.path, only.name, only.state) == (str(run), "cat", "stopped")
    assert (only.step, only.steps, only.model) == (20, 40, "demo")
    assert only.loss == pytest.approx(0.1)
    assert only.lora == str(run / "cat-000002.safetensors")
    assert only.cover == str(run / "samples" / "00000020-00-7.png")
    assert only.started == pytest.approx((run / "settings.toml").stat().st_mtime)
    assert only.seconds_left is None


@pytest.mark.parametrize(
    ("kind", "has_strength"),
    [("lora", True), ("lora+embedding", True), ("slider", True), ("embedding", False),
     ("full", False)],
)  # fmt: skip
def test_whether_its_files_have_a_strength(tmp_path: Path, kind: str, has_strength: bool) -> None:
    write_run(tmp_path / "cat", **{"train.kind": kind, "data.path": "none"})
    (only,) = RunReader().runs(tmp_path)
    assert (only.kind, only.has_strength) == (kind, has_strength)


def test_the_state_is_what_the_command_line_says(run: Path) -> None:
    reader, folder = RunReader(), RunFolder(run)
    assert reader.run(run).state == read_status(folder).state == "stopped"
    with folder:
        assert reader.run(run).state == read_status(folder).state == "running"
        assert reader.runs(run)[0].seconds_left == 20.0
        (run / "metrics.jsonl").unlink()
        assert reader.run(run).state == "preparing"
    (run / "run.json").write_text('{"status": "started"}')
    assert reader.run(run).state == read_status(folder).state == "killed"


def test_runs_are_found_below_and_not_inside_others(run: Path) -> None:
    workspace = run.parents[2]
    inner = write_run(run / "samples" / "deeper")
    flat = write_run(workspace / "loras" / ".zorp.lorasmith")
    hidden = write_run(workspace / ".lorasmith" / "jobs" / "x")
    os.symlink(run, workspace / "link")
    assert find_runs(workspace) == sorted([run, flat])
    assert not {inner, hidden} & set(find_runs(workspace))
    assert find_runs(run) == [run]
    assert find_runs(workspace / "nowhere") == []


def test_what_is_said_of_a_run(run: Path) -> None:
    detail = RunReader().run(run)
    said = {(one.by, one.text) for one in detail.says}
    assert ("training", "two pictures are alike") in said
    assert ("watchdog", "the loss is nan at step 12") in said
    assert ("watchdog", "back to step 10; going on with half the rate") in said
    assert ("best", "x-000001: undertrained: the loss still falls") in said
    assert ("request", "not done: no prompts") in said
    assert detail.changed == ["after step 5: learning rate x 0.5 (by request)"]
    (run / "pick").mkdir()
    verdict = {"summary": "keep epoch 2", "advice": ["train longer"], "limits": []}
    (run / "pick" / "verdict.json").write_text(json.dumps(verdict))
    by_pick = [one.text for one in RunReader().run(run).says if one.by == "pick"]
    assert by_pick == ["keep epoch 2", "train longer"]


def test_what_pick_keeps_is_marked(run: Path) -> None:
    assert RunReader().runs(run)[0].picked == ""
    (run / "pick").mkdir()
    verdict = {
        "keep": {"file": "before-000002.safetensors", "label": "epoch 2", "step": 20},
        "snapshots": [{"step": 10, "state": "under"}, {"step": 20, "state": "well"}, {"step": []}],
    }
    (run / "pick" / "verdict.json").write_text(json.dumps(verdict))
    detail = RunReader().run(run)
    assert detail.picked == "epoch 2"
    assert [(one.judged, one.picked) for one in detail.loras] == [("under", False), ("well", True)]


def test_its_settings_and_files(run: Path) -> None:
    (run / "cat.safetensors").write_bytes(safetensors(25))
    detail = RunReader().run(run)
    assert detail.settings["optimizer.lr"] == 3e-4
    assert "lr = 0.0003" in detail.settings_text
    changed = {one.path: (one.value, one.other) for one in detail.differs_from_default}
    assert changed == {"optimizer.lr": (3e-4, 1e-4), "data.path": ("pictures", None)}
    assert [(one.step, one.epoch, one.final) for one in detail.loras] == [
        (10, 1, False), (20, 2, False), (25, None, True),
    ]  # fmt: skip
    assert detail.lora == str(run / "cat.safetensors")


def test_samples_are_a_table(run: Path) -> None:
    samples = RunReader().samples(run)
    assert [(one.step, one.epoch, one.index, one.prompt, one.seed) for one in samples] == [
        (step, step // 10, index, ["a cat", "a <b>dog</b>"][index], 7 + index)
        for step in (0, 10, 20)
        for index in (0, 1)
    ]
    before = samples[0].version
    (run / "samples" / "00000000-00-7.png").write_bytes(b"another")
    assert RunReader().samples(run)[0].version != before


def test_samples_of_a_flat_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / ".zorp.lorasmith")
    (tmp_path / "sample").mkdir()
    for name in ("zorp_e000002_00_7.png", "zorp_000005_01_8.png", "other_000005_01_8.png"):
        (tmp_path / "sample" / name).write_bytes(b"png")
    samples = RunReader().samples(run)
    assert [(one.step, one.epoch, one.index) for one in samples] == [(5, None, 1), (20, 2, 0)]


def test_events_from_a_number_on(run: Path) -> None:
    reader = RunReader()
    everything = reader.events(run)
    assert "pictures" not in everything.events[1]
    assert reader.events(run, everything.next).events == []
    with open(run / "events.jsonl", "a") as file:
        file.write('{"event": "Notice", "text": "new"}\n{"event": "half')
    more = reader.events(run, everything.next)
    assert [one["text"] for one in more.events] == ["new"]
    assert more.next == everything.next + 1


def test_two_runs_compared(run: Path) -> None:
    other = write_run(run.parent / "dog", **{"optimizer.lr": "1e-4", "adapter.rank": "8"})
    differences = {one.path: (one.value, one.other) for one in compare_runs(run, other)}
    assert differences == {"optimizer.lr": (3e-4, 1e-4), "adapter.rank": (16, 8)}


def test_asking_is_refused_where_nothing_runs(run: Path) -> None:
    with pytest.raises(RunError, match="it was stopped"):
        ask_run(run, ["samples"])
    with RunFolder(run) as folder:
        with pytest.raises(UserError) as caught:
            ask_run(run, ["samples", "dance", "lr=100"])
        assert len(caught.value.problems) == 2
        assert not folder.control.exists()
        assert ask_run(run, ["samples", "lr=0.5"]).read_text() == "samples\nlr=0.5\n"
        assert RunReader().run(run).waiting == 1


# Curves


def write_lines(path: Path, *lines: str) -> None:
    with open(path, "a") as file:
        file.writelines(lines)


def test_curves_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    log.update()
    assert log.columns() == {"step": []}
    write_lines(path, metrics_line(1), metrics_line(2)[:40])
    log.update()
    assert log.columns()["step"] == [1]
    write_lines(path, metrics_line(2)[40:], '{"step": 2, "held_out": 0.25, "errors": {}}\n')
    log.update()
    columns = log.columns()
    assert columns["loss"] == [1.0, 0.5]
    assert columns["lr/unet"] == [1e-4, 1e-4]
    assert columns["held_out"] == [None, 0.25]
    assert "loss_scale" not in columns
    assert log.columns(after=1)["loss"] == [0.5]


def test_steps_that_are_done_again_replace_those_before(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    write_lines(path, *map(metrics_line, range(1, 9)))
    log.update()
    write_lines(path, metrics_line(5, loss=9.0))
    log.update()
    assert log.columns()["step"] == [1, 2, 3, 4, 5]
    assert log.columns()["loss"][-1] == 9.0


@pytest.mark.parametrize("replace", [True, False])
def test_a_log_that_is_cut_back_is_read_anew(tmp_path: Path, replace: bool) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    write_lines(path, *map(metrics_line, range(1, 9)))
    log.update()
    shorter = tmp_path / "new"
    write_lines(shorter, *(metrics_line(step, loss=7.0) for step in range(1, 9 if replace else 4)))
    if replace:
        os.replace(shorter, path)
    else:
        path.write_text(shorter.read_text())
    log.update()
    assert set(log.columns()["loss"]) == {7.0}
    path.unlink()
    log.update()
    assert log.rows == 0


@pytest.mark.parametrize("rows", [1, 2, 99, 100, 101, 199, 250, 1001])
def test_bringing_curves_together_keeps_peaks(tmp_path: Path, rows: int) -> None:
    path = tmp_path / "metrics.jsonl"
    losses = [math.sin(step * 12.9898) * 43758.5453 % 1 for step in range(rows)]
    lines = [metrics_line(step + 1, loss=loss) for step, loss in enumerate(losses)]
    held_out = json.dumps({"step": rows // 2 + 1, "held_out": 0.5}) + "\n"
    write_lines(path, *lines[: rows // 2 + 1], held_out, *lines[rows // 2 + 1 :])
    log = MetricsLog(path)
    log.update()
    columns = log.columns(points=100)
    steps = columns["step"]
    assert len(steps) <= 101
    assert all(len(column) == len(steps) for column in columns.values())
    assert steps == sorted(set(steps), key=lambda step: step or 0)
    assert (steps[0], steps[-1]) == (1, rows)
    kept = [value for value in columns["loss"] if value is not None]
    assert (min(kept), max(kept)) == (min(losses), max(losses))
    assert [value for value in columns["held_out"] if value is not None] == [0.5]
    assert None not in columns["lr/unet"]


def test_a_long_log_is_read_once(tmp_path: Path) -> None:
    path, count = tmp_path / "metrics.jsonl", 20_000
    path.write_text("".join(map(metrics_line, range(1, count + 1))))
    log = MetricsLog(path)
    began = time.perf_counter()
    log.update()
    first = time.perf_counter() - began
    write_lines(path, metrics_line(count + 1))
    began = time.perf_counter()
    log.update()
    columns = log.columns()
    assert time.perf_counter() - began < max(0.1, first / 5)
    assert columns["step"][-1] == count + 1


# What no training leaves behind

HOSTILE: list[tuple[str, Any]] = [
    ("metrics.jsonl", "\x00\xff{{{\n[1]\n5\n" + '{"step": true}\n{"step": "1"}\n{"step": -4}\n'),
    ("metrics.jsonl", '{"step": 3, "loss": NaN, "epoch": 1, "lr": {"unet": Infinity}}\n'),
    ("metrics.jsonl", '{"step": 3, "loss": 1e400, "lr": [1], "d_lr": {"\\ud800": 1}}\n'),
    ("metrics.jsonl", '{"step": 1e300, "loss": 1}\n{"step": ' + "9" * 400 + ', "loss": 1}\n'),
    ("metrics.jsonl", "[" * 50_000),
    ("events.jsonl", '{"event": ["x"], "path": 5}\n{"event": "SampleSaved", "path": null}\n'),
    ("events.jsonl", '{"event": "Notice", "text": "<script>\\ud800\\u0000", "n": NaN}\n'),
    ("events.jsonl", '{"event": "SnapshotJudged", "path": "/", "reasons": [1, null, {}]}\n'),
    ("events.jsonl", '{"event": "BestKept", "why": 4}\n{"event": "RateFound", "lines": 3}\n'),
    ("run.json", "{"),
    ("run.json", "[1, 2]"),
    ("run.json", '{"status": 7, "steps": "x", "model": 3, "best": [], "interventions": {"a": 1}}'),
    ("run.json", '{"best": {"why": "\\udfff", "step": -1}, "interventions": [3, {"lr": "x"}]}'),
    ("settings.toml", "[[["),
    ("settings.toml", "version = 99\n"),
    ("settings.toml", "[optimizer]\nlr = -4\nnonsense = 1\n"),
    ("settings.toml", '[[sample.prompts]]\nprompt = "<img onerror=x>"\n'),
    ("dataset.json", '{"steps": {"steps_per_epoch": 0}}'),
    ("dataset.json", '{"steps": 4}'),
    ("pick/verdict.json", '{"summary": 4, "advice": [null, "\\ud800"], "limits": {}}'),
    ("samples/00000005-00-1.png", None),
    ("cat-000003.safetensors", None),
]


@pytest.mark.parametrize(("name", "content"), HOSTILE, ids=lambda value: str(value)[:30])
def test_nothing_in_a_folder_breaks_what_is_said_of_it(
    run: Path, name: str, content: str | None
) -> None:
    """Nor what others are told."""
    write_run(run.parent / "sound")
    path = run / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    if content is None:  # A link to nothing.
        os.symlink(run / "nowhere", path)
    else:
        path.write_text(content, encoding="utf-8", errors="surrogateescape")
    reader = RunReader()
    answers = [*reader.runs(run.parent), reader.run(run), reader.metrics(run)]
    answers += [*reader.samples(run), reader.events(run)]
    assert len(reader.runs(run.parent)) == 2
    for answer in answers:
        json.dumps(answer.model_dump(mode="json"), allow_nan=False).encode("utf-8")


def test_problems_are_told_and_the_rest_is_there(run: Path) -> None:
    (run / "run.json").write_text("{")
    (run / "settings.toml").write_text("[optimizer]\nlr = -4\n")
    detail = RunReader().run(run)
    assert {Path(one.where.partition(":")[0]).name for one in detail.problems} == {
        "run.json", "settings.toml",
    }  # fmt: skip
    assert detail.settings == {}
    assert detail.settings_text == "[optimizer]\nlr = -4\n"
    assert detail.step == 20


def test_an_older_settings_file_is_read(run: Path) -> None:
    (run / "settings.toml").write_text('version = 1\nmodel = "demo"\ndata = "pictures"\n')
    detail = RunReader().run(run)
    assert detail.problems == []
    assert detail.settings["model.defaults"] is False


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
@pytest.mark.parametrize("name", ["settings.toml", "run.json", "metrics.jsonl", "events.jsonl"])
def test_links_that_lead_out_are_not_read(run: Path, tmp_path: Path, name: str) -> None:
    secret = tmp_path / name
    os.replace(run / name, secret)
    with open(secret, "a") as file:
        file.write('\n# {"secret": 1}\n' if name == "settings.toml" else "")
    os.symlink(secret, run / name)
    reader = RunReader()
    detail = reader.run(run)
    read = {
        "settings.toml": detail.settings_text,
        "run.json": detail.info,
        "metrics.jsonl": reader.metrics(run).columns["step"],
        "events.jsonl": reader.events(run).events,
    }
    assert not read[name]


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    for ask in (RunReader().run, RunReader().metrics, RunReader().samples, RunReader().events):
        with pytest.raises(RunError, match="is not a run folder"):
            ask(tmp_path)


def test_the_last_number_is_found_behind_others(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    others = '{"step": 3, "held_out": 0.5, "text": "%s"}\n' % ("x" * 9000)
    write_lines(path, metrics_line(3), others, metrics_line(4)[:30])

    def has_loss(record: dict) -> bool:
        return isinstance(record.get("loss"), float)

    assert last_record(path, has_loss)["step"] == 3
    assert last_record(tmp_path / "none", has_loss) == {}


def test_events_keep_their_numbers_when_old_ones_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorasmith.jobs.runs.logs.MOST_EVENTS", 3)
    write_lines(tmp_path / "e", *(f'{{"event": "E", "n": {n}}}\n' for n in range(8)))
    log = EventsLog(tmp_path / "e")
    log.update()
    assert [one["n"] for one in log.since(0)] == [5, 6, 7]
    assert [one["n"] for one in log.since(7)] == [7]


def test_a_line_without_end_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lorasmith.core.growing_log.MOST_LINE", 100)
    write_lines(tmp_path / "e", "x" * 1000)
    log = GrowingLog(tmp_path / "e")
    assert log.read() == (False, [])
    write_lines(tmp_path / "e", '\n{"a": 1}\n')
    assert log.read() == (False, [{"a": 1}])
