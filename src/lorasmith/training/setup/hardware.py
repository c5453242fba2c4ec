"""Settings that this machine lacks: what stands in for each, and why, before a model is loaded.

Other people's settings come from other machines. A :class:`HardwareRule` says of one setting
whether this machine can do it; where not, it is replaced by what comes nearest, or refused where
there is no telling what was wanted.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lorasmith.config.kinds import kind_facts
from lorasmith.config.optimizers import optimizer_facts
from lorasmith.config.schema import TrainSettings, replace_settings, value_of
from lorasmith.core.errors import DOCTOR, Problem, SettingsError
from lorasmith.core.installation import package_line
from lorasmith.tensors.device import (
    LARGE_FOR_CPU,
    Machine,
    choose_device,
    describe_machine,
    missing_build,
)
from lorasmith.tensors.quantization import quantizes_on
from lorasmith.training.optim import FlatGroup, build_optimizer, find_optimizer

BITSANDBYTES = re.compile(r"(bitsandbytes\.\S+\.)?(Paged)?(?P<rule>[A-Za-z]+?)(8bit|32bit)?")

# Whose own arguments no other library takes.
OWN_ARGS = {"min_8bit_size", "is_paged", "optim_bits", "percentile_clipping", "block_wise"}

THIRTY_TWO_BIT = {
    "AdamW": "AdamW",
    "Lion": "Lion",
    "SGDNesterov": "SGDNesterov",
    "SGD": "SGDNesterov",
    "Adam": "torch.optim.Adam",
    "Adagrad": "torch.optim.Adagrad",
    "RMSprop": "torch.optim.RMSprop",
}
"""The optimizers of bitsandbytes without their number of bits, and the same ones elsewhere."""

# bitsandbytes keeps the state of smaller tensors in 32 bits, which works everywhere.
EIGHT_BIT_FROM = 4096

# Triton, which compiles for GPUs, begins with Volta.
COMPILED_FROM = (7, 0)

Changes = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class HardwareRule:
    """What one setting needs of the machine.

    Args:
        setting: which, "train.precision".
        unsupported: why this machine cannot do what is set; empty where it can. The reason follows
            the setting's value in a sentence: "fp16 …".
        replacement: values by setting that stand in, none where nothing can; without it what is
            set is kept, with a warning.
        hint: what the user can do about it.
    """

    setting: str
    unsupported: Callable[[TrainSettings, Machine], str]
    replacement: Callable[[TrainSettings, Machine], Changes] | None = None
    hint: str = ""


@dataclass(frozen=True, slots=True)
class AdaptedSettings:
    """Settings that this machine can do.

    Args:
        warnings: each change with its reason, and what was kept though it is doubtful.
        replaced: the settings that were changed.
    """

    settings: TrainSettings
    machine: Machine
    warnings: tuple[Problem, ...] = ()
    replaced: frozenset[str] = frozenset()


def adapt_to_hardware(settings: TrainSettings) -> AdaptedSettings:
    """The settings as this machine can do them.

    Raises:
        SettingsError: every setting that is refused, or the device is not there.
    """
    machine = describe_machine(_of_process(choose_device(settings.performance.device)))
    refused, warnings = [], []
    replaced: set[str] = set()
    for rule in RULES:
        reason = rule.unsupported(settings, machine)
        if not reason:
            continue
        what = f"{_value(settings, rule.setting)} {reason}"
        if rule.replacement is None:
            warnings.append(Problem(rule.setting, what, rule.hint))
            continue
        changes = rule.replacement(settings, machine)
        if not changes:
            refused.append(Problem(rule.setting, what, rule.hint))
            continue
        replaced |= changes.keys()
        settings = replace_settings(settings, changes)
        replacement = f"{_value(settings, rule.setting)} is taken instead"
        warnings.append(Problem(rule.setting, f"{what}; {replacement}"))
    if refused:
        raise SettingsError(refused)
    return AdaptedSettings(settings, machine, tuple(warnings), frozenset(replaced))


def _of_process(device: torch.device) -> torch.device:
    """Of several processes' devices this one's own, so that not all of them ask the first."""
    rank = os.environ.get("LOCAL_RANK")
    if rank is None or device.type == "cpu" or ":" in str(device):
        return device
    return torch.device(device.type, int(rank))


def _value(settings: TrainSettings, path: str) -> str:
    value = value_of(settings, path)
    return str(value).lower() if isinstance(value, bool) else str(value)


def slow_device(settings: TrainSettings, machine: Machine, denoiser_weights: int) -> list[Problem]:
    """A large model on a CPU that nobody asked for: hours are lost before one notices."""
    is_automatic = settings.performance.device.strip().lower() in ("auto", "gpu")
    if machine.kind != "cpu" or not is_automatic or denoiser_weights < LARGE_FOR_CPU:
        return []
    what = "no GPU was found: this trains on the CPU, tens of times slower"
    hint = missing_build() or "see that its driver works"
    return [Problem("performance.device", what, f"{hint}; {DOCTOR}")]


# Precision


def _fp16_on_cpu(s: TrainSettings, machine: Machine) -> str:
    if s.train.precision == "fp16" and machine.kind == "cpu":
        return "does not train on a CPU: it is slower than fp32 there and overflows"
    return ""


def _no_bf16(s: TrainSettings, machine: Machine) -> str:
    if s.train.precision != "bf16" or machine.bf16 or machine.kind == "cpu":
        return ""
    if machine.kind == "cuda":
        return f"needs an RTX 30 or newer; {machine.name} only imitates it, slowly"
    if machine.kind == "mps":
        return "needs macOS 14 or newer"
    return f"is nothing that {machine.name} computes in"


def _unscaled_fp16(s: TrainSettings, machine: Machine) -> str:
    if s.train.precision == "fp16" and not machine.scales_loss and machine.kind != "cpu":
        return f"needs its loss scaled, which PyTorch does in fp64, and {machine.name} has none"
    return ""


def _breaking_fp16(s: TrainSettings, machine: Machine) -> str:
    if s.train.precision == "fp16" and machine.fp16_breaks:
        return f"is known to give NaN on {machine.name}"
    return ""


def _doubtful_half(s: TrainSettings, machine: Machine) -> str:
    if s.train.precision == "fp16" and machine.kind == "mps":
        return "is little tried on Apple GPUs, and guides leave mixed precision off there"
    if s.train.precision == "bf16" and machine.kind == "cpu" and not machine.bf16:
        return "saves memory on this CPU, but is slower than fp32: it has no instructions for it"
    return ""


def _unscaled_gradients(s: TrainSettings, machine: Machine) -> str:
    if s.train.precision != "auto" or not kind_facts(s).one_pass(s):
        return ""
    if machine.kind in ("cpu", "mps") or machine.bf16 or machine.fp16_breaks:
        return ""
    if not machine.scales_loss:
        return ""
    return f"is fp16 on {machine.name}, whose overflows full.fused_backward cannot take back"


def _automatic(s: TrainSettings, machine: Machine) -> Changes:
    return {"train.precision": "auto"}


# Optimizer


def _pages(s: TrainSettings) -> bool:
    paged = s.optimizer.name.rpartition(".")[2].startswith("Paged")
    return paged or bool(s.optimizer.args.get("is_paged"))


def _no_pages(s: TrainSettings, machine: Machine) -> str:
    if not _pages(s) or machine.kind in ("cuda", "rocm"):
        return ""
    return "moves its state between a GPU's memory and the computer's: CUDA alone does that"


def _unpaged(s: TrainSettings, machine: Machine) -> Changes:
    module, dot, name = s.optimizer.name.rpartition(".")
    args = {key: value for key, value in s.optimizer.args.items() if key != "is_paged"}
    name = f"{module}{dot}{name.removeprefix('Paged')}"
    return {"optimizer.name": name, "optimizer.args": args}


def _no_eight_bit(s: TrainSettings, machine: Machine) -> str:
    if not optimizer_facts(s.optimizer.name).path.startswith("bitsandbytes."):
        return ""
    return eight_bit_fails(s.optimizer.name, s.optimizer.args, machine.device)


def eight_bit_fails(name: str, args: Mapping[str, Any], device: torch.device) -> str:
    """Why bitsandbytes' optimizer ``name`` does not step on ``device``; empty where it does.

    It supports more devices with each release, so it is asked by a step, not by its version.
    """
    try:
        find_optimizer(name)
    except SettingsError:
        mend = f"{package_line('bitsandbytes')}; {DOCTOR}"
        return f"needs bitsandbytes, which cannot be imported ({mend})"
    weight = nn.Parameter(torch.zeros(EIGHT_BIT_FROM, device=device))
    group = FlatGroup("trial", [weight], 1e-3)
    try:
        build_optimizer(name, [group], args).step()
    except SettingsError:
        return ""  # Its arguments are wrong, which others say.
    except (RuntimeError, AttributeError, TypeError, ValueError, OSError):
        what = f"has nothing in this version of bitsandbytes that runs on {device.type}"
        return f"{what} ({DOCTOR})"
    return ""


def _slow_eight_bit(s: TrainSettings, machine: Machine) -> str:
    if machine.kind != "cpu" or not optimizer_facts(s.optimizer.name).path.endswith("8bit"):
        return ""
    # Measured with bitsandbytes 0.50: 138 ms for 4 million weights, against 5 ms of AdamW.
    return "takes tens of times as long as its 32-bit form on a CPU, to save little memory there"


def _thirty_two_bit(s: TrainSettings, machine: Machine) -> Changes:
    match = BITSANDBYTES.fullmatch(s.optimizer.name)
    name = THIRTY_TWO_BIT.get(match["rule"]) if match else None
    if name is None:
        return {}
    args = {key: value for key, value in s.optimizer.args.items() if key not in OWN_ARGS}
    return {"optimizer.name": name, "optimizer.args": args}


# Speed


def _no_compiler(s: TrainSettings, machine: Machine) -> str:
    return compiler_problem(machine) if s.performance.compile else ""


def compiler_problem(machine: Machine) -> str:
    """Why PyTorch's compiler (``performance.compile``) is of no use there; empty where it is. The
    reason follows what is set in a sentence: "needs …"."""
    if machine.kind == "mps":
        return "is not to be relied on: PyTorch's compiler for Apple GPUs is unfinished"
    if machine.kind == "cpu":
        cxx = os.environ.get("CXX")
        compilers = [cxx] if cxx else ["cl"] if sys.platform == "win32" else ["c++", "g++"]
        has_compiler = any(shutil.which(compiler) for compiler in compilers)
        return "" if has_compiler else "needs a C++ compiler on CPUs, and none was found"
    if machine.capability is not None and machine.capability < COMPILED_FROM:
        least, actual = (".".join(map(str, pair)) for pair in (COMPILED_FROM, machine.capability))
        return f"needs a card of compute capability {least}, and {machine.name} has {actual}"
    if importlib.util.find_spec("triton") is None:
        return "needs the package triton, which is not installed"
    return ""


def _no_small_floats(s: TrainSettings, machine: Machine) -> str:
    if s.train.base_precision == "auto" or quantizes_on(machine.device):
        return ""
    return f"needs 8-bit floats, which PyTorch does not have on {machine.name}"


def _slow_dequantizing(s: TrainSettings, machine: Machine) -> str:
    if s.train.base_precision == "auto" or machine.kind != "cpu":
        return ""
    return "saves memory on a CPU, and takes much time to unpack each layer at each step"


def _nowhere_to_offload(s: TrainSettings, machine: Machine) -> str:
    if not s.performance.offload_blocks or machine.kind in ("cuda", "rocm", "xpu"):
        return ""
    return f"blocks have no other memory to be in than that of {machine.name}"


def _repeats_anyway(s: TrainSettings, machine: Machine) -> str:
    if s.performance.deterministic and machine.kind == "cpu":
        return "changes nothing on a CPU, which gives the same bits in any case"
    return ""


def _may_not_repeat(s: TrainSettings, machine: Machine) -> str:
    if s.performance.deterministic and machine.kind in ("xpu", "mps"):
        return f"is no promise on {machine.name}: PyTorch gives it for CPUs and CUDA alone"
    return ""


def _no_channels_last(s: TrainSettings, machine: Machine) -> str:
    if s.performance.channels_last is True and machine.kind == "mps":
        # pytorch/pytorch#193349: 30 times; #180984: results that were wrong.
        return "makes the backward pass of convolutions many times slower on Apple GPUs"
    return ""


RULES: tuple[HardwareRule, ...] = (
    HardwareRule("train.precision", _fp16_on_cpu, _automatic),
    HardwareRule("train.precision", _no_bf16, _automatic),
    HardwareRule("train.precision", _unscaled_fp16, _automatic),
    HardwareRule(
        "train.precision", _unscaled_gradients, lambda s, machine: {"train.precision": "fp32"}
    ),
    HardwareRule(
        "train.precision",
        _breaking_fp16,
        hint='use "auto", with train.gradient_checkpointing if memory runs out',
    ),
    HardwareRule("train.precision", _doubtful_half, hint='use "auto"'),
    HardwareRule("optimizer.name", _no_pages, _unpaged),
    HardwareRule("optimizer.name", _no_eight_bit, _thirty_two_bit, hint="choose AdamW"),
    HardwareRule("optimizer.name", _slow_eight_bit, hint="choose AdamW"),
    HardwareRule(
        "train.base_precision",
        _no_small_floats,
        lambda s, machine: {"train.base_precision": "auto"},
    ),
    HardwareRule("train.base_precision", _slow_dequantizing, hint='use "auto" if memory allows'),
    HardwareRule(
        "performance.offload_blocks",
        _nowhere_to_offload,
        lambda s, machine: {"performance.offload_blocks": 0},
    ),
    HardwareRule(
        "performance.compile", _no_compiler, lambda s, machine: {"performance.compile": False}
    ),
    HardwareRule("performance.deterministic", _repeats_anyway, hint="leave it out"),
    HardwareRule("performance.deterministic", _may_not_repeat, hint="leave it out"),
    HardwareRule(
        "performance.channels_last",
        _no_channels_last,
        lambda s, machine: {"performance.channels_last": False},
    ),
)
"""In the order in which they are applied: what one puts in, the next ones look at."""
