"""Requests about training: is the computer ready, train, resume, say what would happen, pick a
snapshot."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from lorasmith.config.load import (
    LoadedSettings,
    Override,
    load_with_origins,
    parse_overrides,
)
from lorasmith.config.values import UserPath
from lorasmith.core.errors import Problem, SettingsError
from lorasmith.core.events import Controls, Observer, SettingsConverted
from lorasmith.jobs.request import JobRequest, option

if TYPE_CHECKING:
    from lorasmith.advice.doctor.finding import DoctorReport
    from lorasmith.advice.pick import Picked
    from lorasmith.importers.conversion import Conversion
    from lorasmith.training.lr_search import RateSearch
    from lorasmith.training.plan import Plan


class SettingsRequest(JobRequest):
    """What goes by the settings of a run that is not there yet."""

    config: UserPath | None = option(
        None,
        "The folder of training pictures, or a settings file",
        positional=True,
        metavar="[PICTURES|CONFIG]",
    )
    preset: str | None = option(
        None, "Start from a preset; see `lorasmith presets`", metavar="NAME"
    )
    settings: list[str | Override] = option(
        [],
        "Any setting, as in --set optimizer.lr=5e-5; may be repeated",
        flag="set",
        metavar="section.key=value",
    )
    arguments: list[str] | None = option(
        None,
        "In place of all others: the arguments of sd-scripts' train_network.py, which mean what "
        "they mean there, defaults too",
    )
    sdxl: bool = option(False, "The arguments are those of sdxl_train_network.py")

    def load(self, observer: Observer, *, for_training: bool = True) -> LoadedSettings:
        """
        Args:
            for_training: also require what every run needs, such as images.

        Raises:
            UserError: with everything that is wrong.
        """
        from lorasmith.importers.detect import is_lorasmiths

        if self.arguments is not None:
            return self._foreign_settings(self.arguments, observer)
        config, overrides = self.config, list(self.settings)
        if config is not None and os.path.isdir(config):
            overrides.append(Override("data.path", json.dumps(str(config)), "PICTURES"))
            config = None
        if config is not None and os.path.isfile(config) and not is_lorasmiths(config):
            overrides = [*_converted(config, overrides, observer), *overrides]
            config = None
        return load_with_origins(config, overrides, self.preset, for_training=for_training)

    def _foreign_settings(self, arguments: Sequence[str], observer: Observer) -> LoadedSettings:
        from lorasmith.importers.convert import convert_here, refuse_wrong
        from lorasmith.importers.sd_scripts.argv import read_argv

        if clashing := [n for n in ("config", "preset", "settings") if getattr(self, n)]:
            what = "cannot be given together with arguments of sd-scripts"
            raise SettingsError(Problem(name, what, "leave one of them out") for name in clashing)
        result = convert_here(read_argv(arguments, sdxl=self.sdxl))
        refuse_wrong(result)
        loaded = load_with_origins(None, result.overrides(), for_training=True)
        _tell(result, observer)
        return loaded


class TrainRequest(SettingsRequest):
    """Train a LoRA on a folder of pictures.

    PICTURES is their folder; whatever is not said is as it suits the base model and the pictures.
    Settings come from a preset, CONFIG and the options; later ones win. CONFIG is a settings file
    (TOML), or what `lorasmith convert-config` reads: a script, a file of sd-scripts or kohya_ss, a
    LoRA to train like. Everything is checked before a model is loaded. Ctrl-C stops after the step
    in progress, with everything saved; --resume goes on from there.
    """

    verb: ClassVar = "train"

    def run(self, observer: Observer, controls: Controls) -> Path:
        """The run's folder."""
        loaded = self.load(observer)
        # Not before a mistake is told: it imports diffusers and transformers, which takes seconds.
        from lorasmith.training.run import train

        return train(loaded.settings, origins=loaded.origins, observer=observer, controls=controls)


class PlanRequest(SettingsRequest):
    """Say what training would do and take, and what is wrong. Loads no model."""

    verb: ClassVar = "train --plan"

    def run(self, observer: Observer, controls: Controls) -> Plan:
        # By itself: what trains imports diffusers and transformers, which takes seconds.
        from lorasmith.training.plan import make_plan

        loaded = self.load(observer)
        return make_plan(
            loaded.settings, origins=loaded.origins, observer=observer, controls=controls
        )


class FindRateRequest(SettingsRequest):
    """Say which learning rate suits the pictures, and stop.

    Rates that are given only say how those of the parts are to be to each other.
    """

    verb: ClassVar = "train --find-lr"

    def run(self, observer: Observer, controls: Controls) -> RateSearch:
        # As in PlanRequest.
        from lorasmith.training.found_lr import find_lr

        return find_lr(self.load(observer).settings, observer=observer, controls=controls)


class ResumeRequest(JobRequest):
    """Go on with a run that was stopped."""

    verb: ClassVar = "train --resume"

    path: UserPath = option(..., "The run's folder", metavar="RUN", positional=True)
    settings: list[str | Override] = option([], "Settings to change", flag="set")

    def run(self, observer: Observer, controls: Controls) -> Path:
        """The run's folder."""
        from lorasmith.training.run import resume

        overrides, problems = parse_overrides(self.settings)
        if problems:
            raise SettingsError(problems)
        return resume(self.path, overrides, observer=observer, controls=controls)


class PickRequest(JobRequest):
    """Say which snapshot of the run in folder RUN to keep, and why.

    Measures each snapshot's loss on fixed noise at three strengths, whether its drawings are like
    the training pictures or copies of them, and whether prompts without the trigger change. What is
    measured is kept in RUN/pick, so that asking again costs nothing and new snapshots only add.
    """

    verb: ClassVar = "pick"

    path: UserPath = option(..., "The run's folder", metavar="RUN", positional=True)
    images: int = option(
        6,
        "Drawings of each kind for each snapshot; more are surer and take longer",
        flag="pictures",
        metavar="N",
        ge=2,
        le=64,
    )
    plain: list[str] = option(
        [],
        "A prompt that the LoRA should leave alone; may be repeated",
        metavar="PROMPT",
        default_text="captions without the trigger",
    )
    clip: UserPath | None = option(
        None,
        "Compare drawings by the CLIP image encoder in this folder",
        metavar="DIR",
        default_text="by the model",
    )
    precision: Literal["auto", "fp32", "fp16", "bf16"] = option(
        "auto", "Of the UNet and the text encoder; the VAE works in fp32"
    )
    device: str = option("auto", "Where to compute", metavar="auto|cpu|cuda|…")

    def run(self, observer: Observer, controls: Controls) -> Picked:
        from lorasmith.advice.pick import pick

        return pick(**self.values(), observer=observer, controls=controls)


def _converted(
    file: Path, overrides: Sequence[str | Override], observer: Observer
) -> list[Override]:
    """The settings that another trainer's file asks for; tells what became of each thing in it.

    Raises:
        UserError: with everything in it that is wrong or cannot be honoured.
    """
    from lorasmith.importers.convert import convert_here, refuse_wrong
    from lorasmith.importers.detect import read_file

    parsed, problems = parse_overrides(overrides)
    given = {override.path for override in parsed}
    result = convert_here(read_file(file), complete=False, given=given)
    result.problems += problems
    refuse_wrong(result)
    _tell(result, observer)
    return result.overrides()


def _tell(result: Conversion, observer: Observer) -> None:
    from lorasmith.importers.conversion import conversion_lines

    if os.environ.get("RANK", "0") == "0":  # One of several processes is enough to say it.
        observer(SettingsConverted([*conversion_lines(result), ""]))


class DoctorRequest(JobRequest):
    """Say whether this computer can make LoRAs, and what mends what is in the way.

    Looks at Python, packages, PyTorch beside the driver and the card, disks, memory and text, and
    tries a training step in each precision. Line by line: ok; slow, where it works at a cost;
    broken; not there, where something optional can be had; not needed. The line behind -> mends it.
    What is printed names no user and can be pasted into a report.

    Exit status: 0 where nothing is broken, else 2.
    """

    verb: ClassVar = "doctor"

    quick: bool = option(False, "Import no PyTorch and try nothing: a second, not twenty")
    device: str = option(
        "auto", "That training would take; as performance.device", metavar="auto|cpu|cuda|…"
    )
    output: UserPath = option(
        Path("runs"), "The folder of runs, whose disk is looked at", metavar="DIR"
    )

    def run(self, observer: Observer, controls: Controls) -> DoctorReport:
        from lorasmith.advice.doctor.doctor import doctor

        return doctor(**self.values(), observer=observer, controls=controls)
