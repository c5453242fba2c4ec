"""``lorasmith presets``"""

from __future__ import annotations

import click

from lorasmith.config.preset import explained, preset_names, read_preset


@click.command("presets")
@click.argument("name", required=False)
def command(name: str | None) -> None:
    """List the presets, or show what is in one.

    A preset is a set of settings for a kind of subject: lorasmith train --preset NAME. What
    `lorasmith presets NAME` prints is a settings file, and a good start for one of your own.
    """
    if name is not None:
        click.echo(explained(read_preset(name)), nl=False)
        return
    names = preset_names()
    width = max(map(len, names))
    for each in names:
        click.echo(f"{click.style(each.ljust(width), bold=True)}  {read_preset(each).title}")
    click.echo("\nlorasmith train --preset NAME uses one; lorasmith presets NAME explains it.")
