"""Real trainings, queued, paused and found again; their pages in several tabs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from lorasmith.demo.character import write_training_set
from tests.browser.conftest import Serve

# Of a training that is about to begin, torch has to be loaded on a busy computer.
PATIENCE = 120_000
RUNNER = "lorasmith.jobs.queue.runner"
SHORT = {
    "model.path": "demo", "train.steps": 24, "sample.prompts": ["zorp"], "sample.every_epochs": 0,
    "sample.steps": 2, "log.tensorboard": False, "preservation.enabled": False,
}  # fmt: skip
QUEUE = """async (training) => {
    const answer = await fetch("/api/jobs", {
        method: "POST",
        headers: {"content-type": "application/json"},
        body: JSON.stringify(training),
    });
    if (!answer.ok) throw new Error(await answer.text());
    return await answer.json();
}"""


@pytest.fixture
def pictures(workspace: Path) -> Iterator[Path]:
    """Twelve of the demo's; what the test has begun ends with it."""
    folder = workspace / "mine" / "dataset"
    write_training_set(folder, regularisation=0)
    yield folder
    for process in of_workspace(workspace):
        with contextlib.suppress(psutil.Error):
            process.kill()


def of_workspace(workspace: Path) -> list[psutil.Process]:
    """Runners and jobs."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "lorasmith" in " ".join(words) and any(w.startswith(str(workspace)) for w in words):
            found.append(process)
    return found


@pytest.mark.slow
def test_a_sweep_outlives_the_studio_and_the_runner(
    serve_command: Serve, new_page, pictures: Path, workspace: Path
) -> None:
    studio = serve_command(workspace)
    first, second = new_page(), new_page()
    for tab in (first, second):
        tab.goto(studio.page())
    training = {
        "data": str(pictures), "values": SHORT, "sweep": {"optimizer.lr": ["1e-4", "2e-4"]},
    }  # fmt: skip
    jobs = first.evaluate(QUEUE, training)
    assert len(jobs) == 2
    # The other tab sees it, too.
    second.get_by_role("list", name="Waiting").get_by_text(jobs[1]["title"]).wait_for()
    progress = second.get_by_role("list", name="Running").get_by_text("training")
    progress.wait_for(timeout=PATIENCE)

    studio.kill()
    (runner,) = [one for one in of_workspace(workspace) if RUNNER in one.cmdline()]
    runner.kill()
    second.get_by_text("The studio does not answer").wait_for()

    page = new_page()
    page.goto(serve_command(workspace).page())
    ended = page.get_by_role("list", name="Ended")
    for job in jobs:
        row = ended.get_by_role("listitem").filter(has_text=job["title"])
        row.get_by_text("done").wait_for(timeout=PATIENCE)
    assert len(list((workspace / "runs").glob("*/*lr?e-4.safetensors"))) == 2


@pytest.mark.slow
def test_a_run_is_paused_gone_on_with_and_stopped(
    serve: Serve, page, pictures: Path, workspace: Path
) -> None:
    page.goto(serve(workspace).page())
    long = {**SHORT, "train.steps": 2000}
    page.evaluate(QUEUE, {"data": str(pictures), "values": long, "title": "the long one"})
    running = page.get_by_role("list", name="Running")
    running.get_by_text("training").wait_for(timeout=PATIENCE)
    running.get_by_role("link", name="the long one").click()
    page.get_by_role("button", name="Sample now").click()
    page.get_by_text("It draws").wait_for()
    page.get_by_role("tab", name="Says").wait_for()
    page.get_by_text("the sample pictures were drawn, as asked").wait_for(timeout=PATIENCE)
    page.get_by_role("button", name="Halve the rate").click()
    page.get_by_text("learning rate x 0.5").first.wait_for(timeout=PATIENCE)

    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Go on").click(timeout=PATIENCE)
    page.get_by_role("button", name="Stop and save").click(timeout=PATIENCE)
    page.get_by_role("button", name="Go on").wait_for(timeout=PATIENCE)
    page.get_by_role("tab", name="Files").click()
    page.get_by_text(".safetensors").first.wait_for()
