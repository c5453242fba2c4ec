"""``lorasmith dataset tag``: captions by a model."""

from __future__ import annotations

from lorasmith.cli.dataset_changes import carry_out, change_options
from lorasmith.cli.options import command_for
from lorasmith.jobs.dataset.tagging import TagRequest


@command_for(TagRequest)
@change_options
def tag(request: TagRequest, **view: bool) -> None:
    carry_out(request, **view)
