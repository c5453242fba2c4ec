"""``lorasmith dataset init``, ``import`` and ``gather``."""

from __future__ import annotations

from lorasmith.cli.dataset_changes import carry_out, change_options
from lorasmith.cli.options import command_for
from lorasmith.jobs.dataset.files import ImportPicturesRequest, InitRequest


@command_for(ImportPicturesRequest)
@change_options
def import_(request: ImportPicturesRequest, yes: bool, as_json: bool, show_all: bool) -> None:
    carry_out(request, yes=yes, as_json=as_json, show_all=show_all)


@command_for(InitRequest)
@change_options
def init(request: InitRequest, yes: bool, as_json: bool, show_all: bool) -> None:
    carry_out(request, yes=yes, as_json=as_json, show_all=show_all)
