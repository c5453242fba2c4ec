"""The folder of one run: everything that it is, was made from and has produced.

::

    NAME/
      settings.toml         as resolved; `lorasmith train settings.toml` repeats the run
      run.json              versions, machine, model and data fingerprints
      dataset.json, .txt    what the preflight found
      find_lr.json, .txt    the rates that were tried, where one was looked for
      events.jsonl          every event, one a line
      metrics.jsonl         the numbers of each logged step
      tensorboard/          the same numbers for TensorBoard
      samples/              images made while training
      state/                full training states, the newest two
      best/                 measures of snapshots and their drawings, with train.stop = "best"
      control/              requests to the training while it runs
      NAME-000001.safetensors …  snapshots        NAME.safetensors  the result

With ``save.layout = "flat"`` it is ``.NAME.lorasmith``, and what other programs look for lies
beside it, under sd-scripts' names: the LoRA files, and the images in ``sample/``.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from lorasmith import __version__
from lorasmith.config.sections.run import Layout
from lorasmith.core.errors import Problem, RunError
from lorasmith.core.file_names import shell_word
from lorasmith.core.files import (
    check_writable,
    parse_json,
    read_safetensors_header,
    write_json,
    write_text,
)
from lorasmith.core.locks import lock_file
from lorasmith.formats.run_paths import (
    find_run_folder,
    hidden_folder,
    lora_name,
    loras_of,
    runs_at,
)

# What every run may have, by these names.
FILES = frozenset({
    *("settings.toml", "run.json", "run.lock", "events.jsonl", "metrics.jsonl"),
    *("dataset.json", "dataset.txt", "find_lr.json", "find_lr.txt"),
})  # fmt: skip

# The newest, and the one before in case the newest turns out bad.
KEPT_STATES = 2

PACKAGES = (
    *("torch", "diffusers", "transformers", "accelerate", "safetensors", "numpy", "pillow"),
    "bitsandbytes",  # Its optimizers, and what unpacks NF4 weights on GPUs.
)


class RunFolder:
    """Paths of a run, and the lock that keeps a second process out of it."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._lock: TextIO | None = None

    @property
    def name(self) -> str:
        return loras_of(self.path)[1]

    @property
    def loras(self) -> Path:
        """The folder that its LoRA files lie in."""
        return loras_of(self.path)[0]

    @property
    def flat(self) -> bool:
        """Whether its LoRA files lie beside it, with those of others."""
        return self.loras != self.path

    @property
    def handle(self) -> Path:
        """What users call it by."""
        return self.loras / self.name if self.flat else self.path

    @property
    def resume_command(self) -> str:
        return f"lorasmith train --resume {shell_word(self.handle)}"

    @property
    def settings(self) -> Path:
        return self.path / "settings.toml"

    @property
    def info(self) -> Path:
        return self.path / "run.json"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def samples(self) -> Path:
        return self.loras / "sample" if self.flat else self.path / "samples"

    @property
    def state(self) -> Path:
        return self.path / "state"

    @property
    def control(self) -> Path:
        return self.path / "control"

    @property
    def result(self) -> Path:
        return self.loras / f"{self.name}.safetensors"

    @property
    def strip(self) -> Path:
        """What was drawn at several strengths, of kinds of run that are meant for it."""
        return self.loras / f"{self.name}_strip.png"

    def epoch_snapshot(self, epoch: int) -> Path:
        """sd-scripts' name for the file of ``epoch`` (1-based), so that grids find it."""
        return self.loras / f"{self.name}-{epoch:06d}.safetensors"

    def step_snapshot(self, step: int) -> Path:
        return self.loras / f"{self.name}-step{step:08d}.safetensors"

    @property
    def lora_files(self) -> list[Path]:
        """The snapshots and the result, as far as they are there."""
        files = sorted(self.loras.glob("*.safetensors"))
        return [path for path in files if not self.flat or lora_name(path) == self.name]

    def beside(self, ending: str) -> Path:
        """The file of this run beside its result whose name ends so: "-rank4.safetensors"."""
        return self.loras / f"{self.name}{ending}"

    @property
    def further_files(self) -> list[Path]:
        """What was made of the result, whether it is there or not; those of others may have such
        names."""
        names = None
        with contextlib.suppress(RunError):  # Of a damaged file nothing is known.
            names = read_info(self).get("further_files")
        names = map(str, names) if isinstance(names, list) else []
        # Whoever moves them with the run must not be led elsewhere by a file that is somebody's.
        inside = (name for name in names if ".." not in Path(name).parts)
        files = [self.loras / name if "/" in name else self.beside(name) for name in inside]
        return [path for path in files if path.is_relative_to(self.loras)]

    def further_name(self, path: Path) -> str:
        """What ``run.json`` calls one of :attr:`further_files`: of a file beside the result what
        follows the run's name, which may change; else its path below the folder of LoRA files."""
        if path.parent == self.loras:
            return path.name[len(self.name) :]
        return path.relative_to(self.loras).as_posix()

    def sample(self, step: int, epoch: int | None, index: int, seed: int) -> Path:
        """The image of prompt ``index`` after ``step``, which ends ``epoch`` if that is given."""
        if not self.flat:
            return self.samples / f"{step:08d}-{index:02d}-{seed}.png"
        when = f"{step:06d}" if epoch is None else f"e{epoch:06d}"
        return self.samples / f"{self.name}_{when}_{index:02d}_{seed}.png"

    def drawn_samples(self) -> Iterator[tuple[int, Path]]:
        """(number of the prompt, image), the oldest first."""
        name = rf"{re.escape(self.name)}_e?\d+_" if self.flat else r"\d{8}-"
        pattern = re.compile(rf"{name}(\d{{2,}})[-_]\d+\.png", re.ASCII)
        dated = []
        with contextlib.suppress(OSError):  # There are none, or they are being removed.
            for path in self.samples.iterdir() if self.samples.is_dir() else ():
                if match := pattern.fullmatch(path.name):
                    dated.append((path.lstat().st_mtime_ns, path.name, int(match[1]), path))
        for _, _, number, path in sorted(dated):
            yield number, path

    @property
    def has_work(self) -> bool:
        """Whether something was trained here, or others' files of this name lie here; a run that
        failed before its first step left none."""
        logged = self.metrics.exists() and self.metrics.stat().st_size > 0
        return logged or bool(self.lora_files) or any(self.state.glob("step-*"))

    @property
    def busy(self) -> bool:
        """Whether a process is training here now."""
        try:
            with open(self._lock_path, "r+", encoding="utf-8") as file:
                return not lock_file(file, shared=True)
        except FileNotFoundError:
            return False

    @contextlib.contextmanager
    def held(self) -> Iterator[bool]:
        """Whether no process is training here; then none begins to, while the block runs."""
        if not self._lock_path.exists():  # Nothing was ever trained here.
            yield True
            return
        with open(self._lock_path, "r+", encoding="utf-8") as file:
            is_free = lock_file(file)
            if sys.platform == "win32":  # It moves no folder in which a file is open.
                file.close()
            yield is_free

    @property
    def _lock_path(self) -> Path:
        return self.path / "run.lock"

    def __enter__(self) -> RunFolder:
        check_writable(self.path)
        self._lock = open(self._lock_path, "a", encoding="utf-8")
        if not lock_file(self._lock):
            self._lock.close()
            raise RunError.of(
                self.path,
                "another process is training in this folder",
                "wait for it, stop it, or give this run another --name",
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._lock is not None
        # The file stays: unlinked, one process could still lock it and another one a new file.
        self._lock.close()


def run_of_file(lora: Path) -> RunFolder | None:
    """The run whose result, snapshot or further file this is; ``None`` of a file that only lies
    beside those of a run."""
    for path in runs_at(lora.absolute()):
        run = RunFolder(path)
        if lora_name(lora) == run.name or lora.name in {file.name for file in run.further_files}:
            return run
    return None


def new_run_folder(output: Path, name: str, layout: Layout = "folder") -> RunFolder:
    """The folder of the run ``name``, or ``name-2``, ``name-3`` …: neither a run nor a LoRA that is
    there is ever overwritten."""
    output, number, free = Path(output), 1, name
    while True:
        own, hidden = RunFolder(output / free), RunFolder(hidden_folder(output, free))
        # Both, so that a name means one run.
        taken = own.has_work or (hidden.has_work if layout == "flat" else hidden.settings.exists())
        if not taken:
            return hidden if layout == "flat" else own
        number += 1
        free = f"{name}-{number}"


def taken_name(folder: RunFolder, name: str, word: str = "") -> list[Problem]:
    """Says that a run has another name than it was to have.

    Args:
        word: of prompts, that its file's name makes.
    """
    if folder.name == name:
        return []
    what = f"{name} is there already, so this run and its files are called {folder.name}"
    if word:
        what += f"; in web UIs, which go by that, its word is {word}"
    return [Problem(str(folder.loras if folder.flat else folder.path.parent), what)]


def existing_run_folder(path: Path) -> RunFolder:
    """The run that is named by its folder, by its LoRA, or by the folder that holds it alone.

    Raises:
        RunError: there is no such run, or there are several.
    """
    return RunFolder(find_run_folder(path))


def sample_pattern(path: Path) -> Path:
    """Of a sample image: what matches all of the same step."""
    return path.parent / re.sub(r"([-_])\d{2,}[-_]\d+\.png$", r"\1*.png", path.name)


def environment() -> dict[str, Any]:
    """What else a result depends on: versions, machine, command."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "lorasmith": __version__,
        "python": platform.python_version(),
        "packages": versions,
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "command": sys.argv,
    }


def write_info(folder: RunFolder, **values: Any) -> None:
    """Merge ``values`` into ``run.json``."""
    write_json(folder.info, {**read_info(folder), **values})


def read_info(folder: RunFolder) -> dict[str, Any]:
    """
    Raises:
        RunError: the file is damaged.
    """
    if not folder.info.exists():
        return {}
    try:
        info = parse_json(folder.info.read_text(encoding="utf-8"))
    except ValueError:
        info = None
    if not isinstance(info, dict):
        what = "is damaged: it is no JSON object"
        raise RunError.of(folder.info, what, "put back a copy, or start a new run")
    return info


def ended_early(info: Mapping[str, Any]) -> bool:
    """Whether ``train.stop = "best"`` has ended the run before its last step."""
    best = info.get("best") or {}
    return info.get("status") == "done" and best.get("after") != info.get("steps") and bool(best)


def steps_of(lora: Path) -> int | None:
    """The optimizer steps behind a LoRA file; ``None`` where it is not there or does not say."""
    try:
        text = read_safetensors_header(lora).metadata.get("ss_steps", "")
    except (ValueError, OSError):  # A damaged file is told of when it is to be used.
        return None
    return int(text) if text.isdecimal() and len(text) < 20 else None


def drop_lines_after(path: Path, step: int) -> None:
    """Forget the lines of a JSONL log that belong to steps a resumed run will do again."""
    if not path.exists():
        return
    lines = []
    # The last line of a killed run may be cut short, or hold anything after a power cut.
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = parse_json(line)
        except ValueError:
            continue
        number = record.get("step", 0) if isinstance(record, dict) else None
        if isinstance(number, int | float) and number <= step:
            lines.append(line + "\n")
    write_text(path, "".join(lines))
