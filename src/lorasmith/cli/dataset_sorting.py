"""``lorasmith dataset sort`` and ``dedupe``."""

from __future__ import annotations

import click

from lorasmith.cli.dataset_changes import carry_out, change_options
from lorasmith.cli.options import command_for
from lorasmith.jobs.dataset.sorting import DedupeRequest, SortRequest


class _TakingRules(click.Command):
    """Takes ``-tag:hat -> others`` for a rule, though it begins as an option does."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        behind = ["", *args]
        rules = [
            arg
            for before, arg in zip(behind, args, strict=False)
            if "->" in arg and before != "--where"
        ]
        if rules and "--" not in args:
            args = [arg for arg in args if arg not in rules] + ["--", *rules]
        return super().parse_args(ctx, args)


@command_for(SortRequest, _TakingRules)
@change_options
def sort(request: SortRequest, yes: bool, as_json: bool, show_all: bool) -> None:
    carry_out(request, yes=yes, as_json=as_json, show_all=show_all)


@command_for(DedupeRequest)
@change_options
def dedupe(request: DedupeRequest, yes: bool, as_json: bool, show_all: bool) -> None:
    carry_out(request, yes=yes, as_json=as_json, show_all=show_all)
