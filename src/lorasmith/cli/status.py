"""``lorasmith status``: what it prints."""

from __future__ import annotations

from collections.abc import Iterator

import click

from lorasmith.cli.options import command_for, run_shown
from lorasmith.core.terminal import clean, echo_json, echo_styled
from lorasmith.jobs.workspace.status import ProjectStatus, StatusRequest, Step

_STATES = {
    "done": ("done", "green"),
    "open": ("to do", None),
    "busy": ("at work", "cyan"),
    "trouble": ("trouble", "red"),
}


@command_for(StatusRequest)
@click.option("--json", "as_json", is_flag=True, help="Print all of it, as JSON.")
def status(request: StatusRequest, as_json: bool) -> None:
    found = run_shown(request, to_stderr=True)
    if as_json:
        echo_json(found.model_dump())
    else:
        echo_styled("\n".join(_lines(found)))


def _lines(found: ProjectStatus) -> Iterator[str]:
    yield click.style(clean(found.name, lines=False), bold=True)
    for step in found.steps:
        word, colour = _STATES[step.state]
        text = clean(step.text, lines=False)
        yield f"  {click.style(f'{word:8}', fg=colour)} {step.name:9} {text}".rstrip()
    following = next((step for step in found.steps if step.name == found.next), None)
    if following is None:
        yield "Nothing is missing."
    else:
        yield f"Next: {_what_to_do(following, found)}"


def _what_to_do(step: Step, found: ProjectStatus) -> str:
    if step.name == "images":
        return f"put pictures into {clean(found.dataset, lines=False)}"
    if not step.command:
        return step.name
    return click.style(clean(step.command, lines=False), fg="cyan")
