"""``lorasmith dataset`` verbs that change images."""

from __future__ import annotations

import click

from lorasmith.cli.dataset_changes import carry_out, change_options
from lorasmith.cli.options import command_for
from lorasmith.jobs.dataset.images import (
    ConvertPicturesRequest,
    CropRequest,
    FlipRequest,
    MasksRequest,
    ResizePicturesRequest,
    SplitRequest,
)


@command_for(CropRequest)
@change_options
def crop(request: CropRequest, yes: bool, as_json: bool, show_all: bool) -> None:
    carry_out(request, yes=yes, as_json=as_json, show_all=show_all)


# The web UI's word.
preprocess = click.Command("preprocess", params=crop.params, callback=crop.callback, help=crop.help)


@command_for(ResizePicturesRequest)
@change_options
def resize(request: ResizePicturesRequest, yes: bool, as_json: bool, show_all: bool) -> None:
    carry_out(request, yes=yes, as_json=as_json, show_all=show_all)


@command_for(SplitRequest)
@change_options
def split(request: SplitRequest, yes: bool, as_json: bool, show_all: bool) -> None:
    carry_out(request, yes=yes, as_json=as_json, show_all=show_all)


@command_for(FlipRequest)
@change_options
def flip(request: FlipRequest, yes: bool, as_json: bool, show_all: bool) -> None:
    carry_out(request, yes=yes, as_json=as_json, show_all=show_all)


@command_for(ConvertPicturesRequest)
@change_options
def convert(request: ConvertPicturesRequest, yes: bool, as_json: bool, show_all: bool) -> None:
    carry_out(request, yes=yes, as_json=as_json, show_all=show_all)


@command_for(MasksRequest)
@change_options
def masks(request: MasksRequest, yes: bool, as_json: bool, show_all: bool) -> None:
    carry_out(request, yes=yes, as_json=as_json, show_all=show_all)
