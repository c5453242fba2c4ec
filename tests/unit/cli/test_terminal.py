"""Text from files, names and arguments on the terminal: shown, never obeyed; and no memory said."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image
from rich.progress import Progress as Bar
from rich.progress import TextColumn
from rich.table import Table
from safetensors.torch import save_file
from tests.unit.lora_tools.made_files import METADATA, kohya_tensors

from lorasmith.cli.main import cli, lacks_memory
from lorasmith.config.dump import toml_value
from lorasmith.core.errors import Stopped, UserError
from lorasmith.core.events import Notice, Progress, SnapshotSaved
from lorasmith.core.progress import TextConsole
from lorasmith.core.terminal import clean, escaped
from lorasmith.training.monitoring.observers import TrainingTerminal

ATTACKS = {
    "title and clear": "\x1b]0;owned\x07\x1b[2J",
    "C1 sequence": "\x9b2J",
    "overwritten line": "safe\rEVIL",
    "backspaces": "x\b\b\b",
    "bidirectional": "gpj.\u202eexe",
    "isolate": "\u2066x\u2069",
    "line separator": "a\u2028b",
    "half a character": "\udc9b",
    "link": "\x1b]8;;http://evil\x1b\\click\x1b]8;;\x1b\\",
    "null": "a\0b",
    "delete": "\x7f",
}
# What may stand in output: colours and cursor moves of ours are taken out before.
OURS = re.compile(r"\x1b\[[0-9;]*m")
UNSAFE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def assert_safe(output: str) -> None:
    assert not UNSAFE.search(OURS.sub("", output)), ascii(output)


@pytest.mark.parametrize("text", ATTACKS.values(), ids=ATTACKS)
def test_clean_leaves_nothing_that_a_terminal_obeys(text: str) -> None:
    cleaned = clean(text)
    assert_safe(cleaned)
    assert len(cleaned) == len(text)  # each has its sign, nothing vanishes


def test_clean_leaves_text_alone() -> None:
    text = "zorp, wearing a hat – 猫\té\nשלום 👩‍👩‍👧 100 %"
    assert clean(text) == text
    assert clean("a\r\nb") == "a\nb"
    assert clean("a\nb\tc", lines=False) == "a␊b␉c"
    assert clean("\x1b[0m") == "␛[0m"


@pytest.mark.parametrize("text", ATTACKS.values(), ids=ATTACKS)
def test_rich_shows_it_wherever_it_stands(text: str) -> None:
    file = io.StringIO()
    console = TextConsole(file=file, force_terminal=True, width=120)
    table = Table(title=text)
    table.add_column(text)
    table.add_row(text)
    console.print(table, text)
    console.rule(text)
    with Bar(TextColumn("{task.description}", markup=False), console=console) as bar:
        bar.add_task(text, total=1)
    shown = re.sub(r"\x1b\[(\?25[hl]|\d?[AK]|2K|1A)", "", file.getvalue()).replace("\r", "")
    assert_safe(shown)


def test_markup_and_links_in_names_are_words() -> None:
    file = io.StringIO()
    console = TextConsole(file=file, force_terminal=True, width=200)
    name = "[red]a[/red] [link=http:evil]b[/link] :skull: [/]"
    console.print(name)
    table = Table()
    table.add_column(name)
    table.add_row(name)
    console.print(table)
    terminal = TrainingTerminal(console)
    terminal(SnapshotSaved(Path(name), 1, final=True))
    terminal(Notice("warning", name))
    terminal(Progress("looking at pictures", 1, 2))
    terminal.close()
    assert file.getvalue().count(name) >= 5
    assert "\x1b]8" not in file.getvalue()


def test_inspect_shows_hostile_metadata(tmp_path: Path) -> None:
    evil = "".join(text for name, text in ATTACKS.items() if name != "half a character")
    path = tmp_path / "lora.safetensors"
    metadata = {
        **METADATA,
        "ss_output_name": evil,
        "ss_sd_model_name": evil,
        "ss_tag_frequency": json.dumps({f"10_{evil}": {f"zorp{evil}": 9}}),
        "ss_dataset_dirs": json.dumps({f"10_{evil}": {"n_repeats": 3, "img_count": 4}}),
        "modelspec.title": evil,
        "modelspec.author": evil,
        "modelspec.trigger_phrase": evil,
        evil: evil,
    }
    save_file(kohya_tensors(), path, metadata)
    result = CliRunner().invoke(cli, ["inspect", str(path), "--modules"])
    assert result.exit_code == 0
    assert "␛]0;owned␇␛[2J" in result.output
    assert_safe(result.output)
    as_json = CliRunner().invoke(cli, ["inspect", str(path), "--json"])
    assert_safe(as_json.output)
    assert json.loads(as_json.output)["metadata"][evil] == evil


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_file_names_and_captions_are_shown(tmp_path: Path) -> None:
    evil = "".join(
        text for name, text in ATTACKS.items() if name not in ("null", "half a character", "link")
    )
    folder = tmp_path / f"3_zorp{evil}"
    folder.mkdir()
    for number in range(2):
        Image.new("RGB", (64, 64), (number, 9, 9)).save(folder / f"{number}{evil}.png")
        (folder / f"{number}{evil}.txt").write_text(f"zorp {evil}, [red]hat[/red]")
    (folder / f"broken{evil}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / f"other{evil}.xyz").write_bytes(b"x")
    done = CliRunner().invoke(cli, ["dataset", "check", str(tmp_path)])
    assert "␛[2J" in done.output
    assert_safe(done.output)


@pytest.mark.parametrize("text", ATTACKS.values(), ids=ATTACKS)
def test_errors_show_it(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    def fails(error: Exception) -> object:
        import click

        @click.command("presets", help="x")
        def command() -> None:
            raise error

        return command

    import click

    for error in (
        UserError.of(f"a{text}\nb", f"is {text}", f"do {text}"),
        click.BadParameter(text),
        click.FileError(text, text),
        ValueError(text),
        Stopped(text),
    ):
        monkeypatch.setattr("lorasmith.cli.presets.presets", fails(error))
        result = CliRunner().invoke(cli, ["presets"])
        assert result.exit_code != 0
        assert_safe(result.output)
    assert "a\n" not in result.output
    result = CliRunner().invoke(cli, [f"--{text}"])
    assert_safe(result.output)


def test_a_name_with_a_line_break_forges_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(cli, ["inspect", "a\n  Error: none.safetensors"])
    assert "a␊  Error: none.safetensors" in result.output


def test_settings_keep_such_text_as_escapes() -> None:
    import tomllib

    for text in ATTACKS.values():
        if text != ATTACKS["half a character"]:
            line = f"a = {toml_value(text)}"
            assert_safe(line)
            assert tomllib.loads(line) == {"a": text}
    assert escaped('{"é": "\x9b"}') == '{"é": "\\u009b"}'


# No memory is no bug


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("can't start new thread"),
        ImportError("libx.so: failed to map segment from shared object"),
    ],
)  # fmt: skip
def test_errors_that_mean_memory(error: Exception) -> None:
    assert lacks_memory(error)
    outer = ValueError("outer")
    outer.__cause__ = error
    assert lacks_memory(outer)


def test_other_errors_mean_no_memory() -> None:
    assert not lacks_memory(ValueError("out of memory"))
    assert not lacks_memory(RuntimeError("shape mismatch"))
    loop = ValueError("a")
    loop.__context__ = ValueError("b")
    loop.__context__.__context__ = loop
    assert not lacks_memory(loop)


@pytest.mark.slow_but_first
@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space as Linux does")
@pytest.mark.parametrize("megabytes", [120, 250, 600])
def test_too_little_address_space_is_said(tmp_path: Path, megabytes: int) -> None:
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))

    save_file(kohya_tensors(), tmp_path / "lora.safetensors", METADATA)
    done = subprocess.run(
        [sys.executable, "-m", "lorasmith", "inspect", str(tmp_path / "lora.safetensors")],
        capture_output=True, text=True, check=False, preexec_fn=limit, timeout=120,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    assert "bug" not in done.stderr
    assert "memory" in done.stderr.lower() or "bad_alloc" in done.stderr
