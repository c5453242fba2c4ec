"""``lorasmith dataset``: look after a folder of training pictures."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lorasmith.cli.main import USER_ERROR
from lorasmith.core.events import Event, Observer, Progress
from lorasmith.core.terminal import echo_json

if TYPE_CHECKING:
    from lorasmith.curation.audit import AuditReport


@click.group("dataset")
def dataset() -> None:
    """Look after a folder of training pictures."""


@dataset.command("check")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--reg", metavar="DIR", type=click.Path(path_type=Path), help="Regularisation folder."
)
@click.option(
    "--resolution",
    metavar="N|WxH",
    default="512",
    show_default=True,
    help="Size to train at, in pixels.",
)
@click.option(
    "--batch", type=click.IntRange(1), default=1, show_default=True, help="Pictures per batch."
)
@click.option(
    "--epochs", type=click.IntRange(1), default=10, show_default=True, help="Epochs of the run."
)
@click.option(
    "--max-tokens",
    type=click.Choice(["75", "150", "225"]),
    default="75",
    show_default=True,
    help="Longest caption, in CLIP tokens.",
)
@click.option("--trigger", metavar="WORD", default="", help="Word that every caption should have.")
@click.option(
    "--extension",
    metavar="EXT",
    default="auto",
    show_default=True,
    help='Of caption files; "auto" takes .txt, then .caption.',
)
@click.option("--no-upscale", is_flag=True, help="Keep small pictures at their own size.")
@click.option("--quick", is_flag=True, help="Read headers only: find no damage and no duplicates.")
@click.option("--json", "as_json", is_flag=True, help="Print everything, as JSON.")
def check(
    folder: Path,
    reg: Path | None,
    resolution: str,
    batch: int,
    epochs: int,
    max_tokens: str,
    trigger: str,
    extension: str,
    no_upscale: bool,
    quick: bool,
    as_json: bool,
) -> None:
    """Say what training would see in DIR, and what is wrong or odd about it.

    DIR holds pictures, or folders named N_name (N repeats of each picture in an epoch), and perhaps
    a folder reg. Nothing is changed. Exit status 2 if it cannot be trained on.
    """
    from lorasmith.curation.audit import audit
    from lorasmith.data.buckets import plan_buckets
    from lorasmith.data.dataset import build_dataset
    from lorasmith.data.layout import find_folders
    from lorasmith.data.scan import scan
    from lorasmith.models.tokenizer import count_tokens

    width, height = _size(resolution)
    buckets = plan_buckets(width, height, upscale=not no_upscale)
    found = scan(find_folders(folder, reg), extension=extension)
    with _progress() as observer:
        report = audit(
            found,
            build_dataset(found, buckets),
            batch=batch,
            epochs=epochs,
            count_tokens=count_tokens,
            max_tokens=int(max_tokens),
            trigger=trigger,
            decode=not quick,
            observer=observer,
        )
    _show(report, as_json)
    if report.errors:
        raise SystemExit(USER_ERROR)


@dataset.command("preview")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--out",
    metavar="FILE.png",
    type=click.Path(path_type=Path),
    default=Path("preview.png"),
    show_default=True,
    help="Where the sheet goes.",
)
@click.option(
    "--config", metavar="FILE.toml", type=click.Path(path_type=Path), help="A run's settings."
)
@click.option("--preset", metavar="NAME", help="Start from a preset; see `lorasmith presets`.")
@click.option(
    "--set",
    "assignments",
    metavar="section.key=value",
    multiple=True,
    help="Any setting of a run, as in --set augment.flip=true; may be repeated.",
)
@click.option(
    "--pictures", type=click.IntRange(1, 200), default=8, show_default=True, help="Rows at most."
)
@click.option(
    "--uses", type=click.IntRange(1, 64), default=8, show_default=True, help="Uses of each picture."
)
@click.option(
    "--side", type=click.IntRange(16, 1024), default=128, show_default=True, help="Pixels of each."
)
def preview(
    folder: Path,
    out: Path,
    config: Path | None,
    preset: str | None,
    assignments: tuple[str, ...],
    pictures: int,
    uses: int,
    side: int,
) -> None:
    """Draw what a run sees of the pictures in DIR: crops, mirror images, colours, masks.

    Each row is a picture, as a run with these settings and their seed shows it in its first uses,
    in their order. Striped parts are masked: they are not learned.
    """
    from lorasmith.cli.console import console
    from lorasmith.config.load import Override, load_settings
    from lorasmith.core.files import atomic_path
    from lorasmith.training.preview import preview_sheet
    from lorasmith.training.setup.preflight import preflight

    data = Override("data.path", json.dumps(str(folder)), "DIR")
    settings = load_settings(config, [*assignments, data], preset, for_training=True)
    with _progress() as observer:
        run_plan = preflight(settings, observer=observer)
    sheet = preview_sheet(
        run_plan.dataset,
        seed=settings.train.seed,
        background=settings.data.background,
        images=pictures,
        uses=uses,
        side=side,
    )
    with atomic_path(out) as part:
        sheet.save(part, format="PNG")
    if str(run_plan.report.augmentation):
        console.print(f"Augmentation: {run_plan.report.augmentation}")
    console.print(f"Written: {out}")


@contextmanager
def _progress() -> Iterator[Observer]:
    """A bar that goes away when all is seen; on standard error, where no JSON is."""
    from lorasmith.core.progress import ProgressView, TextConsole

    view = ProgressView(TextConsole(stderr=True), transient=True)

    def observe(event: Event) -> None:
        if isinstance(event, Progress):
            view.show(event.what, event.done, event.total)

    with contextlib.closing(view):
        yield observe


def _size(text: str) -> tuple[int, int]:
    """ "512" or "512x768" to width and height."""
    parts = text.lower().replace(",", "x").split("x")
    if len(parts) > 2 or not all(part.strip().isdecimal() and int(part) for part in parts):
        raise click.BadParameter(f"{text!r} is neither a size like 512 nor one like 512x768")
    return int(parts[0]), int(parts[-1])


def _show(report: AuditReport, as_json: bool) -> None:
    if as_json:
        echo_json(report.to_json())
        return
    from lorasmith.cli.console import console
    from lorasmith.curation.report import render

    console.print(render(report))
