"""``lorasmith studio``"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from lorasmith.core.terminal import echo

_FOLDER = click.Path(path_type=Path)


@click.command("studio")
@click.argument("folder", type=_FOLDER, default=Path())
@click.option(
    "--host",
    default="",
    metavar="ADDRESS",
    help="Address of this computer at which others may come, too, with a token that is shown once. "
    "Safer from elsewhere: ssh -L 7421:localhost:7421.  [default: this computer alone]",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help="Port of the address.  [default: the first free one from 7421 on]",
)
@click.option(
    "--allow",
    "allowed",
    type=_FOLDER,
    multiple=True,
    metavar="DIR",
    help="Another folder that may be opened and changed, besides FOLDER; may be given again.",
)
@click.option(
    "--no-browser",
    is_flag=True,
    help="Open no browser. Without a display, and over ssh, none is opened in any case.",
)
def studio(
    folder: Path, host: str, port: int | None, allowed: tuple[Path, ...], no_browser: bool
) -> None:
    """Open the studio: datasets, trainings and their pictures in a browser.

    FOLDER is the workspace: projects are folders in it. Without one it is the current folder.
    """
    import webbrowser

    from lorasmith.core.files import user_path
    from lorasmith.studio.serve import serve

    serve(
        user_path(folder),
        host=host,
        port=port or 0,
        allowed=[user_path(path) for path in allowed],
        say=echo,
        browse=None if no_browser or not _has_display() else webbrowser.open,
    )


def _has_display() -> bool:
    """Whether a browser would open before the user's eyes, and not as text in the terminal."""
    if os.environ.get("SSH_CONNECTION"):
        return False
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
