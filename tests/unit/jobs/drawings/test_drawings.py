"""Drawings one after the other, by a process that is a stub; and who comes first."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.jobs.drawings.stub import STUB

from lorasmith.core.errors import Stopped, UserError
from lorasmith.jobs.drawings.queue import Drawings
from lorasmith.jobs.drawings.records import (
    DrawingRecord,
    LoraUse,
    NewDrawing,
    PreviewRecord,
    drawing_line,
)
from lorasmith.jobs.engine.drawing import DrawingEngine
from lorasmith.jobs.engine.giving_way import GivingWay
from lorasmith.jobs.engine.process import Asking, BusyError, GivenUpError
from lorasmith.jobs.generate import GenerateRequest
from lorasmith.jobs.queue.ledger import Job, Ledger


class Bench:
    def __init__(self, folder: Path) -> None:
        self.running: list[Job] = []
        self.engine = DrawingEngine(folder, (sys.executable, "-c", STUB))
        self.drawings = Drawings(folder, GivingWay(self.engine, lambda: self.running))
        self.folder = folder
        ledger = Ledger(folder)
        self.job = replace(ledger.add(["train"], "train zorp", folder), state="running")

    def add(self, prompt: str, device: str = "auto") -> str:
        request = GenerateRequest(prompt=prompt, device=device, out=self.folder / "out")
        return self.drawings.add(NewDrawing(prompt=prompt), request).id

    def get(self, number: str) -> DrawingRecord:
        return self.drawings.get(number)

    def wait(self, number: str, is_so: Callable[[DrawingRecord], object]) -> DrawingRecord:
        deadline = time.monotonic() + 60
        while not is_so(record := self.get(number)):
            assert time.monotonic() < deadline, record
            time.sleep(0.01)
        return record

    def ended(self, number: str) -> DrawingRecord:
        return self.wait(number, lambda record: record.has_ended)


def until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.engine.release()


def test_one_after_the_other(bench: Bench) -> None:
    slow, second = bench.add("slow"), bench.add("zorp")
    record = bench.wait(slow, lambda record: record.previews)
    assert (record.state, record.done, record.total) == ("drawing", 1, 2)
    assert record.first is not None
    assert Path(record.previews[0].path).is_file()
    assert bench.get(second).state == "waiting"
    assert [each.id for each in bench.drawings.all()] == [slow, second]
    bench.drawings.cancel(slow)
    assert bench.ended(second).pictures == ["/out/2.png"]
    cancelled = bench.get(slow)
    assert (cancelled.state, cancelled.why) == ("cancelled", "stopped; no picture was finished")
    assert [each.id for each in bench.drawings.all()] == [second, slow]
    assert not Path(record.previews[0].path).exists()


def test_what_waits_is_forgotten_when_it_is_cancelled(bench: Bench) -> None:
    slow, second = bench.add("slow"), bench.add("zorp")
    assert bench.drawings.cancel(second).state == "cancelled"
    bench.drawings.cancel(slow)
    assert bench.ended(slow).state == "cancelled"
    assert bench.get(second).pictures == []


def test_what_does_not_hear_is_ended(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lorasmith.jobs.drawings.queue.PATIENCE", 0.1)
    deaf = bench.add("deaf")
    bench.wait(deaf, lambda record: record.previews)
    bench.drawings.cancel(deaf)
    assert bench.ended(deaf).state == "cancelled"
    assert bench.ended(bench.add("zorp")).state == "done"


def test_what_fails_says_why_and_others_are_drawn(bench: Bench) -> None:
    wrong, dead, fine = bench.add("wrong"), bench.add("die"), bench.add("zorp")
    assert bench.ended(fine).state == "done"
    assert [problem.where for problem in bench.get(wrong).problems] == ["steps"]
    assert "ended: out of memory" in bench.get(dead).why


def test_a_drawing_waits_for_a_job_and_says_for_which(bench: Bench) -> None:
    bench.running = [bench.job]
    waiting = bench.add("zorp")
    bench.wait(waiting, lambda record: "job 1 (train zorp)" in record.why)
    assert not bench.engine.running
    bench.running = []
    record = bench.ended(waiting)
    assert (record.state, record.why) == ("done", "")


def test_a_drawing_gives_way_to_a_job_and_is_drawn_afterwards(bench: Bench) -> None:
    slow = bench.add("slow")
    bench.wait(slow, lambda record: record.previews)
    bench.running = [bench.job]
    record = bench.wait(slow, lambda record: record.state == "waiting" and record.why)
    assert (record.done, record.previews) == (0, [])
    assert not bench.engine.running
    bench.running = []
    bench.wait(slow, lambda record: record.state == "drawing" and record.previews)
    bench.drawings.cancel(slow)
    bench.ended(slow)


def test_models_that_wait_for_the_next_drawing_give_way_too(bench: Bench) -> None:
    bench.ended(bench.add("zorp"))
    assert bench.engine.running
    bench.running = [bench.job]
    until(lambda: not bench.engine.running)


@pytest.mark.parametrize(
    ("job", "drawing"), [("cpu", "auto"), ("auto", "cpu"), ("cuda:1", "cuda:0")]
)
def test_who_is_in_nobodys_way(bench: Bench, job: str, drawing: str) -> None:
    bench.running = [replace(bench.job, device=job)]
    assert bench.ended(bench.add("zorp", drawing)).state == "done"


def test_a_tag_does_not_wait_for_a_long_drawing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorasmith.jobs.engine.drawing.TURN_SECONDS", 0.1)
    slow = bench.add("slow")
    bench.wait(slow, lambda record: record.previews)
    with pytest.raises(BusyError):
        bench.engine.tag(bench.folder / "a.png", bench.folder, "demo")
    bench.drawings.cancel(slow)
    bench.ended(slow)


def test_stop_reaches_what_is_asked_and_nothing_later(bench: Bench) -> None:
    first, second = Asking(), Asking()
    assert bench.engine.draw({"prompt": "zorp"}, None, print, asking=first)
    bench.engine.stop(first)
    assert bench.engine.draw({"prompt": "zorp"}, None, print)
    with pytest.raises(Stopped):
        bench.engine.draw(
            {"prompt": "slow"}, None, lambda event: bench.engine.stop(second), asking=second
        )
    with pytest.raises(Stopped, match="before it began"):
        bench.engine.draw({"prompt": "zorp"}, None, print, asking=second)


def test_cancelled_is_what_was_meant_and_nothing_else(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorasmith.jobs.drawings.queue.PATIENCE", 0.1)
    with ThreadPoolExecutor(1) as pool:
        tag = pool.submit(bench.engine.ask, {"ask": "tag", "request": {"prompt": "slow"}})
        until(lambda: bench.engine.running)
        drawing = bench.add("zorp")
        bench.wait(drawing, lambda record: record.state == "drawing")
        bench.drawings.cancel(drawing)
        record = bench.ended(drawing)
        assert (record.state, record.why) == ("cancelled", "stopped before it began")
        time.sleep(0.5)  # Longer than patience lasts.
        assert not tag.done()
        bench.engine.release()
        with pytest.raises(GivenUpError):
            tag.result(10)


def test_a_job_that_began_while_a_drawing_waited_comes_first(bench: Bench) -> None:
    bench.drawings.warm_up(GenerateRequest(prompt="deaf"))  # A load that goes on and on.
    until(lambda: bench.engine.running)
    slow = bench.add("slow")
    bench.wait(slow, lambda record: record.state == "drawing")
    bench.running = [bench.job]
    bench.wait(slow, lambda record: "job 1 (train zorp)" in record.why)
    assert not bench.engine.running
    bench.running = []
    bench.wait(slow, lambda record: record.state == "drawing" and record.previews)
    bench.drawings.cancel(slow)
    assert bench.ended(slow).state == "cancelled"


def test_what_waited_for_its_turn_begins_nothing_beside_a_job(bench: Bench) -> None:
    guard = GivingWay(bench.engine, lambda: bench.running)
    with guard.using("cuda:0") as first:
        first()
        bench.running = [bench.job]
        with pytest.raises(GivenUpError, match=r"job 1 \(train zorp\) has the device"):
            bench.engine.draw({"prompt": "zorp"}, None, print, first=first)
    assert not bench.engine.running


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_others_are_drawn_whatever_one_ends_with(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = """import sys; sys.stdin.readline(); print('{"id": 1, "to', end="", flush=True)"""
    monkeypatch.setattr(bench.engine, "_command", (sys.executable, "-c", cut))
    killed = bench.ended(bench.add("zorp"))
    assert (killed.state, "ended: status" in killed.why) == ("failed", True)
    monkeypatch.undo()

    def broken(event: object) -> None:
        raise KeyError("place")

    monkeypatch.setattr(PreviewRecord, "model_validate", broken)
    odd = bench.ended(bench.add("zorp"))
    assert (odd.state, odd.why) == ("failed", "a bug in lorasmith: KeyError: 'place'")
    monkeypatch.undo()
    assert bench.ended(bench.add("zorp")).state == "done"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_it_gives_way_where_jobs_cannot_be_looked_for(bench: Bench) -> None:
    bench.ended(bench.add("zorp"))
    bench.running = [None]  # type: ignore[list-item]
    until(lambda: not bench.engine.running)
    bench.running = []
    bench.ended(bench.add("zorp"))
    bench.running = [bench.job]
    until(lambda: not bench.engine.running)


# What a drawing is asked with


def test_a_drawing_has_the_options_of_generate() -> None:
    beside = {"project", "trial", "loras"}
    of_datasets = {"captions", "without", "prompts", "from_png", "model_dir", "out"}
    later = {"preview_of"}  # A page makes a preview of any drawing that there is.
    options = set(GenerateRequest.model_fields) - of_datasets - later
    assert set(NewDrawing.model_fields) - beside == options


def test_loras_become_tags() -> None:
    drawing = NewDrawing(
        prompt="zorp",
        steps=3,
        loras=[
            LoraUse(name="a", strength=0.8),
            LoraUse(name="b", strength=1, text_encoder=0.5),
            LoraUse(name="c", strength=1, blocks={"IN04": 0.5}),
            LoraUse(name="off", strength=0),
        ],
    )
    values = drawing.values()
    a, b, c = values["prompt"].removeprefix("zorp ").split(" ")
    assert (a, b) == ("<lora:a:0.8>", "<lora:b:unet=1.0:te=0.5>")
    assert c.startswith("<lora:c:1.0:lbw=1,1,1,1,1,0.5,1")
    assert values.keys() == {"prompt", "steps"}
    for bad in (LoraUse(name="a:b"), LoraUse(name="a", blocks={"IN99": 1})):
        with pytest.raises(UserError):
            NewDrawing(prompt="zorp", loras=[bad]).values()


def test_the_command_line_draws_the_same() -> None:
    request = GenerateRequest(
        prompt="-a <lora:b:1>", negative="-x", cfg=7.0, hires_denoise=0.5, zero_terminal_snr=True
    )
    assert drawing_line(request) == (
        "lorasmith generate --negative=-x --cfg 7.0 --zero-terminal-snr -- '-a <lora:b:1>'"
    )
