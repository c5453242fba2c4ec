"""``lorasmith dataset edit``, ``captions`` and ``rename``."""

from __future__ import annotations

from typing import Any

import click

from lorasmith.cli.dataset_changes import carry_out, change_options
from lorasmith.cli.options import command_for
from lorasmith.curation.edit.operations import OPERATIONS
from lorasmith.jobs.dataset.captions import CaptionsRequest, EditRequest
from lorasmith.jobs.dataset.files import RenameRequest


class _OperationOption(click.Option):
    """Appends ``NAME=VALUE`` to the request's operations, so that all options of this kind stay
    in the order in which they are given."""

    def __init__(self, name: str) -> None:
        kind = OPERATIONS[name]
        parts = kind.metavar.split()
        super().__init__(
            [f"--{name}"],
            metavar=kind.metavar or None,
            nargs=max(1, len(parts)),
            is_flag=not parts,
            help=f"{kind.help}.",
            expose_value=False,
            multiple=bool(parts),
        )
        self.operation = name

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        super().add_to_parser(parser, ctx)
        for option in self.opts:
            parser._long_opt[option].process = self._append

    def _append(self, value: Any, state: Any) -> None:
        words = value if isinstance(value, tuple) else [value]
        text = self.operation if self.is_flag else f"{self.operation}={' '.join(words)}"
        state.opts.setdefault("operations", []).append(text)


def _operation_options(command: click.Command) -> click.Command:
    """The command with an option for each operation, before the others."""
    first = sum(isinstance(param, click.Argument) for param in command.params)
    command.params[first:first] = [_OperationOption(name) for name in OPERATIONS]
    return command


@_operation_options
@command_for(EditRequest)
@change_options
def edit(request: EditRequest, **view: bool) -> None:
    carry_out(request, **view)


@command_for(CaptionsRequest)
@change_options
def captions(request: CaptionsRequest, **view: bool) -> None:
    carry_out(request, **view)


@command_for(RenameRequest)
@change_options
def rename(request: RenameRequest, **view: bool) -> None:
    carry_out(request, **view)
