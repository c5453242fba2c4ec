"""``lorasmith dataset init``, ``import`` and ``gather``."""

from __future__ import annotations

from lorasmith.cli.dataset_changes import carry_out, change_options, has_terminal
from lorasmith.cli.main import USER_ERROR
from lorasmith.cli.options import command_for
from lorasmith.core.terminal import echo
from lorasmith.jobs.dataset.files import GatherRequest, ImportPicturesRequest, InitRequest


@command_for(ImportPicturesRequest)
@change_options
def import_(request: ImportPicturesRequest, yes: bool, as_json: bool, show_all: bool) -> None:
    carry_out(request, yes=yes, as_json=as_json, show_all=show_all)


@command_for(InitRequest)
@change_options
def init(request: InitRequest, yes: bool, as_json: bool, show_all: bool) -> None:
    carry_out(request, yes=yes, as_json=as_json, show_all=show_all)


@command_for(GatherRequest)
@change_options
def gather(request: GatherRequest, yes: bool, as_json: bool, show_all: bool) -> None:
    if not (yes or request.dry_run or (has_terminal() and not as_json)):
        echo("nothing was fetched: there is no terminal to ask on; add --yes to do it", err=True)
        raise SystemExit(USER_ERROR)
    carry_out(request, yes=yes, as_json=as_json, show_all=show_all)
