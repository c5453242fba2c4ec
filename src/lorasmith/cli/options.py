"""A command's options, made from the request of its verb, and the way from one to the other."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from lorasmith.config.fields import Setting, settings_of
from lorasmith.core.errors import UserError
from lorasmith.core.events import Controls
from lorasmith.jobs.request import JobRequest, Runnable, option_name, run, shown_as

Result = TypeVar("Result")
R = TypeVar("R", bound=JobRequest)


def command_for(
    request: type[R], kind: type[click.Command] = click.Command
) -> Callable[[Callable[..., None]], click.Command]:
    """Makes a command of a function ``view(request, **own)``: the request's options, then those
    of the function itself (``click.option`` below this decorator)."""

    def decorate(view: Callable[..., None]) -> click.Command:
        own = list(reversed(getattr(view, "__click_params__", [])))

        def callback(**values: Any) -> None:
            source = click.get_current_context().get_parameter_source
            values_of_fields = {name: values.pop(name) for name in request.model_fields}
            default = click.core.ParameterSource.DEFAULT
            given = {
                name: value
                for name, value in values_of_fields.items()
                if source(name) is not default
            }
            with naming_options(request):
                view(request.read(given), **values)

        return kind(
            request.verb.split()[-1],
            params=[*parameters(request), *own],
            callback=callback,
            help=view.__doc__ or request.__doc__,
        )

    return decorate


def parameters(request: type[JobRequest]) -> list[click.Parameter]:
    """click's, in the order of the fields."""
    return [_parameter(request, item) for item in settings_of(request)]


@contextlib.contextmanager
def naming_options(request: type[JobRequest]) -> Iterator[None]:
    """Within the block, problems with the request's fields are told under the options' names."""
    names = {field: option_name(request, field) for field in request.model_fields}
    other_names = request.other_names.items()
    names |= {other: names[field] for other, field in other_names if field in names}
    try:
        yield
    except UserError as error:
        problems = [
            replace(problem, where=names.get(problem.where, problem.where))
            for problem in error.problems
        ]
        raise type(error)(dict.fromkeys(problems)) from error.__cause__


def run_shown(request: Runnable[Result], *, to_stderr: bool = False) -> Result:
    """Carry out a request with a progress bar; Ctrl-C asks it to stop.

    Args:
        to_stderr: leave the standard output to what the command prints, such as JSON.
    """
    from lorasmith.cli.console import console
    from lorasmith.cli.signals import stop_on_interrupt
    from lorasmith.core.progress import TextConsole
    from lorasmith.core.terminal_view import Terminal

    controls = Controls()
    terminal = Terminal(TextConsole(stderr=True) if to_stderr else console)
    with contextlib.closing(terminal), stop_on_interrupt(controls):
        return run(request, terminal, controls)


class _Choice(click.Choice[str]):
    """Shown as a choice, and checked with all else by the request."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        return value


def _parameter(request: type[JobRequest], item: Setting) -> click.Parameter:
    shown = shown_as(request, item.name)
    kind: click.ParamType[Any] = click.STRING
    if Path in item.types:
        kind = click.Path(path_type=Path)
    metavar = shown["metavar"] or None
    if shown["positional"]:
        count = -1 if item.is_list else 1
        return click.Argument(
            [item.name], type=kind, required=item.required, metavar=metavar, nargs=count
        )
    flag = option_name(request, item.name)
    text = f"{item.description}."
    if item.types == (bool,):
        return click.Option([flag, item.name], is_flag=True, flag_value=not item.default, help=text)
    if item.choices:
        kind = _Choice(item.choices)
    default = shown["default_text"] or _default(item)
    return click.Option(
        [flag, item.name],
        type=kind,
        multiple=item.is_list,
        required=item.required,
        metavar=metavar,
        help=f"{text}  [default: {default}]" if default else text,
    )


def _default(item: Setting) -> str:
    return "" if item.required or item.default in (None, "", []) else str(item.default)
