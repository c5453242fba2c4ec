"""The request that makes a settings file of another trainer's settings."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lorasmith.config.load import load_settings
from lorasmith.config.values import UserPath
from lorasmith.core.errors import Problem, SettingsError
from lorasmith.core.events import Controls, Observer
from lorasmith.core.files import write_text
from lorasmith.jobs.request import JobRequest, option

if TYPE_CHECKING:
    from lorasmith.importers.conversion import Conversion

_REMOVE = "choose another name, remove it first, or add --overwrite"


@dataclass(frozen=True, slots=True)
class ImportReport:
    """
    Args:
        text: the settings file.
        conversion: what became of what; its problems were left out.
    """

    text: str
    conversion: Conversion


class ImportRequest(JobRequest):
    """Convert another trainer's settings into a settings file for `lorasmith train`.

    FILE may be a script with a train_network.py command (.sh, .ps1, .bat, .cmd; it is read, never
    run), sd-scripts' TOML for --config_file or --dataset_config, a JSON that kohya_ss saved, TOML
    or JSON of LoRA_Easy_Training_Scripts, or a LoRA, whose metadata says how it was trained. Each
    line of the result says what it comes from. `lorasmith train FILE` does both at once.
    """

    verb: ClassVar = "convert-config"

    file: UserPath = option(..., "The other trainer's file", metavar="FILE", positional=True)
    out: UserPath | None = option(
        None, "File to write", metavar="RUN.toml", default_text="print it"
    )
    overwrite: bool = option(False, "Replace the file of --out, if it exists")
    partial: bool = option(False, "Leave out what is refused; the file says what that was")

    def run(self, observer: Observer, controls: Controls) -> ImportReport:
        """
        Raises:
            SettingsError: with everything that is wrong or cannot be honoured.
        """
        from lorasmith.importers.conversion import to_toml
        from lorasmith.importers.convert import convert_here, refuse_wrong
        from lorasmith.importers.detect import read_file

        result = convert_here(read_file(self.file), complete=False)
        exists = self.out is not None and os.path.exists(self.out) and not self.overwrite
        if exists:
            result.problems.append(Problem(str(self.out), "exists already", _REMOVE))
        if self.partial and not exists:
            _leave_out_invalid(result)
        else:
            refuse_wrong(result)
        load_settings(None, result.overrides())
        text = to_toml(result, f"Made from {self.file.name} by lorasmith convert-config.")
        if self.out is not None:
            write_text(self.out, text)
        return ImportReport(text, result)


def _leave_out_invalid(result: Conversion) -> None:
    """Settings that are refused by themselves, such as a rank that is out of range, go too."""
    try:
        load_settings(None, result.overrides())
    except SettingsError as error:
        wrong = {problem.where for problem in error.problems}
        for path, derived in list(result.settings.items()):
            if {derived.origin, path, f"{derived.origin}: {path}"} & wrong:
                del result.settings[path]
        result.problems += [Problem(p.where, p.what, p.hint) for p in error.problems]
