"""Putting commands into the queue, with frozen settings; one job for each of several values."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from lorasmith.config.dump import dump_toml, toml_value
from lorasmith.config.load import LoadedSettings, Override
from lorasmith.config.schema import TrainSettings
from lorasmith.core.device_names import check_device_name
from lorasmith.core.errors import Problem, SettingsError, UserError, collect_each
from lorasmith.core.events import Observer, ignore
from lorasmith.core.file_names import safe_stem
from lorasmith.core.files import write_text
from lorasmith.core.text import quantity
from lorasmith.data.layout import default_name
from lorasmith.jobs.queue.ledger import AUTO, Job, Ledger
from lorasmith.jobs.training import TrainRequest

MOST_VARIANTS = 200

# A value's own commas stand in brackets or quotes.
_VALUES = re.compile(r"""(?:\[[^\]]*\]|"(?:\\.|[^"\\])*"|'[^']*'|[^,])+""")


def submit(
    ledger: Ledger,
    command: Sequence[str],
    folder: Path,
    *,
    title: str = "",
    device: str = AUTO,
    after: int | None = None,
    hold: bool = False,
) -> Job:
    """Queue any command but a training, which :func:`submit_training` freezes.

    Args:
        command: the words after ``lorasmith``; ``{run}`` stands for the run of the job ``after``.
        folder: where it is run.

    Raises:
        SettingsError: ``{run}`` follows nothing, or the device has no name of one.
        RunError: the queue cannot be written.
    """
    if after is None and any("{run}" in word for word in command):
        hint = "add --after and the number of a training's job"
        raise SettingsError.of(
            "{run}", "stands for the run of another job, and none is named", hint
        )
    device = check_device_name(device)
    words = " ".join((title or " ".join(command)).split())
    return ledger.add(command, words, folder, device=device, after=after, hold=hold)


def free_folder(ledger: Ledger, places: Iterable[Path]) -> Path:
    """The first of these where nothing is, and that no job names which runs or waits."""
    taken = {
        job.folder / word for job in ledger.jobs() if not job.has_ended for word in job.command
    }
    return next(place for place in places if not os.path.lexists(place) and place not in taken)


def submit_training(
    ledger: Ledger,
    request: TrainRequest,
    folder: Path,
    *,
    sweep: Sequence[str] = (),
    title: str = "",
    device: str = AUTO,
    after: int | None = None,
    hold: bool = False,
    check: Callable[[TrainSettings], None] = lambda settings: None,
    observer: Observer = ignore,
) -> list[Job]:
    """Queue a training, its settings frozen: what the files say later changes nothing.

    Args:
        sweep: ``section.key=value,value,…``; one job for each combination, named by its values.
        device: also ``performance.device``, unless it is "auto".
        check: what else the settings of each job must be; raises where they are not.

    Raises:
        UserError: with everything that is wrong with the settings; nothing is queued.
    """
    device = check_device_name(device)
    fixed = [] if device == AUTO else [Override("performance.device", device, "--device")]
    variants = list(_variants(sweep))

    def load(values: tuple[Override, ...]) -> LoadedSettings:
        changes = {"settings": [*request.settings, *fixed, *values]}
        loaded = request.model_copy(update=changes).load(observer)
        check(loaded.settings)
        return loaded

    loaded = collect_each(load, variants)
    jobs: list[Job] = []
    try:
        for values, each in zip(variants, loaded, strict=True):
            name = _name(each, values)
            # Held until all settings are there: a runner may be waiting for work.
            job = ledger.add(
                ["train"], title or f"train {name}", folder, device=device, after=after, hold=True
            )
            jobs.append(job)
            file = ledger.job_folder(job.id) / "settings.toml"
            settings, given = each.settings, set(each.origins)
            if values:
                save = settings.save.model_copy(update={"name": name})
                settings, given = settings.model_copy(update={"save": save}), {*given, "save.name"}
            write_text(file, dump_toml(settings, base=folder, only=given))
            jobs[-1] = ledger.set_command(job.id, ["train", str(file)])
    except UserError:  # All or none: a sweep of which a part is queued is queued again as a whole.
        for job in jobs:
            with contextlib.suppress(UserError):
                ledger.remove(job.id)
        raise
    return jobs if hold else [ledger.release(job.id) for job in jobs]


def sweep_option(path: str, values: Sequence[str]) -> str:
    """Several values of a setting as ``sweep`` takes them: one with a comma of its own stands in
    quotes."""
    words = [
        toml_value(value) if re.search("[,\"']", value) and not value.startswith("[") else value
        for value in values
    ]
    return f"{path}={','.join(words)}"


def _name(loaded: LoadedSettings, values: Sequence[Override]) -> str:
    """Of the run and its files: of a variant, with what differs."""
    settings = loaded.settings
    name = settings.save.name
    if not name:
        folders = settings.data.folders
        paths = [settings.data.path, *(folder.path for folder in folders)]
        named = next((path for path in paths if path is not None), None)
        name = settings.train.kind if named is None else default_name(named)
    parts = [f"{each.path.rpartition('.')[2]}{each.text}" for each in values]
    return safe_stem("-".join([name, *parts])) if parts else name


def _variants(sweep: Sequence[str]) -> Iterator[tuple[Override, ...]]:
    """Every combination of the values; a single one without any where nothing is swept.

    Raises:
        SettingsError: with everything that cannot be read.
    """
    problems, axes = [], []
    for text in sweep:
        path, equals, values = (part.strip() for part in text.partition("="))
        each = [value.strip() for value in _VALUES.findall(values)]
        if not (path and equals and len(each) > 1):
            hint = "write section.key=value,value, as in optimizer.lr=1e-4,2e-4"
            problems.append(Problem(f"--sweep {text}", "has no two values", hint))
        axes.append([Override(path, value, f"--sweep {path}") for value in dict.fromkeys(each)])
    count = 1
    for axis in axes:
        count *= max(1, len(axis))
    if count > MOST_VARIANTS:
        what = f"makes {quantity(count, 'job')}; {MOST_VARIANTS} are the most"
        problems.append(Problem("--sweep", what, "take fewer values"))
    if problems:
        raise SettingsError(problems)
    yield from itertools.product(*axes)
