"""``lorasmith inspect``"""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("inspect")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print all of it as JSON.")
@click.option("--modules", is_flag=True, help="List every module with its rank and norm.")
@click.option(
    "--chart",
    metavar="PNG",
    type=click.Path(path_type=Path),
    help="Draw the norms by block into a picture.",
)
@click.option(
    "--preview",
    metavar="PICTURE",
    type=click.Path(path_type=Path),
    help="Write the picture that is embedded in the file.",
)
def command(
    file: Path, as_json: bool, modules: bool, chart: Path | None, preview: Path | None
) -> None:
    """Say what FILE is: a LoRA of any type, or a checkpoint.

    Of a LoRA: its family, ranks, the layers that it adapts, how much it changes in which block, the
    words that trigger it, its training, and which programs read it. Nothing in the file is run.
    """
    from lorasmith.cli.inspect_view import checkpoint_lines, lora_lines
    from lorasmith.lora_tools import report as reports
    from lorasmith.lora_tools.inspect import inspect

    report = inspect(file)
    if as_json:
        click.echo(json.dumps(reports.as_json(report), indent=2, ensure_ascii=False))
    elif isinstance(report, reports.LoraReport):
        click.echo("\n".join(lora_lines(report, modules=modules)))
    else:
        click.echo("\n".join(checkpoint_lines(report)))
    if chart is not None:
        _draw(chart, report)
    if preview is not None:
        _write_preview(preview, report)


def _draw(path: Path, report: object) -> None:
    import io

    from lorasmith.errors import UserError
    from lorasmith.files import write_bytes
    from lorasmith.lora_tools.chart import draw_blocks
    from lorasmith.lora_tools.report import LoraReport

    if not isinstance(report, LoraReport):
        raise UserError.of("--chart", "a checkpoint has no norms by block", "leave it out")
    buffer = io.BytesIO()
    draw_blocks(report.blocks, report.path.name).save(buffer, "PNG")
    write_bytes(path, buffer.getvalue())


def _write_preview(path: Path, report: object) -> None:
    from lorasmith.errors import UserError
    from lorasmith.files import write_bytes
    from lorasmith.lora_tools.preview import read_preview
    from lorasmith.lora_tools.report import CheckpointReport, LoraReport

    assert isinstance(report, LoraReport | CheckpointReport)
    found = read_preview(report.metadata)
    if found is None:
        raise UserError.of(report.path, "has no preview picture", "leave out --preview")
    write_bytes(path, found[1])
