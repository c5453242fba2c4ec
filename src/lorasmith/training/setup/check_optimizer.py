"""Whether an optimizer can train an adapter, found out before anything is loaded."""

from __future__ import annotations

import inspect
import io
import pickle
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from lorasmith.config.optimizers import CATALOGUE, OPTIMIZERS, optimizer_facts
from lorasmith.core.errors import Problem, SettingsError
from lorasmith.core.text import did_you_mean
from lorasmith.training.optim import REFUSALS, FlatGroup, build_optimizer, find_optimizer

# What libraries raise that need more than parameters and gradients.
FAILURES = (*REFUSALS, LookupError, pickle.UnpicklingError)
# Enough for those that begin slowly, or do something every few steps.
TRIAL_STEPS = 12
# Trained by hand below: plain torch, so that they step on a CPU too.
TRIED = ("torch", CATALOGUE)


def check_optimizer(name: str, args: Mapping[str, Any]) -> None:
    """Make the optimizer for a few numbers, to see that it can be made with these arguments.

    One that is not in our table also takes a few steps, so that those which need more than
    gradients (a closure, the model itself), or cannot go on from a saved state, are found now.

    Raises:
        SettingsError: the library is missing, an argument is wrong, or it does not fit here.
    """
    facts = optimizer_facts(name)
    if facts.package == "torch" and name in OPTIMIZERS and not args:
        return  # Always there, and as it is tested; making one imports PyTorch's compiler.
    cls = find_optimizer(name)
    if facts.args is None:
        _check_names(name, cls, args)
    build_optimizer(name, [_numbers()], args)
    if name in OPTIMIZERS or name.partition(".")[0] not in TRIED:
        return
    failures: tuple[type[Exception], ...] = (*FAILURES, *_errors_of(CATALOGUE))
    try:
        resumes = _resumes(name, args)
    except pickle.UnpicklingError as error:
        raise _unfit(name, "its state cannot be saved as plain numbers") from error
    except failures as error:
        raise _unfit(name, str(error).partition("\n")[0]) from error
    if not resumes:
        raise _unfit(name, "it does not go on from a saved state as if it had not stopped")


def _unfit(name: str, reason: str) -> SettingsError:
    what = f"{name} cannot train an adapter here: {reason}"
    return SettingsError(Problem("optimizer.name", what, "choose another"))


def _errors_of(package: str) -> tuple[type[Exception], ...]:
    """The library's own errors, where they derive from none of the usual ones."""
    module = sys.modules.get(f"{package}.base.exception")
    members = vars(module).values() if module is not None else ()
    return tuple(item for item in members if isinstance(item, type) and issubclass(item, Exception))


def _numbers() -> FlatGroup:
    values = torch.linspace(-1, 1, 64).view(2, 32)
    return FlatGroup(
        "trial", [nn.Parameter(values[0].view(4, 8)), nn.Parameter(values[1].view(8, 4))], 1e-3
    )


def _resumes(name: str, args: Mapping[str, Any]) -> bool:
    """Whether a run broken in the middle ends with the same bits."""
    uninterrupted = _numbers()
    optimizer = build_optimizer(name, [uninterrupted], args)
    _steps(optimizer, uninterrupted, 0, TRIAL_STEPS // 2)
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    resumed = _numbers()
    resumed.flat.data.copy_(uninterrupted.flat.data)
    again = build_optimizer(name, [resumed], args)
    buffer.seek(0)
    again.load_state_dict(torch.load(buffer, weights_only=True))
    _steps(optimizer, uninterrupted, TRIAL_STEPS // 2, TRIAL_STEPS)
    _steps(again, resumed, TRIAL_STEPS // 2, TRIAL_STEPS)
    return torch.equal(uninterrupted.flat, resumed.flat)


def _steps(optimizer: torch.optim.Optimizer, group: FlatGroup, start: int, end: int) -> None:
    for step in range(start, end):
        group.grad.copy_(group.flat.detach().sub(0.3 + 0.01 * step))
        optimizer.step()


def _check_names(name: str, cls: Callable[..., Any], args: Mapping[str, Any]) -> None:
    parameters = inspect.signature(cls).parameters
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    names = [key for key in parameters if key not in ("params", "lr", "kwargs")]
    problems = []
    for key in args:
        near = did_you_mean(key, names)
        if key in names or (open_ended and key != "lr" and not near):
            continue
        hint = "set optimizer.lr" if key == "lr" else near or f"it takes {', '.join(names)}"
        problems.append(Problem("optimizer.args", f"{name} has no argument {key}", hint))
    if problems:
        raise SettingsError(problems)
