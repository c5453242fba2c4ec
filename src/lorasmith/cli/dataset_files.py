"""``lorasmith dataset init``, ``import`` and ``gather``."""

from __future__ import annotations

from lorasmith.cli.dataset_changes import carry_out, change_options, has_terminal
from lorasmith.cli.main import USER_ERROR
from lorasmith.cli.options import command_for
from lorasmith.core.terminal import echo
from lorasmith.jobs.dataset.files import GatherRequest, ImportPicturesRequest, InitRequest


@command_for(ImportPicturesRequest)
@change_options
def import_(request: ImportPicturesRequest, **view: bool) -> None:
    carry_out(request, **view)


@command_for(InitRequest)
@change_options
def init(request: InitRequest, **view: bool) -> None:
    carry_out(request, **view)


@command_for(GatherRequest)
@change_options
def gather(request: GatherRequest, **view: bool) -> None:
    if not (view["yes"] or request.dry_run or (has_terminal() and not view["as_json"])):
        echo("nothing was fetched: there is no terminal to ask on; add --yes to do it", err=True)
        raise SystemExit(USER_ERROR)
    carry_out(request, **view)
