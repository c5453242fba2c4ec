"""``lorasmith presets``"""

from __future__ import annotations

import textwrap

import click

from lorasmith.config.preset import FOLDER, preset_names, read_preset


@click.command("presets")
@click.argument("name", required=False)
def command(name: str | None) -> None:
    """List the presets, or show what is in one.

    A preset is a set of settings for a kind of subject: lorasmith train --preset NAME. What
    `lorasmith presets NAME` prints is a settings file, and a good start for one of your own.
    """
    if name is not None:
        read_preset(name)
        click.echo((FOLDER / f"{name}.toml").read_text(encoding="utf-8"), nl=False)
        return
    for each in preset_names():
        preset = read_preset(each)
        click.echo(click.style(f"{each}", bold=True) + f"  {preset.title}")
        click.echo(textwrap.indent(textwrap.fill(preset.explains.strip(), 90), "    ") + "\n")
    click.echo("lorasmith train --preset NAME uses one; lorasmith presets NAME shows its settings.")
