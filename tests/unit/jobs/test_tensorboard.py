"""``lorasmith tensorboard``: which runs it shows, and until when it serves."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.made_up_runs import write_run

from lorasmith.cli.main import cli
from lorasmith.core.errors import UserError
from lorasmith.core.events import Controls, Event, Notice
from lorasmith.jobs import tensorboard
from lorasmith.jobs.tensorboard import TensorBoardReady, TensorBoardRequest, free_port

# Stands in for TensorBoard: says which of its folder's links lead somewhere, and ends with its
# standard input.
STAND_IN = """
import os, socket, sys
from pathlib import Path
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
server = socket.create_server((given["--host"], int(given["--port"])))
runs = Path(given["--logdir"])
names = sorted(link.name for link in runs.iterdir() if link.is_dir())
(runs.parent.parent / "seen").write_text("\\n".join(names))
sys.stdin.buffer.read()
"""


def run_with_logs(folder: Path) -> Path:
    write_run(folder)
    (folder / "tensorboard").mkdir()
    return folder


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which it says what it saw."""
    monkeypatch.setattr(tensorboard, "PROGRAM", STAND_IN)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path / "seen"


def serve(request: TensorBoardRequest) -> list[Event]:
    """What it tells, stopped as soon as it is there."""
    events: list[Event] = []
    controls = Controls()

    def observer(event: Event) -> None:
        events.append(event)
        if isinstance(event, TensorBoardReady):
            controls.stop()

    request.run(observer, controls)
    return events


def test_runs_are_shown_by_their_names_from_wherever_they_lie(
    tmp_path: Path, stand_in: Path
) -> None:
    for name in ("a/zorp", "b/zorp", "c/.blob.lorasmith"):
        run_with_logs(tmp_path / "work" / name)
    write_run(tmp_path / "work" / "quiet")
    one = run_with_logs(tmp_path / "elsewhere" / "glim")
    events = serve(TensorBoardRequest(runs=[tmp_path / "work", one]))
    assert stand_in.read_text().splitlines() == ["blob", "glim", "zorp", "zorp in b"]
    *notices, ready = events
    assert notices == [Notice("info", "1 run without its logs: quiet")]
    assert isinstance(ready, TensorBoardReady)
    assert ready.runs["zorp in b"] == str(tmp_path / "work" / "b" / "zorp")
    assert ready.address.startswith("http://127.0.0.1:")
    assert not list(tmp_path.glob("lorasmith-tensorboard-*")), "its folder is removed"
    assert (one / "tensorboard").is_dir(), "and what its links led to is not"


def test_a_run_that_begins_later_is_linked(tmp_path: Path) -> None:
    run_with_logs(tmp_path / "first")
    links = tensorboard._Links(tmp_path / "links")
    links.renew([tmp_path])
    late = write_run(tmp_path / "second")
    links.renew([tmp_path])
    assert not (tmp_path / "links" / "second").exists(), "it has no logs yet"
    (late / "tensorboard").mkdir()
    links.renew([tmp_path])
    assert sorted(path.name for path in (tmp_path / "links").iterdir()) == ["first", "second"]


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        (["empty"], "empty: there is no run in this folder"),
        (["nowhere"], "nowhere: is not a run folder"),
        (["quiet"], "quiet has no logs for TensorBoard"),
        (["."], "none of 2 runs has logs for TensorBoard"),
    ],
)
def test_where_there_is_nothing_to_show_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    write_run(tmp_path / "quiet")
    write_run(tmp_path / "silent")
    with pytest.raises(UserError) as caught:
        serve(TensorBoardRequest(runs=[Path(each) for each in runs]))
    assert said in str(caught.value)


def test_without_the_package_it_says_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = CliRunner().invoke(cli, ["tensorboard"])
    assert result.exit_code == 2
    assert "TensorBoard is not installed" in result.output
    assert "pip install tensorboard" in result.output


def test_a_port_that_is_taken_is_refused_and_otherwise_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        monkeypatch.setattr(tensorboard, "FIRST_PORT", taken)
        assert taken < free_port() < taken + tensorboard.PORTS_TRIED
        with pytest.raises(UserError, match=rf"--port {taken}: cannot listen there"):
            free_port(taken)


def test_one_that_ends_by_itself_is_told_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorboard, "PROGRAM", "import sys; sys.exit('no protobuf')")
    with pytest.raises(UserError, match="TensorBoard: ended by itself: no protobuf"):
        serve(TensorBoardRequest(runs=[run_with_logs(tmp_path / "zorp")]))


@pytest.mark.usefixtures("stand_in")
def test_it_ends_when_it_is_asked_to_and_takes_no_run_with_it(tmp_path: Path) -> None:
    controls = Controls()
    there = threading.Event()
    request = TensorBoardRequest(runs=[run_with_logs(tmp_path / "zorp")])
    thread = threading.Thread(target=request.run, args=(lambda event: there.set(), controls))
    thread.start()
    assert there.wait(20)
    time.sleep(0.2)
    assert thread.is_alive(), "it serves until it is asked"
    controls.stop()
    thread.join(60)
    assert not thread.is_alive()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent otherwise there")
def test_the_real_one_shows_the_numbers_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(write_run(tmp_path / "zorp") / "tensorboard")) as writer:
        writer.add_scalar("loss/step", 0.5, 1)
    command = [sys.executable, "-m", "lorasmith", "tensorboard", "--json"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        text = ""
        while not text.endswith("}\n}\n"):
            text += process.stdout.readline()
        ready = json.loads(text)
        assert ready["runs"] == {"zorp": str(tmp_path / "zorp")}
        for _ in range(50):
            with urllib.request.urlopen(f"{ready['address']}data/runs") as answer:
                if shown := json.loads(answer.read()):
                    break
            time.sleep(0.2)
        assert shown == ["zorp"]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    port = int(ready["address"].rstrip("/").rpartition(":")[2])
    assert not tensorboard._listens(port)
    shutil.rmtree(tmp_path / "zorp")  # Nothing holds it.
