"""``lorasmith convert-config``: settings of other trainers as a settings file."""

from __future__ import annotations

import os
from pathlib import Path

import click

from lorasmith.config.load import load_settings
from lorasmith.core.errors import Problem, SettingsError
from lorasmith.core.files import write_text
from lorasmith.core.terminal import echo
from lorasmith.importers.conversion import Conversion, to_toml
from lorasmith.importers.convert import convert_here, refuse_wrong
from lorasmith.importers.detect import read_file
from lorasmith.importers.sd_scripts.table import arguments_page

_REMOVE = "choose another name, remove it first, or add --overwrite"


def _show_arguments(ctx: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        echo(arguments_page(), end="")
        ctx.exit()


@click.command("convert-config")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="RUN.toml",
    help="File to write.  [default: print it]",
)
@click.option("--overwrite", is_flag=True, help="Replace the file of --out, if it exists.")
@click.option(
    "--partial", is_flag=True, help="Leave out what is refused; the file says what that was."
)
@click.option(
    "--arguments",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_arguments,
    help="Show what becomes of each of sd-scripts' arguments, and stop.",
)
def convert_config(file: Path, out: Path | None, overwrite: bool, partial: bool) -> None:
    """Convert another trainer's settings into a settings file for `lorasmith train`.

    FILE may be a script with a train_network.py command (.sh, .ps1, .bat, .cmd; it is read, never
    run), sd-scripts' TOML for --config_file or --dataset_config, a JSON that kohya_ss saved, TOML
    or JSON of LoRA_Easy_Training_Scripts, or a LoRA, whose metadata says how it was trained. Each
    line of the result says what it comes from. `lorasmith train FILE` does both at once.
    """
    result = convert_here(read_file(file), complete=False)
    exists = out is not None and os.path.exists(out) and not overwrite
    if exists:
        result.problems.append(Problem(str(out), "exists already", _REMOVE))
    if partial and not exists:
        _leave_out_invalid(result)
    else:
        refuse_wrong(result)
    load_settings(None, result.overrides())
    text = to_toml(result, f"Made from {file.name} by lorasmith convert-config.")
    if out is None:
        echo(text, end="")
        return
    write_text(out, text)
    echo(f"{out}: {len(result.settings)} settings; lorasmith train {out}")
    for problem in result.problems:
        echo(f"left out: {problem}")


def _leave_out_invalid(result: Conversion) -> None:
    """Settings that are refused by themselves, such as a rank that is out of range, go too."""
    try:
        load_settings(None, result.overrides())
    except SettingsError as error:
        wrong = {problem.where for problem in error.problems}
        for path, made in list(result.settings.items()):
            if {made.origin, path, f"{made.origin}: {path}"} & wrong:
                del result.settings[path]
        result.problems += [Problem(p.where, p.what, p.hint) for p in error.problems]
