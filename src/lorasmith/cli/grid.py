"""``lorasmith grid``"""

from __future__ import annotations

from lorasmith.cli.options import command_for, run_shown
from lorasmith.core.text import quantity
from lorasmith.jobs.grid import GridReport, GridRequest


@command_for(GridRequest)
def grid(request: GridRequest) -> None:
    from lorasmith.cli.console import console

    report = run_shown(request)
    text = _plan(report) if request.dry_run else _summary(report)
    console.print(text, soft_wrap=True, markup=False)


def _plan(report: GridReport) -> str:
    columns, rows, pages = report.size
    sides = [f"{columns} by {rows}", *([quantity(pages, "page")] if pages > 1 else [])]
    kept = f", {report.images.kept} are there already" if report.images.kept else ""
    to_draw = f"{quantity(report.missing, 'picture')} to draw{kept}"
    return f"{', '.join(sides)}: {to_draw}\ndry run    {report.folder} not written"


def _summary(report: GridReport) -> str:
    from lorasmith.grids.record import PAGE, SHEET, SMALL_SHEET

    images, out = report.images, report.folder
    kept = f", {images.kept} were there already" if images.kept else ""
    lines = [f"{quantity(images.drawn, 'picture')} drawn in {images.seconds:.0f} s{kept}"]
    if images.drawn:
        done, rows = images.switches, images.in_rows
        lines.append(
            f"loaded: base models {done.models}, VAEs {done.vaes}, LoRAs {done.loras}  "
            f"(row by row it would be {rows.models}, {rows.vaes}, {rows.loras})"
        )
    lines.append(f"to compare them, open in a browser: {out / PAGE}")
    lines.append(f"on one sheet: {out / SHEET} and {SMALL_SHEET}")
    return "\n".join(lines)
