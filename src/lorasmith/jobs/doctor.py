"""The request to say whether this computer can make LoRAs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from lorasmith.config.values import UserPath
from lorasmith.core.events import Controls, Observer
from lorasmith.jobs.request import JobRequest, option

if TYPE_CHECKING:
    from lorasmith.advice.doctor.finding import DoctorReport


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
