"""``lorasmith generate``"""

from __future__ import annotations

from lorasmith.cli.options import command_for, run_shown
from lorasmith.jobs.generate import GenerateRequest


@command_for(GenerateRequest)
def generate(request: GenerateRequest) -> None:
    from lorasmith.cli.console import console

    report = run_shown(request)
    console.print(report.summary, soft_wrap=True, markup=False)
    if report.captioned and report.pending:
        text = "each with its caption: data.reg takes the folder as it is, and so does data.path"
        console.print(text, soft_wrap=True, markup=False)
