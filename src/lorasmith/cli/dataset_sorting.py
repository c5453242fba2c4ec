"""``lorasmith dataset sort`` and ``dedupe``."""

from __future__ import annotations

import click

from lorasmith.cli.dataset_changes import carry_out, change_options
from lorasmith.cli.options import command_for
from lorasmith.jobs.dataset.sorting import DedupeRequest, SortRequest


class _TakingRules(click.Command):
    """Takes ``-tag:hat -> others`` for a rule, though it begins as an option does."""

    def make_parser(self, ctx: click.Context) -> click.parser._OptionParser:
        parser = super().make_parser(ctx)
        parse = parser.parse_args
        parser.parse_args = lambda args: parse(_rules_last(args))  # type: ignore[method-assign]
        return parser


def _rules_last(args: list[str]) -> list[str]:
    behind = ["", *args]
    rules = [
        arg
        for before, arg in zip(behind, args, strict=False)
        if "->" in arg and before != "--where"
    ]
    if not rules or "--" in args:
        return args
    return [*(arg for arg in args if arg not in rules), "--", *rules]


@command_for(SortRequest, _TakingRules)
@change_options
def sort(request: SortRequest, **view: bool) -> None:
    carry_out(request, **view)


@command_for(DedupeRequest)
@change_options
def dedupe(request: DedupeRequest, **view: bool) -> None:
    carry_out(request, **view)
