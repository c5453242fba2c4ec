"""``lorasmith inspect``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lorasmith.cli.options import command_for
from lorasmith.core.errors import Problem, UserError
from lorasmith.core.files import write_bytes
from lorasmith.core.terminal import echo, echo_json
from lorasmith.jobs.lora_files import InspectRequest
from lorasmith.jobs.request import run

if TYPE_CHECKING:
    from lorasmith.lora_tools.inspect.report import Report

_PREVIEWS = (".png", ".jpg", ".jpeg", ".webp")


@command_for(InspectRequest)
@click.option("--json", "as_json", is_flag=True, help="Print all of it as JSON.")
@click.option("--modules", is_flag=True, help="List every module with its rank and norm.")
@click.option(
    "--chart",
    metavar="PNG",
    type=click.Path(path_type=Path),
    help="Draw the norms by block into a new picture.",
)
@click.option(
    "--preview",
    metavar="PICTURE",
    type=click.Path(path_type=Path),
    help="Write the picture that is embedded in the file; PICTURE must not exist yet.",
)
def inspect(
    request: InspectRequest, as_json: bool, modules: bool, chart: Path | None, preview: Path | None
) -> None:
    from lorasmith.cli.inspect_view import checkpoint_lines, embedding_lines, lora_lines
    from lorasmith.lora_tools.inspect import report as reports

    _check_images(request.path, chart, preview)
    report = run(request)
    for path, content in _images(report, chart, preview, modules).items():
        write_bytes(path, content)
    if as_json:
        echo_json(reports.as_json(report))
    elif isinstance(report, reports.LoraReport):
        echo("\n".join(lora_lines(report, modules=modules)))
    elif isinstance(report, reports.EmbeddingReport):
        echo("\n".join(embedding_lines(report)))
    else:
        echo("\n".join(checkpoint_lines(report)))


def _check_images(file: Path, chart: Path | None, preview: Path | None) -> None:
    """
    Raises:
        UserError: a picture would take the place of a file, or its name is not a picture's.
    """
    from lorasmith.lora_tools.outputs import check_output

    problems = []
    if chart is not None:
        problems += check_output(chart, [file], suffixes=[".png"])
    if preview is not None:
        others = [file] if chart is None else [file, chart]
        problems += check_output(preview, others, suffixes=_PREVIEWS)
    if problems:
        raise UserError(problems)


def _images(
    report: Report, chart: Path | None, preview: Path | None, modules: bool
) -> dict[Path, bytes]:
    """What is to be written.

    Raises:
        UserError: the file has nothing of what is asked for; every such option.
    """
    import io

    from lorasmith.lora_tools.inspect.report import LoraReport, draw_blocks
    from lorasmith.lora_tools.inspect.thumbnail import read_preview

    images: dict[Path, bytes] = {}
    kind = "an embedding" if report.kind == "embedding" else "a checkpoint"
    problems = []
    if modules and not isinstance(report, LoraReport):
        what = f"does nothing with {kind}, which has no modules"
        problems.append(Problem("--modules", what, "leave it out"))
    if chart is not None and not isinstance(report, LoraReport):
        problems.append(Problem("--chart", f"{kind} has no norms by block", "leave it out"))
    elif chart is not None:
        assert isinstance(report, LoraReport)
        buffer = io.BytesIO()
        draw_blocks(report.blocks, report.path.name).save(buffer, "PNG")
        images[chart] = buffer.getvalue()
    thumbnail = None if preview is None else read_preview(report.metadata)
    if preview is not None and thumbnail is None:
        problems.append(Problem(str(report.path), "has no preview picture", "leave out --preview"))
    elif preview is not None and thumbnail is not None:
        images[preview] = thumbnail[1]
    if problems:
        raise UserError(problems)
    return images
