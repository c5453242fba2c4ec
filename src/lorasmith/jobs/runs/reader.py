"""Runs on disk as those who watch them see them: quick to ask again, and never broken by what a run
folder holds."""

from __future__ import annotations

import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from lorasmith.config.kinds import KINDS
from lorasmith.config.load import load_settings
from lorasmith.config.sections.run import RunSettings
from lorasmith.core.errors import RunError, UserError
from lorasmith.core.files import parse_json, parse_toml, version_of
from lorasmith.core.growing_log import last_record, number_of
from lorasmith.formats.run_paths import EPOCH_FILE, RUN_FILES, STEP_FILE, is_run
from lorasmith.jobs.runs.logs import (
    EventsLog,
    MetricsLog,
    plain_text,
    plain_value,
    step_of,
)
from lorasmith.jobs.runs.records import (
    LoraOfRun,
    ProblemRecord,
    RunDetail,
    RunEvents,
    RunMetrics,
    RunSummary,
    SampleImage,
    problem_records,
)
from lorasmith.jobs.runs.sentences import change_lines, sentences
from lorasmith.jobs.runs.settings import default_values, differences, values_of
from lorasmith.training.runs.control import state_of
from lorasmith.training.runs.folder import RunFolder, read_info, steps_of

# Folders of a run or a workspace that hold no runs, and may hold many files.
NOT_SEARCHED = {"samples", "sample", "state", "tensorboard", "best", "pick", "control"}
VERDICT = Path("pick", "verdict.json")
DEPTH = 3
MOST_RUNS = 2000
# Settings files, info and verdicts are far smaller.
MOST_BYTES = 1 << 22
# Runs whose logs are kept in memory; curves of 100,000 steps take about 15 MB.
KEPT_LOGS = 8
KEPT_FACTS = 2000

Key = TypeVar("Key")
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """The values that were used last, at most ``most``."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[Key, Value] = OrderedDict()

    def get(self, key: Key) -> Value | None:
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: Key, value: Value) -> Value:
        self._values[key] = value
        self._values.move_to_end(key)
        while len(self._values) > self._most:
            self._values.popitem(last=False)
        return value


def find_runs(folder: Path, depth: int = DEPTH) -> list[Path]:
    """The run folders in ``folder``, itself included, down to ``depth`` folders below it.

    Links are not followed, and nothing is looked for inside a run.
    """
    runs: list[Path] = []
    level = [folder]
    for _ in range(depth + 1):
        below: list[Path] = []
        for each in level:
            if all((each / name).is_file() for name in RUN_FILES):
                runs.append(each)
            else:
                below += folders_in(each)
        level = below
        if len(runs) > MOST_RUNS:
            break
    return sorted(runs[:MOST_RUNS])


def folders_in(folder: Path) -> Iterator[Path]:
    """Those in which runs are looked for. Links are not followed."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for name in names:
        hidden = name.startswith(".") and not name.endswith(".lorasmith")
        if name not in NOT_SEARCHED and not hidden and name != ".lorasmith":
            yield folder / name


class RunReader:
    """Reads runs for as long as it lives, and keeps what it read; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._metrics: Recent[Path, MetricsLog] = Recent(KEPT_LOGS)
        self._events: Recent[Path, EventsLog] = Recent(KEPT_LOGS)
        self._summaries: Recent[Path, tuple[Any, RunSummary]] = Recent(KEPT_FACTS)
        self._steps: Recent[tuple[Path, int, int], int] = Recent(KEPT_FACTS)

    def runs(self, folder: Path) -> list[RunSummary]:
        """The runs in and below ``folder``, the newest first."""
        with self._lock:
            summaries = [self._summary(RunFolder(path)) for path in find_runs(folder)]
        return sorted(summaries, key=lambda run: (-(run.started or 0), run.path))

    def run(self, path: Path) -> RunDetail:
        """
        Raises:
            RunError: ``path`` is no run folder.
        """
        folder = opened_run(path)
        with self._lock:
            return self._detail(folder)

    def metrics(self, path: Path, after: int = -1, points: int = 1000) -> RunMetrics:
        """The curves of a run from the step after ``after`` on; see :meth:`.MetricsLog.columns`.

        Raises:
            RunError: ``path`` is no run folder.
        """
        folder = opened_run(path)
        with self._lock:
            log = self._metrics.get(folder.path)
            if log is None:
                log = self._metrics.put(folder.path, MetricsLog(_own(folder.metrics)))
            log.update()
            columns = log.columns(after, points)
            last = columns["step"][-1] if columns["step"] else after
        return RunMetrics(columns=columns, rows=log.rows, last_step=int(last or 0))

    def samples(self, path: Path) -> list[SampleImage]:
        """The images that a run drew, by step and prompt.

        Raises:
            RunError: ``path`` is no run folder.
        """
        folder = opened_run(path)
        with self._lock:
            told = self._told_samples(folder)
        per_epoch = _steps_per_epoch(folder)
        images = []
        for index, file in folder.drawn_samples():
            event = told.get(file.name, {})
            step, epoch = _place(file.name, step_of(event), per_epoch)
            seed = re.search(r"(\d+)\.png\Z", file.name, re.ASCII)
            if _is_sendable(file):
                images.append(
                    SampleImage(
                        path=str(file),
                        step=step,
                        epoch=epoch,
                        index=index,
                        prompt=plain_text(event.get("prompt")),
                        seed=int(seed[1]) if seed is not None else 0,
                        version=version_of(file),
                    )
                )
        return sorted(images, key=lambda one: (-1 if one.step is None else one.step, one.index))

    def events(self, path: Path, after: int = 0) -> RunEvents:
        """Events from number ``after`` on, without their long lists.

        Raises:
            RunError: ``path`` is no run folder.
        """
        folder = opened_run(path)
        with self._lock:
            log = self._log(folder)
            return RunEvents(
                events=[plain_value(record) for record in log.since(after)],
                next=log.first + len(log.records),
            )

    def dataset(self, path: Path) -> dict[str, Any]:
        """What was found in the dataset when the run began; empty where that is not there.

        Raises:
            RunError: ``path`` is no run folder.
        """
        return _json(opened_run(path).path / "dataset.json", 1 << 27)

    def _log(self, folder: RunFolder) -> EventsLog:
        log = self._events.get(folder.path)
        if log is None:
            log = self._events.put(folder.path, EventsLog(_own(folder.events)))
        log.update()
        return log

    def _told_samples(self, folder: RunFolder) -> dict[str, dict[str, Any]]:
        """What the events say of each image, by the name of its file."""
        return {
            os.path.basename(str(record.get("path", ""))): record
            for record in self._log(folder).records
            if record.get("event") == "SampleSaved"
        }

    def _summary(self, folder: RunFolder) -> RunSummary:
        busy = _busy(folder)
        files = (folder.settings, folder.info, folder.metrics, folder.samples, folder.loras)
        verdict = folder.path / VERDICT
        signature = (busy, *(_stat(path) for path in (*files, verdict)))
        known = self._summaries.get(folder.path)
        if known is not None and known[0] == signature:
            return known[1]
        info, _ = _info(folder)
        last = last_record(_own(folder.metrics), _has_loss)
        model, settings = info.get("model"), _stat(folder.settings)
        loras = [path for path in folder.lora_files if _is_sendable(path)]
        final = next((path for path in loras if path == folder.result), None)
        newest = final or max(loras, key=lambda path: _stat(path)[0], default=None)
        cover = cover_of(folder)
        running, kind = busy and bool(last), _kind(folder)
        summary = RunSummary(
            path=str(folder.path),
            name=plain_text(folder.name),
            state=_state(folder, info, busy=busy, begun=running),
            step=step_of(last) or 0,
            steps=_whole(info.get("steps")) or _whole(last.get("steps")),
            loss=number_of(last.get("smoothed_loss")),
            started=settings[0] / 1e9 if settings[0] else None,
            kind=kind,
            has_strength=kind not in KINDS or KINDS[kind].has_strength,
            model=plain_text(model.get("path")) if isinstance(model, dict) else "",
            lora=str(newest) if newest is not None else "",
            cover=str(cover) if cover is not None else "",
            seconds_left=number_of(last.get("seconds_left")) if running else None,
            picked=plain_text(_table(_verdict(folder), "keep").get("label"), 80),
        )
        self._summaries.put(folder.path, (signature, summary))
        return summary

    def _detail(self, folder: RunFolder) -> RunDetail:
        problems: list[ProblemRecord] = []
        text, values = _settings(folder, problems)
        info, damage = _info(folder)
        problems += damage
        last = last_record(_own(folder.metrics), _has_loss)
        verdict = _verdict(folder)
        charts = {
            name: str(path) if (path := folder.path / "pick" / name).is_file() else ""
            for name in ("chart.png", "candidates.png")
        }
        events = self._log(folder).records
        return RunDetail(
            **self._summary(folder).model_dump(),
            numbers=plain_value(last),
            info=plain_value(info),
            settings=values,
            settings_text=text,
            differs_from_default=differences(values, default_values()) if values else [],
            loras=self._loras(folder, verdict),
            says=list(sentences(events, info, verdict)),
            changed=list(change_lines(info)),
            waiting=_waiting(folder),
            resume=plain_text(folder.resume_command),
            pick_chart=charts["chart.png"],
            pick_sheet=charts["candidates.png"],
            problems=problems,
        )

    def _loras(self, folder: RunFolder, verdict: Mapping[str, Any]) -> list[LoraOfRun]:
        per_epoch = _steps_per_epoch(folder)
        # By their steps: the files of a run that was renamed have other names.
        snapshots = verdict.get("snapshots")
        judged = {
            _whole(one.get("step")): plain_text(one.get("state"), 10)
            for one in (snapshots if isinstance(snapshots, list) else ())
            if isinstance(one, dict)
        }
        kept = _whole(_table(verdict, "keep").get("step"))
        loras = []
        for path in folder.lora_files:
            if not _is_sendable(path):
                continue
            by_epoch, by_step = EPOCH_FILE.fullmatch(path.stem), STEP_FILE.fullmatch(path.stem)
            step = int(by_step["number"]) if by_step is not None else self._steps_of(path)
            epoch = int(by_epoch["number"]) if by_epoch is not None else None
            if epoch is None and step and per_epoch and step % per_epoch == 0:
                epoch = step // per_epoch
            loras.append(
                LoraOfRun(
                    path=str(path),
                    name=path.name,
                    step=step,
                    epoch=epoch,
                    final=path == folder.result,
                    bytes=_stat(path)[1],
                    judged=judged.get(step, "") if step is not None else "",
                    picked=step is not None and step == kept,
                )
            )
        last = max((one.step or 0 for one in loras), default=0)
        return sorted(loras, key=lambda one: (last if one.step is None else one.step, one.final))

    def _steps_of(self, path: Path) -> int | None:
        key = (path, *_stat(path))
        known = self._steps.get(key)
        if known is None:
            steps = steps_of(path)
            known = self._steps.put(key, -1 if steps is None else steps)
        return None if known < 0 else known


def opened_run(path: Path) -> RunFolder:
    """The run of this very folder.

    Raises:
        RunError: it is none.
    """
    if not is_run(path):
        what = f"is not a run folder: there is no {RUN_FILES[0]} in it"
        raise RunError.of(path, what, "choose a folder that `lorasmith train` made")
    return RunFolder(path)


def cover_of(folder: RunFolder) -> Path | None:
    """The newest image of the first prompt that a run drew: what it is about, as far as it is."""
    drawn = [(number, image) for number, image in folder.drawn_samples() if _is_sendable(image)]
    first = min((number for number, _ in drawn), default=0)
    return next((image for number, image in reversed(drawn) if number == first), None)


def _has_loss(record: Mapping[str, Any]) -> bool:
    return number_of(record.get("loss")) is not None


def _own(file: Path) -> Path:
    """The file itself, or a place where nothing is, if it is a link to somewhere else."""
    if file.is_symlink() and file.resolve().parent != file.parent.resolve():
        return file / "a link that leads elsewhere"
    return file


def _read(file: Path, most: int) -> bytes:
    """Raises OSError also where the file is larger than ``most`` bytes."""
    with open(_own(file), "rb") as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise OSError(f"is larger than {most} bytes")
    return data


def _json(file: Path, most: int) -> dict[str, Any]:
    try:
        value = parse_json(_read(file, most).decode("utf-8", "replace"))
    except (OSError, ValueError):
        return {}
    return plain_value(value) if isinstance(value, dict) else {}


def _kind(folder: RunFolder) -> str:
    """``train.kind`` of its settings; "" where they cannot be read."""
    try:
        settings = parse_toml(_read(folder.settings, MOST_BYTES).decode("utf-8"))
    except (OSError, ValueError):
        return ""
    return plain_text(_table(settings, "train").get("kind", RunSettings().kind), 40)


def _verdict(folder: RunFolder) -> dict[str, Any]:
    """What pick found; empty where it was not asked."""
    return _json(folder.path / VERDICT, MOST_BYTES)


def _table(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def _settings(folder: RunFolder, problems: list[ProblemRecord]) -> tuple[str, dict[str, Any]]:
    """The settings file, and its values; what is wrong with it is added to ``problems``."""
    try:
        text = plain_text(_read(folder.settings, MOST_BYTES).decode("utf-8", "replace"), MOST_BYTES)
        return text, values_of(load_settings(folder.settings))
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        problems.append(ProblemRecord(where=str(folder.settings), what=what))
        return "", {}
    except UserError as error:
        problems += problem_records(error.problems)
        return text, {}


def _info(folder: RunFolder) -> tuple[Mapping[str, Any], list[ProblemRecord]]:
    if _own(folder.info) != folder.info:
        return {}, []
    try:
        return read_info(folder), []
    except UserError as error:
        return {}, problem_records(error.problems)
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        return {}, [ProblemRecord(where=str(folder.info), what=what)]


def _busy(folder: RunFolder) -> bool:
    try:
        return folder.busy
    except OSError:  # Of a disk that can only be read.
        return False


def _state(folder: RunFolder, info: Mapping[str, Any], *, busy: bool, begun: bool) -> str:
    if busy:
        return "running" if begun else "preparing"
    return plain_text(state_of(folder, info, begun=begun), 20)


def _waiting(folder: RunFolder) -> int:
    try:
        return sum(not name.startswith(".") for name in os.listdir(folder.control))
    except OSError:
        return 0


def _steps_per_epoch(folder: RunFolder) -> int | None:
    steps = _json(folder.path / "dataset.json", 1 << 27).get("steps")
    return _whole(steps.get("steps_per_epoch")) if isinstance(steps, dict) else None


def _place(name: str, step: int | None, per_epoch: int | None) -> tuple[int | None, int | None]:
    """The step after which an image was drawn and the epoch that ended there, from its name."""
    epoch_name = re.search(r"_e(\d{6})_\d{2,}_\d+\.png\Z", name, re.ASCII)
    step_name = re.match(r"(\d{8})-", name, re.ASCII) or re.search(
        r"_(\d{6})_\d{2,}_\d+\.png\Z", name, re.ASCII
    )
    if epoch_name is not None:
        epoch = int(epoch_name[1])
        return step if step is not None else epoch * per_epoch if per_epoch else None, epoch
    step = int(step_name[1]) if step_name is not None else step
    ends = step is not None and per_epoch and step % per_epoch == 0
    return step, step // per_epoch if step is not None and per_epoch and ends else None


def _whole(value: Any) -> int | None:
    number = number_of(value)
    return int(number) if number is not None and 0 < number < 1e12 else None


def _stat(path: Path) -> tuple[int, int]:
    """(time of the last change in nanoseconds, size); zeros where nothing is."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size


def _is_sendable(path: Path) -> bool:
    """Whether the name is text that can be written as JSON."""
    return plain_text(str(path), 1 << 20) == str(path)
