"""The command itself: start-up, exit statuses, what each kind of exception becomes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from lorasmith import __version__
from lorasmith.cli import main
from lorasmith.cli.main import COMMANDS, cli
from lorasmith.core.errors import DatasetError, Problem, Stopped, UserError

HEAVY = ("torch", "pydantic", "rich", "numpy", "PIL", "diffusers", "transformers")


def run(*args: str) -> Result:
    return CliRunner().invoke(cli, list(args))


def test_help_names_every_command_and_imports_none_of_them() -> None:
    code = (
        "import sys\n"
        "from lorasmith.cli.main import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit as leave: assert leave.code == 0, leave.code\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "few = ('lorasmith.cli', 'lorasmith.cli.main', 'lorasmith.core', 'lorasmith.core.errors',"
        "       'lorasmith.core.terminal', 'lorasmith.core.text')\n"
        "ours = [n for n in sys.modules if n.startswith('lorasmith.') and n not in few]\n"
        "assert not heavy and not ours, (heavy, ours)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    for name, entry in COMMANDS.items():
        assert f"  {name} " in done.stdout
        assert entry.summary in done.stdout


def test_help_answers_at_once() -> None:
    """Within 0.4 s, counted as CPU time: other work on the machine hardly changes that."""
    assert 0 < min(_cpu_seconds_of_help() for _ in range(3)) < 0.4


def _cpu_seconds_of_help() -> float:
    before = os.times()
    subprocess.run([sys.executable, "-m", "lorasmith", "--help"], capture_output=True, check=True)
    after = os.times()
    user = after.children_user - before.children_user
    return user + after.children_system - before.children_system


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_the_summary_that_the_table_gives(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.help
    result = run(name, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: lorasmith {name}")


def test_version() -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"lorasmith, version {__version__}\n")


def test_no_command_shows_the_help() -> None:
    result = run()
    assert "Usage: lorasmith" in result.output
    assert result.exit_code == 2


def test_nearest_command() -> None:
    result = run("genrate")
    assert result.exit_code == 2
    assert "did you mean 'generate'?" in result.stderr


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], Result]:
    """Run a command that raises what it is given."""

    def invoke(error: BaseException) -> Result:
        @click.command("train")
        def command() -> None:
            raise error

        monkeypatch.setattr(main.LazyGroup, "get_command", lambda *_: command)
        return run("train")

    return invoke


Raising = Callable[[BaseException], Result]


def test_users_errors(raising: Raising) -> None:
    problems = [Problem("a.png", "is cut short", "replace it"), Problem("b.txt", "is empty")]
    result = raising(DatasetError(problems))
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "2 errors:",
        "  a.png: is cut short",
        "      -> replace it",
        "  b.txt: is empty",
    ]


def test_square_brackets_and_long_paths_stay_as_they_are(raising: Raising) -> None:
    where = "/long/" + "folder/" * 30 + "[red]x[/red].png"
    assert f"  {where}: bad" in raising(UserError.of(where, "bad")).stderr


@pytest.mark.parametrize("error", [Stopped("saved in runs/x"), KeyboardInterrupt(), click.Abort()])
def test_stopped(raising: Raising, error: BaseException) -> None:
    result = raising(error)
    assert result.exit_code == 130
    assert "Traceback" not in result.stderr
    assert (str(error) or "stopped") in result.stderr


@pytest.mark.parametrize(
    "error", [RuntimeError("oh"), EOFError("oh"), OSError("oh"), KeyError("oh")]
)
def test_bugs_of_ours(raising: Raising, error: Exception) -> None:
    result = raising(error)
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert "Please report it" in result.stderr
    assert "lorasmith train" in result.stderr


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: no kernel image is available for execution on the device\nmore"),
        AssertionError("Torch not compiled with CUDA enabled"),
        RuntimeError("The NVIDIA driver on your system is too old (found version 11040)"),
        ImportError("DLL load failed while importing _C: not found", name="torch._C"),
        ModuleNotFoundError("No module named 'psutil'", name="psutil"),
        OSError("libcudart.so.13: cannot open shared object file"),
    ],
)
def test_faults_of_the_computer_lead_to_doctor(raising: Raising, error: Exception) -> None:
    result = raising(error)
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr
    assert "`lorasmith doctor` looks at this" in result.stderr
    assert "more" not in result.stderr


def test_an_import_that_is_our_own_mistake_is_a_bug(raising: Raising) -> None:
    assert raising(ImportError("no name x", name="lorasmith.core.files")).exit_code == 1
    error = RuntimeError("oh")
    error.__context__ = ImportError("optional", name="triton")
    assert raising(error).exit_code == 1


def test_click_exceptions_that_are_the_users(raising: Raising) -> None:
    assert raising(click.FileError("x.toml", "gone")).exit_code == 2
    assert raising(click.BadParameter("no")).exit_code == 2


def test_commands_choose_their_status(raising: Raising) -> None:
    assert raising(click.exceptions.Exit(2)).exit_code == 2
    assert raising(SystemExit(3)).exit_code == 3


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"'{sys.executable}' -m lorasmith train --help-all | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == "Usage: lorasmith train [OPTIONS] [PICTURES|CONFIG]\n"
    assert done.stderr == ""


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_tables_end_alike_where_nobody_reads_them(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, "-m", "lorasmith", "dataset", "stats", str(tmp_path)]
    done = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_is_no_bug_and_ends_no_job(tmp_path: Path) -> None:
    def tokens(**environment: str) -> subprocess.CompletedProcess[str]:
        with open("/dev/full", "w", encoding="utf-8") as full:
            return subprocess.run(
                [sys.executable, "-m", "lorasmith", "tokens", "a cat"],
                stdout=full, stderr=subprocess.PIPE, text=True, check=False,
                env={**os.environ, **environment},
            )  # fmt: skip

    told = tokens()
    assert (told.returncode, "the disk is full" in told.stderr) == (2, True)
    assert "Traceback" not in told.stderr
    job = tokens(LORASMITH_JOB=str(tmp_path))
    assert (job.returncode, job.stderr) == (0, "")
    assert json.loads((tmp_path / "result.json").read_text()) == {"status": 0, "problems": []}


@pytest.mark.slow
def test_letters_that_the_terminal_cannot_show() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-m", "lorasmith", "train", "--data", "", "--name", "für/Åse"],
        capture_output=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 2, done.stderr
