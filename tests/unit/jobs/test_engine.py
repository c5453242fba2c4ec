"""The process that answers at once: what it answers, and what becomes of it."""

from __future__ import annotations

import io
import json
import shlex
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from lorasmith.core.errors import RunError
from lorasmith.core.events import ignore
from lorasmith.demo.character import write_training_set
from lorasmith.jobs.engine.planning import PlanningEngine as Engine
from lorasmith.jobs.engine.serve import planning_answers, serve
from lorasmith.jobs.plan import PlanAnswer
from lorasmith.jobs.training import TrainRequest

STUB = """
import json, os, sys
for line in sys.stdin:
    question = json.loads(line)
    wish = question["values"].get("wish")
    if wish == "die" or (wish == "die once" and not os.path.exists("died")):
        open("died", "w").close()
        sys.exit("out of memory")
    if wish == "sleep":
        import time; time.sleep(60)
    answer = {"ok": False, "command": str(os.getpid())}
    print(json.dumps({"id": question["id"], "answer": answer}), flush=True)
"""


SLEEP = {"wish": "sleep"}


@pytest.fixture
def engine(tmp_path: Path):
    engine = Engine(tmp_path, (sys.executable, "-c", STUB))
    yield engine
    engine.release()


def test_one_process_for_many_questions(engine: Engine) -> None:
    assert not engine.running
    first = engine.plan({}).command
    assert engine.plan({}).command == first
    assert engine.running
    engine.release()
    assert not engine.running
    assert engine.plan({}).command != first


def test_a_process_that_died_is_begun_again(engine: Engine) -> None:
    before = engine.plan({}).command
    assert engine.plan({"wish": "die once"}).command != before


def test_what_dies_each_time_is_said(engine: Engine) -> None:
    with pytest.raises(RunError, match="ended: out of memory"):
        engine.plan({"wish": "die"})
    assert engine.plan({}).command


def test_no_answer_in_time(engine: Engine) -> None:
    engine.plan({})
    began = time.monotonic()
    with pytest.raises(RunError, match=r"no answer within 0\.2 s"):
        engine.plan({"wish": "sleep"}, timeout=0.2)
    assert time.monotonic() - began < 10
    assert not engine.running
    assert engine.plan({}).command


def test_who_waits_for_an_answer_is_told_when_a_job_takes_the_memory(engine: Engine) -> None:
    engine.plan({})
    told: list[str] = []

    def ask() -> None:
        try:
            engine.plan(SLEEP)
        except RunError as error:
            told.append(str(error))

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.2)
    began = time.monotonic()
    engine.release()
    asking.join(60)
    assert time.monotonic() - began < 5
    assert "given up for a job" in told[0]
    assert not engine.running
    assert engine.plan({}).command


def test_it_is_warmed_up_without_waiting(engine: Engine) -> None:
    engine.warm_up()
    assert engine.running

    def ask() -> None:
        with pytest.raises(RunError):
            engine.plan(SLEEP)

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.2)
    began = time.monotonic()
    engine.warm_up()
    assert time.monotonic() - began < 1
    engine.release()
    asking.join(60)


def test_it_ends_when_nobody_asks_for_a_while(tmp_path: Path) -> None:
    engine = Engine(tmp_path, (sys.executable, "-c", STUB), idle=0.4)
    first = engine.plan({}).command
    time.sleep(0.2)
    assert engine.plan({}).command == first
    time.sleep(0.3)
    assert engine.running  # Since the last question, not since the first.
    deadline = time.monotonic() + 60
    while engine.running:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert engine.plan({}).command != first
    engine.release()


def test_it_ends_with_the_one_who_asks(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from lorasmith.jobs.engine.planning import PlanningEngine as Engine\n"
        f"engine = Engine(Path({str(tmp_path)!r}), (sys.executable, '-c', {STUB!r}))\n"
        "print(engine.plan({}).command, flush=True); assert 'torch' not in sys.modules\n"
        "import os; os._exit(0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    child = Path("/proc") / done.stdout.strip()
    deadline = time.monotonic() + 60
    while child.exists() and "Z" not in (child / "stat").read_text().split()[2]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


# What it answers


def ask(*questions: dict[str, Any]) -> list[PlanAnswer]:
    lines = [
        json.dumps({"id": n, "ask": "plan", "config": None, "preset": None, **question}) + "\n"
        for n, question in enumerate(questions)
    ]
    answers = io.BytesIO()
    serve(io.BytesIO("".join(lines).encode()), answers, planning_answers())
    records = [json.loads(line) for line in answers.getvalue().splitlines()]
    assert [record["id"] for record in records] == list(range(len(questions)))
    return [PlanAnswer.model_validate(record["answer"]) for record in records]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_training_set(tmp_path / "data", images=3, regularisation=0, repeats=2)
    return tmp_path / "data"


def test_a_plan(data: Path) -> None:
    values = {
        "data.path": str(data), "train.batch": 2, "train.epochs": 3, "optimizer.lr": "1e-3",
        "save.output": str(data.parent / "runs"),
    }  # fmt: skip
    (answer,) = ask({"values": values})
    assert answer.ok
    plan = answer.plan
    assert plan is not None
    assert (plan.steps, plan.epochs, plan.steps_per_epoch) == (9, 3, 3)
    assert plan.arithmetic.endswith("3 x 3 epochs = 9 steps")
    assert plan.folder == str(data.parent / "runs" / "data")
    assert plan.files[-1] == f"{plan.folder}/data.safetensors"
    assert max(plan.rates[0].curve) == pytest.approx(1e-3, rel=0.01)
    assert (plan.rates[0].steps[0], plan.rates[0].steps[-1]) == (0, 8)
    assert plan.memory[0].what == "training step"
    assert plan.memory[0].total > 0
    assert plan.seconds > 0
    assert plan.disk_free > 0
    assert sum(bucket.pictures for bucket in plan.buckets) == 3
    assert plan.settings["optimizer.lr"] == 1e-3
    again = TrainRequest.read(answer.job).load(ignore).settings
    assert (again.train.batch, again.optimizer.lr, again.data.path) == (2, 1e-3, data)
    options = shlex.split(answer.command)[3:]
    assert options[:2] == ["--train.batch", "2"]
    assert not list(data.parent.glob("runs"))


def test_a_caption_or_an_image_that_changes_is_seen(data: Path) -> None:
    values = {"data.path": str(data), "train.epochs": 1}
    (before,) = ask({"values": values})
    for caption in data.rglob("*.txt"):
        caption.write_text("nova, " + caption.read_text())
    image = next(data.rglob("*.png"))
    image.with_name("copy.png").write_bytes(image.read_bytes())
    (after,) = ask({"values": values})
    assert before.plan is not None
    assert after.plan is not None
    assert before.plan.pictures + 1 == after.plan.pictures
    assert before.plan.triggers != after.plan.triggers


def test_other_adapters_have_other_weights(data: Path) -> None:
    values = {"data.path": str(data), "train.epochs": 1}
    answers = ask(
        *({"values": {**values, "adapter.rank": rank}} for rank in (4, 8, 8)),
        {"values": {**values, "adapter.rank": 8, "adapter.text_encoder": False}},
    )
    weights = [sum(rate.weights for rate in answer.plan.rates) for answer in answers if answer.plan]
    assert weights[1] == weights[2]
    assert weights[0] < weights[3] < weights[1]


def test_mistakes_are_told_at_their_settings(data: Path) -> None:
    values = {
        "data.path": str(data), "adapter.rank": "many", "optimizer.lr": -1, "nonsense.x": 3,
        "train.steps": 5, "train.epochs": 2, "sample.size": [1, "a"],
    }  # fmt: skip
    (answer,) = ask({"values": values})
    assert not answer.ok
    assert answer.plan is None
    assert {problem.where for problem in answer.problems} >= {
        "adapter.rank", "optimizer.lr", "nonsense", "sample.size",
    }  # fmt: skip
    assert answer.command.startswith("lorasmith train")


def test_nothing_and_a_wrong_preset() -> None:
    nothing, wrong = ask({"values": {}}, {"values": {}, "preset": "charcter"})
    assert [problem.where for problem in nothing.problems] == ["data.path"]
    assert "character" in wrong.problems[0].hint
