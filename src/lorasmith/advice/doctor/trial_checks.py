"""Checks of what was tried: a training step in each precision, the VAE, 8-bit optimizers."""

from __future__ import annotations

from functools import partial

from lorasmith.advice.doctor.computer import Computer
from lorasmith.advice.doctor.finding import Check, Finding
from lorasmith.advice.doctor.python_checks import extra_line
from lorasmith.advice.doctor.torch_checks import torch_line, wanted_index

BITSANDBYTES = "bitsandbytes"
COMPUTED = ("fp32", "fp16", "bf16")
KEPT = ("fp8", "nf4")
# Between two measurements of one thing there is as much.
NOISE = 1.1


def _step(computer: Computer, name: str) -> Finding | None:
    """In a precision that is computed in (``train.precision``)."""
    trial, device = computer.trials.get(name), computer.device
    if trial is None or device is None:
        return None
    if trial.skipped:
        return Finding("not needed", trial.skipped)
    auto = 'train.precision = "auto"'
    if trial.problem or not trial.finite:
        what = trial.problem or "the loss of a LoRA on the demo model is NaN"
        taken = device.precision
        if name == "fp32":
            return Finding("broken", what, torch_line(computer, wanted_index(computer)))
        if name == taken:
            return Finding("broken", what, 'train.precision = "fp32"')
        return Finding("not there", f"{what}; auto takes {taken}", auto)
    if name == "fp32" or trial.ratio is None:
        return Finding("ok", "two steps of a LoRA on the demo model, finite")
    what = f"finite; a layer of SD 1.5's size takes {trial.ratio:.2g} times as long as in fp32"
    if trial.ratio > NOISE:
        return Finding("slow", what, auto if name != device.precision else _fp32(name))
    return Finding("ok", what)


def _fp32(name: str) -> str:
    return f'train.precision = "fp32"  # or {name}, to save memory'


def _kept(computer: Computer, name: str) -> Finding | None:
    """With frozen weights in fewer bits (``train.base_precision``)."""
    trial = computer.trials.get(name)
    if trial is None:
        return None
    if trial.skipped:
        return Finding("not there", trial.skipped, 'train.base_precision = "auto"')
    if trial.problem or not trial.finite:
        what = trial.problem or "the loss of a LoRA on the demo model is NaN"
        return Finding("not there", what, 'train.base_precision = "auto"')
    return Finding("ok", "two steps with weights kept so, finite")


def _vae(computer: Computer) -> Finding | None:
    trial = computer.trials.get("VAE")
    if trial is None:
        return None
    if trial.problem:
        return Finding("broken", trial.problem, torch_line(computer, wanted_index(computer)))
    if not trial.finite:
        what = "gives NaN in half precision; lorasmith keeps it in fp32 in any case"
        return Finding("not needed", what)
    return Finding("ok", "a picture there and back, finite in fp32 and in half precision")


def _bitsandbytes(computer: Computer) -> Finding | None:
    trial, device = computer.trials.get(BITSANDBYTES), computer.device
    if trial is None or trial.skipped:
        return None  # Whether it would be of use says the extra that it is of.
    if not trial.problem:
        return Finding("ok", f"{computer.version(BITSANDBYTES)} can be imported")
    pip = computer.python.pip
    what = f"{trial.problem}; diffusers imports it wherever it is installed"
    if not (computer.nvidia.sign or computer.amd) and (device is None or device.kind == "cpu"):
        yes = "" if pip.startswith("uv") else "-y "
        return Finding("broken", what, f"{pip} uninstall {yes}{BITSANDBYTES}")
    line = f"{pip} install --upgrade {BITSANDBYTES}  # or uninstall it: AdamW needs none"
    return Finding("broken", what, line)


def _eight_bit(computer: Computer) -> Finding | None:
    trial, device = computer.trials.get("8-bit optimizer"), computer.device
    if trial is None or device is None:
        return None
    pip = computer.python.pip
    if device.kind == "cpu":
        return Finding("not needed", "takes tens of times as long as AdamW on a CPU")
    imported = computer.trials.get(BITSANDBYTES)
    if imported is not None and imported.problem:
        return None  # Has been told.
    if trial.skipped:
        return Finding("not there", trial.skipped, extra_line(computer, "cuda"))
    if trial.problem:
        line = f'{pip} install --upgrade bitsandbytes  # or optimizer.name = "AdamW"'
        return Finding("broken", trial.problem, line)
    return Finding("ok", f"AdamW8bit steps (bitsandbytes {computer.version('bitsandbytes')})")


CHECKS = (
    *(Check(name, "A training step", partial(_step, name=name)) for name in COMPUTED),
    *(Check(f"weights in {name}", "A training step", partial(_kept, name=name)) for name in KEPT),
    Check("VAE", "A training step", _vae),
    Check(BITSANDBYTES, "A training step", _bitsandbytes),
    Check("8-bit optimizer", "A training step", _eight_bit),
)
