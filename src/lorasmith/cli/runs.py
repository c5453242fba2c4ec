"""``lorasmith runs``"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from lorasmith.core.file_names import shell_word
from lorasmith.core.terminal import echo, echo_json


@click.group("runs")
def runs() -> None:
    """List runs, give them other names or a picture, or remove them.

    RUN is a run's folder, or its LoRA. A run on which something works, or on which a job of the
    queue waits, stays as it is.
    """


def _common(command: Callable[..., None]) -> Callable[..., None]:
    workspace = click.option(
        "--workspace",
        type=click.Path(path_type=Path, file_okay=False, exists=True),
        default=Path(),
        metavar="DIR",
        help="The folder whose queue has jobs of the run.  [default: this one]",
    )
    return workspace(_json(command))


_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_PATH = click.Path(path_type=Path)


@runs.command("list")
@click.argument(
    "folder", type=click.Path(path_type=Path, file_okay=False, exists=True), default="."
)
@click.option("--removed", is_flag=True, help="Show those in the trash, which can be restored.")
@_json
def list_(folder: Path, removed: bool, as_json: bool) -> None:
    """Show the runs in and below FOLDER, by itself this one, the newest first."""
    from rich.table import Table

    from lorasmith.cli.console import console
    from lorasmith.jobs.runs.folders import removed_runs
    from lorasmith.jobs.runs.reader import RunReader
    from lorasmith.jobs.runs.records import RunSummary

    reader = RunReader()
    if removed:
        kept: dict[Path, RunSummary] = {
            at: reader.run(run) for at, run in removed_runs(folder).items()
        }
        if as_json:
            told = set(RunSummary.model_fields)
            echo_json(
                [{"kept": str(at), **run.model_dump(include=told)} for at, run in kept.items()]
            )
            return
        for at, run in kept.items():
            echo(
                f"{run.name}, {run.kind}, step {run.step}: lorasmith runs restore {shell_word(at)}"
            )
        if not kept:
            echo("There are no removed runs here.")
        return
    found = reader.runs(folder)
    if as_json:
        echo_json([run.model_dump() for run in found])
        return
    if not found:
        echo("There are no runs here: lorasmith train PICTURES makes one.")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("run", "kind", "state", "steps", "loss", "base model", "pick keeps"):
        table.add_column(heading, overflow="fold")
    for run in found:
        steps = f"{run.step} of {run.steps}" if run.steps is not None else str(run.step)
        loss = f"{run.loss:.4g}" if run.loss is not None else ""
        table.add_row(run.path, run.kind, run.state, steps, loss, run.model, run.picked)
    console.print(table)


@runs.command("rename")
@click.argument("run", type=_PATH)
@click.argument("name")
@_common
def rename(run: Path, name: str, workspace: Path, as_json: bool) -> None:
    """Give a run, its LoRA files and their cards the name NAME.

    RUN may also be a LoRA file that is no run's: it and what lies beside it, its cards and
    previews, are then called so. Nothing is overwritten.

    What is said inside of the files, such as the name that a LoRA was trained under, stays. An
    embedding's word is its file's name in web UIs: its cards follow, and it is said.
    """
    from lorasmith.jobs.runs.folders import ledger_of, rename_lora, rename_run, trained_word
    from lorasmith.training.runs.folder import RunFolder, run_of_file

    if run.is_file() and run_of_file(run) is None:
        file = rename_lora(run, name, ledger_of(workspace))
        if as_json:
            echo_json({"lora": str(file)})
        else:
            echo(f"is now {file}")
        return
    new = rename_run(run, name, ledger_of(workspace))
    if as_json:
        echo_json({"run": str(new)})
        return
    echo(f"is now {new}")
    result = RunFolder(new).result
    if (word := trained_word(result)) and word.casefold() != result.stem.casefold():
        also = f"`lorasmith generate --embedding-dir {shell_word(result.parent)}` knows {word} too"
        echo(f"its word in web UIs is now {result.stem}; {also}")


@runs.command("preview")
@click.argument("lora", type=_PATH)
@click.argument("picture", type=_PATH)
@_json
def preview(lora: Path, picture: Path, as_json: bool) -> None:
    """Make PICTURE the preview of a LoRA: NAME.png beside it, which web UIs show.

    LORA is a LoRA file, or a run, whose result is then meant. PICTURE is a PNG, such as `lorasmith
    generate` draws; it takes the place of the preview that is there.
    """
    from lorasmith.jobs.drawings.loras import set_preview
    from lorasmith.training.runs.folder import existing_run_folder

    file = lora if lora.is_file() else existing_run_folder(lora).result
    written = set_preview(file, picture)
    if as_json:
        echo_json({"lora": str(file), "preview": str(written)})
        return
    echo(f"is its preview now: {written}")


@runs.command("remove")
@click.argument("runs", nargs=-1, required=True, type=_PATH, metavar="RUN...")
@click.option("--for-good", is_flag=True, help="Delete them: nothing brings them back.")
@_common
def remove(runs: tuple[Path, ...], for_good: bool, workspace: Path, as_json: bool) -> None:
    """Put runs with their LoRA files and samples into the trash beside them.

    The trash is .lorasmith/trash in the folder in which the runs lie; `lorasmith runs restore`
    brings them back from there, and whoever needs the room empties it. Where one of them cannot be
    removed, all stay.
    """
    from lorasmith.jobs.runs.folders import ledger_of, remove_runs

    kept = remove_runs(runs, ledger_of(workspace), for_good=for_good)
    if as_json:
        echo_json([{"run": str(r), "kept": str(at) if at else None} for r, at in kept.items()])
        return
    for run, at in kept.items():
        echo(f"{run} lies in {at}" if at is not None else f"{run} is deleted")


@runs.command("restore")
@click.argument("kept", type=_PATH, metavar="TRASHED")
@_json
def restore(kept: Path, as_json: bool) -> None:
    """Bring back a run that was removed.

    TRASHED is its folder in .lorasmith/trash, the path that it had, or its name.
    """
    from lorasmith.jobs.runs.folders import find_removed, restore_run

    run = restore_run(find_removed(kept))
    if as_json:
        echo_json({"run": str(run)})
        return
    echo(f"is back: {run}")
