"""The folder of one run: everything that it is, was made from and has produced.

::

    NAME/
      settings.toml         as resolved; `lorasmith train settings.toml` repeats the run
      run.json              versions, machine, model and data fingerprints
      dataset.json, .txt    what the preflight found
      events.jsonl          every event, one a line
      metrics.jsonl         the numbers of each logged step
      tensorboard/          the same numbers for TensorBoard
      samples/              pictures made while training
      state/                full training states, the newest two
      control/              requests to the training while it runs
      NAME-000001.safetensors …  snapshots        NAME.safetensors  the result
"""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from lorasmith import __version__
from lorasmith.errors import RunError
from lorasmith.files import check_writable, read_safetensors_header, write_json, write_text

PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "numpy", "pillow")


class RunFolder:
    """Paths of a run, and the lock that keeps a second process out of it."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._lock: TextIO | None = None

    @property
    def name(self) -> str:
        return self.path.name

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
        return self.path / "samples"

    @property
    def state(self) -> Path:
        return self.path / "state"

    @property
    def control(self) -> Path:
        return self.path / "control"

    @property
    def result(self) -> Path:
        return self.path / f"{self.name}.safetensors"

    def epoch_snapshot(self, epoch: int) -> Path:
        """sd-scripts' name for the file of ``epoch`` (1-based), so that grids find it."""
        return self.path / f"{self.name}-{epoch:06d}.safetensors"

    def step_snapshot(self, step: int) -> Path:
        return self.path / f"{self.name}-step{step:08d}.safetensors"

    @property
    def has_work(self) -> bool:
        """Whether something was trained here; a run that failed before its first step left none."""
        logged = self.metrics.exists() and self.metrics.stat().st_size > 0
        return logged or self.result.exists() or any(self.state.glob("*.pt"))

    @property
    def busy(self) -> bool:
        """Whether a process is training here now."""
        try:
            with open(self._lock_path, "r+", encoding="utf-8") as file:
                return not _lock_file(file, shared=True)
        except FileNotFoundError:
            return False

    @property
    def _lock_path(self) -> Path:
        return self.path / "run.lock"

    def __enter__(self) -> RunFolder:
        check_writable(self.path)
        self._lock = open(self._lock_path, "a", encoding="utf-8")
        if not _lock_file(self._lock):
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


def _lock_file(file: TextIO, *, shared: bool = False) -> bool:
    """An advisory lock that the operating system releases even after SIGKILL.

    Those who only ask whether it is free share theirs, where the system has shared locks.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def new_run_folder(output: Path, name: str) -> RunFolder:
    """``output/name``, or ``name-2``, ``name-3`` …: a run that is there is never overwritten."""
    folder, number = RunFolder(Path(output) / name), 1
    while folder.has_work:
        number += 1
        folder = RunFolder(Path(output) / f"{name}-{number}")
    return folder


def existing_run_folder(path: Path) -> RunFolder:
    """Raises RunError when ``path`` is not a run folder."""
    folder = RunFolder(Path(path).resolve())
    if not folder.settings.is_file():
        raise RunError.of(
            path,
            "is not a run folder: it has no settings.toml",
            "give the folder that `lorasmith train` printed, for example runs/my-character",
        )
    return folder


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
        info = json.loads(folder.info.read_text(encoding="utf-8"))
    except ValueError:
        info = None
    if not isinstance(info, dict):
        what = "is damaged: it is no JSON object"
        raise RunError.of(folder.info, what, "put back a copy, or start a new run")
    return info


def steps_of(lora: Path) -> int | None:
    """The optimizer steps behind a LoRA file; ``None`` where it is not there or does not say."""
    try:
        text = read_safetensors_header(lora).metadata.get("ss_steps", "")
    except (ValueError, OSError):  # A damaged file is told of when it is to be used.
        return None
    return int(text) if text.isdecimal() else None


def drop_lines_after(path: Path, step: int) -> None:
    """Forget the lines of a JSONL log that belong to steps a resumed run will do again."""
    if not path.exists():
        return
    kept = []
    # The last line of a killed run may be cut short, or hold anything after a power cut.
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and record.get("step", 0) <= step:
            kept.append(line + "\n")
    write_text(path, "".join(kept))
