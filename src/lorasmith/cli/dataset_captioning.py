"""``lorasmith dataset caption`` and ``regularize``."""

from __future__ import annotations

from lorasmith.cli.dataset_changes import carry_out, change_options
from lorasmith.cli.options import command_for, run_shown
from lorasmith.jobs.dataset.captioning import CaptionRequest
from lorasmith.jobs.dataset.regularize import RegularizeRequest


@command_for(CaptionRequest)
@change_options
def caption(request: CaptionRequest, **view: bool) -> None:
    carry_out(request, **view)


@command_for(RegularizeRequest)
def regularize(request: RegularizeRequest) -> None:
    from lorasmith.cli.console import console

    report = run_shown(request)
    console.print(report.summary, soft_wrap=True, markup=False)
