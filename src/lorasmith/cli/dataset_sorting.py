"""``lorasmith dataset sort`` and ``dedupe``."""

from __future__ import annotations

from lorasmith.cli.dataset_changes import carry_out, change_options
from lorasmith.cli.options import command_for
from lorasmith.jobs.dataset.sorting import DedupeRequest, SortRequest


@command_for(SortRequest)
@change_options
def sort(request: SortRequest, yes: bool, as_json: bool, show_all: bool) -> None:
    carry_out(request, yes=yes, as_json=as_json, show_all=show_all)


@command_for(DedupeRequest)
@change_options
def dedupe(request: DedupeRequest, yes: bool, as_json: bool, show_all: bool) -> None:
    carry_out(request, yes=yes, as_json=as_json, show_all=show_all)
