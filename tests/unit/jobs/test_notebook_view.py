"""What is shown of a run inside a notebook, and how it gets there."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import IPython.core.getipython
import IPython.display
import pytest
from IPython.core.interactiveshell import InteractiveShell
from PIL import Image
from tests.made_up_runs import metrics_line, write_run
from traitlets.config import Config

import lorasmith as ls
from lorasmith.core.errors import RunError, Stopped, UserError
from lorasmith.core.events import (
    Notice,
    Progress,
    RunFinished,
    RunStarted,
    StepDone,
)
from lorasmith.jobs.runs import notebook
from lorasmith.jobs.runs.chart import HEIGHT, WIDTH, draw_curves
from lorasmith.jobs.runs.notebook import LiveView, show
from lorasmith.training.runs.folder import RunFolder


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """What a notebook was given, one after the other, for one place in a cell's output."""
    outputs: list[dict[str, str]] = []

    class Handle:
        def update(self, bundle: dict[str, str], *, raw: bool) -> None:
            assert raw
            outputs.append(bundle)

    def display(bundle: dict[str, str], *, raw: bool, display_id: bool) -> Handle:
        assert raw
        assert display_id
        assert not outputs, "a second output, not the first one anew"
        outputs.append(bundle)
        return Handle()

    kernel = SimpleNamespace(kernel=object())
    monkeypatch.setattr(IPython.core.getipython, "get_ipython", lambda: kernel)
    monkeypatch.setattr(IPython.display, "display", display)
    return outputs


def sleeps(monkeypatch: pytest.MonkeyPatch, pause: Callable[[float], object]) -> None:
    """Not ``time.sleep`` of all: threads that other tests left would pause with it."""
    clock = SimpleNamespace(sleep=pause, monotonic=time.monotonic)
    monkeypatch.setattr(notebook, "time", clock)


def run_with_pictures(folder: Path) -> Path:
    write_run(folder)
    for path in (folder / "samples").iterdir():
        Image.new("RGB", (512, 256), "red").save(path)
    return folder


def images_of(page: str) -> list[Image.Image]:
    data = re.findall(r"data:image/\w+;base64,([^\"]+)", page)
    return [Image.open(io.BytesIO(base64.b64decode(each))) for each in data]


def test_a_run_is_shown_with_its_curves_and_samples(
    tmp_path: Path, shown: list[dict[str, str]]
) -> None:
    show(run_with_pictures(tmp_path / "zorp"))
    (bundle,) = shown
    page = bundle["text/html"]
    chart, *samples = images_of(page)
    assert chart.size == (WIDTH, HEIGHT)
    assert len(samples) == 6, "two prompts at three steps"
    assert samples[0].size == (144, 72)
    assert page.count("before training") == 2
    assert "a &lt;b&gt;dog&lt;/b&gt;" in page, "prompts are text"
    assert "warning" not in page
    assert "training: two pictures are alike" in page
    assert "goes on with it" in page
    assert bundle["text/plain"] == "zorp: stopped, step 20 of 40, epoch 2, loss 0.1000"


def test_a_run_of_another_process_is_followed_until_it_ends(
    tmp_path: Path, shown: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(run_with_pictures(tmp_path / "zorp"))
    folder.__enter__()

    def pause(seconds: float) -> None:
        if len(shown) == 1:
            with open(folder.metrics, "a", encoding="utf-8") as file:
                file.write(metrics_line(21))
        else:
            folder.__exit__(None, None, None)

    sleeps(monkeypatch, pause)
    show(folder.path)
    assert [re.sub(r", epoch.*", "", each["text/plain"]) for each in shown] == [
        "zorp: training, step 20 of 40",
        "zorp: training, step 21 of 40",
        "zorp: stopped, step 21 of 40",
    ]


def test_interrupting_the_cell_ends_the_looking_alone(
    tmp_path: Path, shown: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(run_with_pictures(tmp_path / "zorp"))
    folder.__enter__()

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    sleeps(monkeypatch, interrupt)
    show(folder.path)
    assert len(shown) == 1
    folder.__exit__(None, None, None)


@pytest.mark.usefixtures("shown")
def test_a_run_that_is_not_there_is_waited_for_as_long_as_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RunError, match="is not a run folder"):
        show(tmp_path / "zorp")
    sleeps(monkeypatch, lambda seconds: write_run(tmp_path / "zorp"))
    show(tmp_path / "zorp", wait=60)


def step(number: int) -> StepDone:
    return StepDone(step=number, steps=40, epoch=1, loss=0.1, smoothed_loss=0.1)


def test_a_training_in_the_same_cell_is_drawn_as_it_goes(
    tmp_path: Path, shown: list[dict[str, str]]
) -> None:
    folder = tmp_path / "zorp"
    with LiveView(every=0) as view:
        view(Notice("warning", "two pictures are <alike>"))
        view(Progress("caching latents", 3, 12))
        view._next = 0
        view(Progress("caching latents", 4, 12))
        assert "caching latents, 4 of 12" in shown[-1]["text/html"]
        assert "warning: two pictures are &lt;alike&gt;" in shown[-1]["text/html"]
        with pytest.raises(RunError, match="no training has begun"):
            view.folder  # noqa: B018
        run_with_pictures(folder)
        view(RunStarted(folder, 40, 0, 4))
        assert "step 20 of 40" in shown[-1]["text/plain"]
        view(RunFinished("done", 40))
        assert "<b>zorp</b> · done" in shown[-1]["text/html"], "before the folder says so"
    assert view.folder == folder
    assert ls.Run(view.folder).name == "zorp"


def test_drawing_takes_a_small_share_of_the_time(
    tmp_path: Path, shown: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    view = LiveView(every=2)
    folder = run_with_pictures(tmp_path / "zorp")
    view(RunStarted(folder, 40, 0, 4))
    drawn = len(shown)
    html = view._page.html

    def slow(*given: Any) -> str:
        nonlocal now
        now += 3
        return html(*given)

    monkeypatch.setattr(view._page, "html", slow)
    for second in range(1, 400):
        now += 1
        view(step(second))
    assert 3 <= len(shown) - drawn <= 5, "of 400 seconds at most 12 or so"


def test_what_cannot_be_drawn_ends_no_training(tmp_path: Path, shown: list[dict[str, str]]) -> None:
    folder = run_with_pictures(tmp_path / "zorp")
    view = LiveView(every=0)
    view(RunStarted(folder, 40, 0, 4))
    (folder / "settings.toml").unlink()
    drawn = len(shown)
    view._next = 0
    view(step(21))
    assert len(shown) == drawn


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent otherwise there")
def test_interrupting_once_asks_the_training_to_stop_and_the_cells_below_go_on(
    tmp_path: Path, shown: list[dict[str, str]]
) -> None:
    before = signal.getsignal(signal.SIGINT)
    folder = run_with_pictures(tmp_path / "zorp")
    with LiveView(every=0) as view:
        view(RunStarted(folder, 40, 0, 4))
        os.kill(os.getpid(), signal.SIGINT)
        assert view.controls.stopping
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        raise Stopped("stopped after step 20 of 40; everything is saved")
    assert "stopped after step 20" in shown[-1]["text/html"]
    assert view.folder == folder
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.usefixtures("shown")
def test_other_errors_are_not_kept_back() -> None:
    with pytest.raises(UserError), LiveView():
        raise UserError.of("pictures", "is not there")


@pytest.mark.parametrize("what", [LiveView, lambda: show("zorp")])
def test_without_a_notebook_it_says_where_there_is_one(what: Callable[[], object]) -> None:
    """In a test there is IPython, but none that runs."""
    with pytest.raises(UserError, match=r"no notebook here.*lorasmith control RUN"):
        what()


def test_without_ipython_it_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="no notebook here"):
        show("zorp")


def test_a_notebook_shows_what_is_wrong_and_no_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    shell = InteractiveShell(config=Config(HistoryManager={"enabled": False}))
    shell.run_cell("import lorasmith as ls\nls.train('nowhere', epochs=0)")
    said = capsys.readouterr()
    assert "train.epochs" in said.out + said.err
    assert "Traceback" not in said.out + said.err


def colours(image: Image.Image) -> set[tuple[int, ...]]:
    return {colour for _, colour in image.getcolors(1 << 20)}


def test_curves_are_drawn_in_their_colours_and_gaps_are_none() -> None:
    columns: dict[str, list[float | None]] = {
        "step": [1, 2, 3, 4],
        "loss": [0.4, 0.2, 0.3, 0.1],
        "smoothed_loss": [0.4, 0.3, 0.3, 0.2],
    }
    assert (224, 123, 0) not in colours(draw_curves(columns, 8))
    columns["held_out"] = [0.4, None, None, 0.3]
    assert (224, 123, 0) in colours(draw_curves(columns, 8))


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"step": [1], "loss": [0.5]},
        {"step": [1, 2], "loss": [0.0, 0.0], "lr/unet": [0.0, 0.0]},
        {"step": [1, 2], "loss": [-2.0, -2.0]},
        {"step": [1, 2], "loss": [None, 1e30], "d*lr/unet": [1e-12, 2e-12], "lr/unet": [1, 1]},
    ],
    ids=json.dumps,
)
def test_few_equal_and_huge_numbers_are_drawn(columns: dict[str, list[float | None]]) -> None:
    assert draw_curves(columns, 0).size == (WIDTH, HEIGHT)
