"""The quickest settings that fit a device, by training's own memory plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from lorasmith.advice.advise.case import Case
from lorasmith.advice.advise.rules import Choice
from lorasmith.advice.advise.sources import MEMORY, PONY, TUTORIAL
from lorasmith.config.load import parse_value
from lorasmith.config.schema import TrainSettings, all_settings, replace_settings
from lorasmith.core.errors import SettingsError
from lorasmith.core.events import Controls
from lorasmith.core.text import bytes_text
from lorasmith.models.families.table import Architecture
from lorasmith.tensors.device import choose_device, choose_precision, device_name, free_memory
from lorasmith.tensors.files import PRECISIONS
from lorasmith.training.memory.estimates import MemoryEstimate
from lorasmith.training.memory.plan import MemoryPlan, channels_last, fits, plan_memory
from lorasmith.training.setup.preflight import RunPlan

# What the driver and a desktop leave of a card; docs/low-memory.md.
RESERVED = 500_000_000

# The guides' least for a training to stick, in steps; and batches that they take.
FEWEST_STEPS = 800
BATCHES = (4, 2)

# Of the base's side, where nothing else is left to change.
LOWER_SIDES = (0.75, 0.625, 0.5)
SAMPLE_SIDES = (0.75, 0.5)
# Of what it was: what stays above is weights, which no smaller samples lower.
SAVES_NOTHING = 0.99

TEXT_ENCODER = "adapter.text_encoder"

Replan = Callable[[TrainSettings], RunPlan]


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be trained on.

    Args:
        dtype: of the frozen weights there.
        why: of the dtype.
        free: bytes that a run can have, ``None`` where that cannot be told.
        here: it is a device of this machine.
    """

    device: torch.device
    name: str
    dtype: torch.dtype
    why: str
    free: int | None
    here: bool


def target_of(gpu: int | None, settings: TrainSettings, architecture: Architecture) -> Target:
    """
    Args:
        gpu: bytes of a card that need not be here; ``None`` is the device that training would take.
    """
    precision = settings.train.precision
    if gpu is not None:
        dtype = torch.bfloat16 if precision == "auto" else PRECISIONS[precision]
        why = "bf16 on RTX 30 and newer, otherwise fp16, which is as large"
        name = f"a GPU of {gpu / 1024**3:g} GB"
        return Target(torch.device("cuda"), name, dtype, why, max(0, gpu - RESERVED), here=False)
    device = choose_device(settings.performance.device)
    chosen = choose_precision(precision, device, architecture.denoiser_weights)
    why = f"{chosen.name}: {chosen.reason}"
    return Target(device, device_name(device), chosen.dtype, why, free_memory(device), here=True)


@dataclass(frozen=True)
class Fitted:
    """Settings that fit.

    Args:
        choices: what was changed for it, by setting.
        run_plan: of a run with them.
    """

    settings: TrainSettings
    run_plan: RunPlan
    memory: MemoryPlan
    choices: dict[str, Choice] = field(default_factory=dict)


def fit(
    case: Case, settings: TrainSettings, target: Target, replan: Replan, controls: Controls
) -> Fitted:
    """The quickest settings that fit: those that are there where they do; else what the memory
    plan says, in its order; else a lower resolution.

    Raises:
        SettingsError: nothing makes it fit.
        Stopped: by the controls.
    """
    fitted = _Fitting(case, target, replan, controls).run(settings)
    over = [one for one in fitted.memory.estimates if not fits(one.total, target.free)]
    if over:
        what = f"{over[0].what} takes {bytes_text(over[0].total)} with all that could be changed, "
        what += f"and {bytes_text(target.free or 0)} are free on {target.name}"
        raise SettingsError.of("gpu", what, "choose a smaller base model, or another machine")
    return fitted


class _Fitting:
    def __init__(self, case: Case, target: Target, replan: Replan, controls: Controls) -> None:
        self.case, self.target, self.replan = case, target, replan
        self.controls = controls

    def run(self, settings: TrainSettings) -> Fitted:
        fitted = self._planned(settings, self.replan(settings), {})
        if self._fits(fitted.memory.step):
            fitted = self._draws(fitted)
            return self._larger_batch(fitted)
        fitted = self._changed(fitted)
        native = self.case.base.architecture.native_resolution
        for share in LOWER_SIDES:
            if self._fits(fitted.memory.step):
                break
            side = self._side(native, share)
            reason = f"{native} does not fit {self._free}"
            choice = Choice("data.resolution", side, reason, PONY)
            fitted = self._with(fitted, choice, buckets=True)
        return self._draws(fitted) if self._fits(fitted.memory.step) else fitted

    def _planned(
        self,
        settings: TrainSettings,
        run_plan: RunPlan,
        choices: dict[str, Choice],
        checkpointed: int | None = None,
    ) -> Fitted:
        """
        Args:
            checkpointed: blocks that the step computes twice, where that is known.
        """
        self.controls.check()  # Each plan takes a second or more.
        # Intervals and the number of steps are worked out by then.
        worked_out = run_plan.settings
        if checkpointed is not None and worked_out.train.gradient_checkpointing == "auto":
            known = {"train.gradient_checkpointing": checkpointed or False}
            worked_out = replace_settings(worked_out, known)
        memory = plan_memory(
            worked_out,
            run_plan,
            self.target.dtype,
            self.target.device,
            channels_last=channels_last(worked_out, self.target.device),
            free=self.target.free,
        )
        if checkpointed is not None:
            memory = replace(memory, checkpointed=checkpointed)
        return Fitted(settings, run_plan, memory, choices)

    def _with(
        self, fitted: Fitted, *choices: Choice, buckets: bool = False, step: bool = True
    ) -> Fitted:
        """With changed settings.

        Args:
            buckets: whether images, captions or their batches are others.
            step: whether the training step is another.
        """
        values = {choice.setting: choice.value for choice in choices}
        settings = replace_settings(fitted.settings, values)
        if buckets:
            run_plan = self.replan(settings)
        else:
            worked_out = replace_settings(fitted.run_plan.settings, values)
            run_plan = replace(fitted.run_plan, settings=worked_out)
        named = {choice.setting: choice for choice in choices}
        checkpointed = None if step else fitted.memory.checkpointed
        return self._planned(settings, run_plan, fitted.choices | named, checkpointed)

    def _changed(self, fitted: Fitted) -> Fitted:
        """With what the memory plan says; without what turned out not to be needed for it."""
        choices = [
            Choice(
                advice.setting,
                _value(advice.setting, advice.value),
                f"saves {bytes_text(advice.saves)}, which {self._free} asks for",
                MEMORY,
            )
            for advice in fitted.memory.advice
        ]
        if not choices:
            return fitted
        batch = any(choice.setting == "train.batch" for choice in choices)
        changed = self._with(fitted, *choices, buckets=batch)
        others = [choice for choice in choices if choice.setting != TEXT_ENCODER]
        if others and len(others) < len(choices) and self._fits(changed.memory.step):
            # The plan names it before larger savings that would have done alone.
            trained = self._with(fitted, *others, buckets=batch)
            if self._all_fit(trained):
                return trained
        return changed

    def _draws(self, fitted: Fitted) -> Fitted:
        """With samples that fit: smaller ones; of captions that stay as they are, so that no text
        encoder is needed for the steps; or none."""
        if self._all_fit(fitted):
            return fitted
        starts = [fitted]
        if not fitted.settings.adapter.text_encoder and fitted.settings.captions.shuffle:
            starts.append(fitted)
        native = self.case.base.architecture.native_resolution
        for number, start in enumerate(starts):
            if number:
                reason = f"lets the text encoders leave {self.target.name}, for samples to be drawn"
                choices = [Choice("captions.shuffle", False, reason, MEMORY)]
                choices.append(Choice("captions.keep_tokens", 0, "nothing is shuffled", MEMORY))
                start = self._with(start, *choices, buckets=True)
                if self._all_fit(start):
                    return start
            for share in SAMPLE_SIDES:
                side = self._side(native, share)
                reason = f"larger samples do not fit {self._free}"
                smaller = self._with(start, Choice("sample.size", side, reason, MEMORY), step=False)
                if self._all_fit(smaller):
                    return smaller
                if smaller.memory.peak.total > SAVES_NOTHING * start.memory.peak.total:
                    break
        reason = f"drawing does not fit {self._free}"
        values = {"sample.every_epochs": None, "sample.every_steps": None, "sample.at_start": False}
        off = [Choice(setting, value, reason, MEMORY) for setting, value in values.items()]
        return self._with(fitted, *off, step=False)

    def _all_fit(self, fitted: Fitted) -> bool:
        return all(self._fits(one) for one in fitted.memory.estimates)

    def _larger_batch(self, fitted: Fitted) -> Fitted:
        """With a batch at which the run is still long enough and nothing is computed twice."""
        if self.case.base.speaks or self.target.device.type == "cpu" or fitted.choices:
            return fitted
        for batch in BATCHES:
            # Without the images: twice the batch takes half the steps.
            if fitted.run_plan.steps * fitted.settings.train.batch < FEWEST_STEPS * batch:
                continue
            settings = replace_settings(fitted.settings, {"train.batch": batch})
            run_plan = self.replan(settings)
            if run_plan.steps < FEWEST_STEPS:
                continue
            reason = f"quicker than one by one, and leaves {run_plan.steps} steps; it fits"
            choice = Choice("train.batch", batch, reason, TUTORIAL)
            larger = self._planned(settings, run_plan, {**fitted.choices, "train.batch": choice})
            if self._all_fit(larger) and not larger.memory.checkpointed:
                return larger
        return fitted

    def _fits(self, estimate: MemoryEstimate) -> bool:
        return fits(estimate.total, self.target.free)

    @property
    def _free(self) -> str:
        return f"the {bytes_text(self.target.free or 0)} of {self.target.name}"

    def _side(self, native: int, share: float) -> int:
        multiple = self.case.base.architecture.size_multiple
        return max(multiple, round(native * share / multiple) * multiple)


def _value(setting: str, text: str) -> Any:
    """A value as the memory plan writes it."""
    return parse_value(text, all_settings()[setting])
