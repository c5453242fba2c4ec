"""``lorasmith train``"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from lorasmith.cli.options import run_shown
from lorasmith.cli.signals import heed_signals
from lorasmith.config.dump import toml_value
from lorasmith.config.fields import NONE, Setting
from lorasmith.config.load import Override
from lorasmith.config.messages import suggestion
from lorasmith.config.schema import SHORT_OPTIONS, all_settings
from lorasmith.core.events import Controls
from lorasmith.core.terminal import echo, echo_json
from lorasmith.core.terminal_view import Terminal
from lorasmith.jobs.request import run
from lorasmith.jobs.training import FindRateRequest, PlanRequest, ResumeRequest, TrainRequest


class TrainCommand(click.Command):
    """Keeps the options that are made from the settings out of the short help."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            section, _, name = error.option_name.lstrip("-").replace("-", "_").rpartition(".")
            paths = [path for path, item in all_settings().items() if item.name == name]
            hint = suggestion(section, name)
            if not section and paths:
                hint = f"write {' or '.join(f'--{path}' for path in paths)}"
            raise click.UsageError(f"No such option {error.option_name!r}: {hint}.", ctx) from None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        if ctx.meta.get("lorasmith.help_all"):
            for section, settings in _by_section().items():
                with formatter.section(f"[{section}]"):
                    formatter.write_dl([(_usage(item), _help(item)) for item in settings])


def _by_section() -> dict[str, list[Setting]]:
    sections: dict[str, list[Setting]] = {}
    for item in _settable():
        sections.setdefault(item.section, []).append(item)
    return sections


def _settable() -> list[Setting]:
    """The settings that fit on a command line: all but lists of tables."""
    return [item for item in all_settings().values() if item.path != "data.folders"]


def _usage(item: Setting) -> str:
    return f"--{item.path} {'|'.join(item.choices) if item.is_text else ''}".strip()


def _help(item: Setting) -> str:
    value = "" if item.is_text else f" ({f'{item.kind} {item.range}'.strip()})"
    default = NONE if item.default is None else toml_value(item.default)
    return f"{item.description}{value}  [default {default}: {item.why}]"


def _setting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--section.key VALUE`` for each setting."""
    for item in reversed(_settable()):
        names = [f"--{item.path}", *SECOND_NAMES.get(item.path, ())]
        option = click.option(*names, _parameter(item.path), metavar="VALUE", hidden=True)
        command = option(command)
    return command


SECOND_NAMES = {"full.extract_rank": ("--extract-rank",)}
"""What settings are called besides, where ``lorasmith extract`` has a name for the same."""


def _parameter(path: str) -> str:
    return "setting_" + path.replace(".", "__")


def _show_all_help(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        ctx.meta["lorasmith.help_all"] = True
        echo(ctx.get_help())
        ctx.exit()


@click.command("train", cls=TrainCommand, help=TrainRequest.__doc__)
@click.argument(
    "config", required=False, type=click.Path(path_type=Path), metavar="[PICTURES|CONFIG]"
)
@click.option("--model", metavar="demo|PATH|HUB_ID", help="Base model.  [default: demo]")
@click.option("--data", metavar="DIR", help="Folder of training pictures.")
@click.option("--reg", metavar="DIR", help="Folder of regularisation pictures.")
@click.option("--output", metavar="DIR", help="Folder for the run's folder.  [default: runs]")
@click.option("--name", metavar="NAME", help="Name of the LoRA.  [default: the data folder's]")
@click.option(
    "--trigger",
    metavar="WORD",
    help="The word that shall call the LoRA up.  [default: the first tag that all captions share, "
    "else the folder's name]",
)
@click.option(
    "--epochs", metavar="N", help="Times through all pictures.  [default: as many as they need]"
)
@click.option("--preset", metavar="NAME", help="Start from a preset; see `lorasmith presets`.")
@click.option(
    "--set",
    "assignments",
    metavar="section.key=value",
    multiple=True,
    help="Any setting, as in --set optimizer.lr=5e-5; may be repeated.",
)
@click.option(
    "--resume",
    metavar="RUN",
    type=click.Path(path_type=Path),
    help="Go on with a run that was stopped: its folder.",
)
@click.option("--plan", is_flag=True, help="Show what would happen, and stop. Loads no model.")
@click.option("--json", "as_json", is_flag=True, help="With --plan: print the plan as JSON.")
@click.option(
    "--find-lr",
    is_flag=True,
    help="Look for a learning rate on the pictures, propose it, and stop.",
)
@click.option(
    "--help-all",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_all_help,
    help="Show every setting as an option, --section.key VALUE.",
)
@_setting_options
def train(*, as_json: bool, **options: Any) -> None:
    if as_json and not options["plan"]:
        raise click.UsageError("--json is of --plan; add that, or leave --json out.")
    request = request_of(**options)
    if isinstance(request, PlanRequest) and as_json:
        from lorasmith.jobs.plan import plan_record

        echo_json(plan_record(run_shown(request, to_stderr=True)).model_dump(mode="json"))
    else:
        start(request)


def request_of(
    config: Path | None,
    preset: str | None,
    assignments: tuple[str, ...],
    resume: Path | None,
    plan: bool,
    find_lr: bool,
    **options: str | None,
) -> TrainRequest | PlanRequest | FindRateRequest | ResumeRequest:
    """What the options of the command ask for.

    Raises:
        UsageError: they contradict each other.
    """
    settings: list[str | Override] = [*assignments, *_overrides(options)]
    if plan and find_lr:
        raise click.UsageError("--plan loads no model, and --find-lr needs it; leave one out.")
    if resume is None:
        request = PlanRequest if plan else FindRateRequest if find_lr else TrainRequest
        return request(config=config, preset=preset, settings=settings)
    others = {"CONFIG": config, "--preset": preset, "--plan": plan, "--find-lr": find_lr}
    clashing = [name for name, value in others.items() if value]
    if clashing:
        names = " and ".join(clashing)
        raise click.UsageError(f"--resume uses the run's own settings; leave {names} out.")
    return ResumeRequest(path=resume, settings=settings)


def _overrides(options: dict[str, str | None]) -> list[Override]:
    """The given options as settings, under the option's own name."""
    paths = {**SHORT_OPTIONS, **{_parameter(item.path): item.path for item in _settable()}}
    return [
        Override(paths[name], text, f"--{name if name in SHORT_OPTIONS else paths[name]}")
        for name, text in options.items()
        if text is not None
    ]


def start(request: TrainRequest | PlanRequest | FindRateRequest | ResumeRequest) -> None:
    """Train, resume, propose a rate or show what would happen; for every command that trains."""
    from lorasmith.cli.console import console

    controls = Controls()
    if isinstance(request, PlanRequest):
        from lorasmith.training.plan import show_plan

        with contextlib.closing(Terminal(console)) as terminal:
            show_plan(run(request, terminal, controls), console)
        return
    from lorasmith.training.found_lr import rate_lines, use_lines
    from lorasmith.training.monitoring.observers import TrainingTerminal

    with heed_signals(controls), contextlib.closing(TrainingTerminal(console)) as terminal:
        if isinstance(request, FindRateRequest):
            search = run(request, terminal, controls)
            terminal.close()
            for line in [*rate_lines(search), "", *use_lines(search)]:
                echo(line)
        else:
            run(request, terminal, controls)
