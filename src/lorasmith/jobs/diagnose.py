"""The request to say what is wrong with LoRAs."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from lorasmith.config.values import UserPath
from lorasmith.core.events import Controls, Observer
from lorasmith.jobs.request import JobRequest, option

if TYPE_CHECKING:
    from lorasmith.advice.diagnose.diagnosis import Diagnosis


class DiagnoseRequest(JobRequest):
    """Say what is wrong with a LoRA, why, and what to change.

    RUN is a run's folder, one of its snapshots, or a LoRA file alone; several are looked at one
    after the other. Measures the loss over strengths of UNet and text encoder, likeness, copies and
    leaks, what the base model sees in the pictures and in the LoRA's drawings, and weighs it with
    how the LoRA was trained. What is measured is kept, so that asking again costs nothing.
    """

    verb: ClassVar = "diagnose"

    paths: list[UserPath] = option(..., "Runs or LoRA files", metavar="RUN...", positional=True)
    model: str | None = option(
        None, "Base model", metavar="demo|PATH|HUB_ID", default_text="that of the run"
    )
    models: list[str] = option(
        [],
        "A further base model to try it on: what it gains there, and the strengths that it needs; "
        "may be repeated",
        metavar="PATH|HUB_ID",
    )
    data: UserPath | None = option(
        None,
        "The training pictures, for a file without a run or a run whose pictures have moved",
        metavar="DIR",
    )
    images: int = option(
        6,
        "Drawings of each kind; more are surer and take longer",
        flag="pictures",
        metavar="N",
        ge=2,
        le=64,
    )
    page: UserPath | None = option(
        None,
        "Write a page that compares them, with drawings: one file",
        flag="html",
        metavar="FILE.html",
    )
    minutes: float | None = option(
        None,
        "Begin no measure after so many minutes; what is left out is told",
        unit="minutes",
        metavar="N",
        gt=0,
        le=1e4,
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

    def run(self, observer: Observer, controls: Controls) -> list[Diagnosis]:
        from lorasmith.advice.diagnose.diagnose import diagnose

        return diagnose(**self.values(), observer=observer, controls=controls)
