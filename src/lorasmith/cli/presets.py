"""``lorasmith presets``"""

from __future__ import annotations

import click

from lorasmith.config.presets import explained, preset_names, read_preset
from lorasmith.core.terminal import echo, echo_styled


@click.command("presets")
@click.argument("name", required=False)
def presets(name: str | None) -> None:
    """List the presets, or show what is in one.

    A preset is a set of settings for a kind of subject: lorasmith train --preset NAME. What
    `lorasmith presets NAME` prints is a settings file, and a good start for one of your own.
    """
    if name is not None:
        echo(explained(read_preset(name)), end="")
        return
    names = preset_names()
    width = max(map(len, names))
    for each in names:
        echo_styled(f"{click.style(each.ljust(width), bold=True)}  {read_preset(each).title}")
    echo("\nlorasmith train --preset NAME uses one; lorasmith presets NAME explains it.")
