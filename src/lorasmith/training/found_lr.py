"""What is done with a learning rate that was looked for: proposed, kept by a run, said."""

from __future__ import annotations

from pathlib import Path

from lorasmith.config.checks.table import contradictions
from lorasmith.config.dump import dump_toml
from lorasmith.config.schema import TrainSettings
from lorasmith.core.errors import SettingsError
from lorasmith.core.events import Controls, Notice, Observer, RateFound, ignore
from lorasmith.core.files import write_json, write_text
from lorasmith.tensors.device import choose_device, deterministic
from lorasmith.training.lr_search import RateSearch
from lorasmith.training.memory.plan import memory_of
from lorasmith.training.runs.folder import new_run_folder
from lorasmith.training.setup.build import Run, build_run
from lorasmith.training.setup.context import RunContext
from lorasmith.training.setup.preflight import preflight, process_count
from lorasmith.training.setup.processes import Processes

BAR = 30  # Signs.


def find_lr(
    settings: TrainSettings,
    *,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> RateSearch:
    """Look for the learning rate that a run with these settings would take with
    ``optimizer.lr = "find"``, and write nothing but perhaps caches.

    Args:
        settings: rates that are given say how the parts' rates are to be to each other.

    Raises:
        UserError: something is wrong, or no rate makes the loss fall.
        Stopped: the user stopped it.
    """
    controls = controls or Controls()
    settings = settings.model_copy(update={"optimizer": settings.optimizer.seeking()})
    if problems := contradictions(settings):
        raise SettingsError(problems)
    run_plan = preflight(
        settings, process_count(), to_train=True, observer=observer, controls=controls
    )
    settings = run_plan.settings
    processes = Processes(choose_device(settings.performance.device))
    folder = new_run_folder(settings.save.output, run_plan.name, settings.save.layout)
    observer = observer if processes.main else ignore
    memory = memory_of(run_plan, processes.device)
    for warning in [*run_plan.warnings, *memory.problems]:
        observer(Notice("warning", f"settings: {warning}"))
    with deterministic(settings.performance.deterministic):
        run = build_run(RunContext(run_plan, folder, processes, memory, observer, controls))
    assert run.rate_search is not None
    return run.rate_search


def keep_rate(run: Run, search: RateSearch) -> None:
    """The rate that was found becomes the run's setting, so that it is never looked for again."""
    run.observer(RateFound(search.rates, rate_lines(search)))
    if run.processes.main:
        write_json(run.folder.path / "find_lr.json", search.record())
        write_text(run.folder.path / "find_lr.txt", "\n".join(rate_lines(search)) + "\n")
        write_text(run.folder.settings, dump_toml(run.settings, base=Path()))


def rate_lines(search: RateSearch) -> list[str]:
    """What was seen, for people: a table of rates and losses with bars, and what follows."""
    losses = [trial.loss for trial in search.trials if trial.loss is not None]
    gain = max(search.loss - min([search.loss, *losses]), 1e-12)
    lines = [f"{'rate':>9}  loss ({search.loss:.4f} before)"]
    for trial in search.trials:
        text = "no number"
        if trial.loss is not None:
            bar = "#" * round(BAR * max(search.loss - trial.loss, 0) / gain)
            text = f"{trial.loss:.4f}  {bar}"
        lines.append(f"{trial.rate:9.2g}  {text}".rstrip())
    rates = ", ".join(f"{part} {rate:g}" for part, rate in search.rates.items())
    if len(set(search.rates.values())) == 1:
        rates = f"{next(iter(search.rates.values())):g}"
    text = f"lowest at {search.best:.2g}; a run takes {search.share:g} of that"
    return [*lines, f"learning rate {rates}: {text}"]


def use_lines(search: RateSearch) -> list[str]:
    """How to train with the rate."""
    assignments = [f"--optimizer.{part}_lr {rate:g}" for part, rate in search.rates.items()]
    if len(set(search.rates.values())) == 1:
        assignments = [f"--optimizer.lr {next(iter(search.rates.values())):g}"]
    return [
        "Nothing was trained. To train with it, add:",
        f"  {' '.join(assignments)}",
        "or --optimizer.lr find, which looks for it again when the run begins.",
    ]
