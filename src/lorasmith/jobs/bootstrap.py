"""The request for a LoRA from one image or a few, by rounds of training, drawing and choosing."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from lorasmith.advice.bootstrap.state import MOST_DRAWINGS, OUT, ROUND_LENGTH, Options
from lorasmith.config.values import UserPath
from lorasmith.core.events import Controls, Observer
from lorasmith.jobs.request import JobRequest, option

if TYPE_CHECKING:
    from lorasmith.advice.bootstrap.bootstrap import Bootstrapped

_USUAL = Options("")


class BootstrapRequest(JobRequest):
    """Make a LoRA of a subject of which there is one picture, or a few.

    Rounds of: a short training on the set of now; drawings with varied captions at mild guidance;
    a page to choose by, or --choose auto, which goes by likeness to the given pictures, by
    differences from each other and by defects. What is kept joins the set at a lower weight. Kept
    pictures that the LoRA repeats are taken out again. It ends when likeness no longer rises, with
    a training of the usual length on the set. DIR then holds an ordinary dataset and ordinary runs.

    Without --choose auto it ends after each round's drawings, and --continue DIR --keep 1,4,7 goes
    on. Ctrl-C loses nothing: --continue DIR goes on there, too.
    """

    verb: ClassVar = "bootstrap"
    other_names: ClassVar = {
        "wildcards": "wildcard_dir",
        "model.path": "model",
        "train.precision": "precision",
        "performance.device": "device",
        "captions.trigger": "trigger",
        "width": "size",
        "height": "size",
    }

    images: list[UserPath] = option(
        [],
        "The pictures, or folders of them; captions lie beside them",
        metavar="[IMAGE...]",
        positional=True,
    )
    trigger: str | None = option(None, "The word that is to call the subject", metavar="WORD")
    model: str | None = option(
        None, "Base model", metavar="demo|PATH|HUB_ID", default_text=_USUAL.model
    )
    caption: str | None = option(
        None,
        "What of a picture is not the subject (pose, background), where no caption file says it",
        metavar="TEXT",
    )
    out: UserPath | None = option(
        None, "Folder for everything", metavar="DIR", default_text=f"{OUT}/WORD"
    )
    go_on: UserPath | None = option(
        None,
        "Go on with the bootstrap in this folder, with what is kept by --keep or its choice.json",
        flag="continue",
        metavar="DIR",
    )
    keep: str | None = option(
        None, "Drawings to keep, as 1,4,7 or 1-5; none keeps none", metavar="NUMBERS"
    )
    finish: bool = option(False, "No more rounds: train on the set as it then is")
    wait: bool = option(False, "Wait for a round's choice.json in place of ending")
    choose: Literal["ask", "auto"] | None = option(
        None, "Who chooses", default_text=f"{_USUAL.choose}"
    )
    rounds: int | None = option(
        None, "Rounds at most", metavar="N", ge=1, le=50, default_text=f"{_USUAL.rounds}"
    )
    drawings: int | None = option(
        None,
        "Drawings of each round",
        metavar="N",
        ge=2,
        le=MOST_DRAWINGS,
        default_text=f"{_USUAL.drawings}",
    )
    keep_most: int | None = option(
        None,
        "Drawings that auto keeps of a round, at most",
        metavar="N",
        ge=1,
        le=MOST_DRAWINGS,
        default_text=f"{_USUAL.keep_most}",
    )
    weight: float | None = option(
        None,
        "How often a drawing is shown in training beside a given picture",
        metavar="X",
        ge=0.01,
        le=1,
        default_text=f"{_USUAL.weight}",
    )
    redraw: int | None = option(
        None,
        "Drawings of each later round that begin with kept ones (img2img): better ones take their "
        "places",
        metavar="N",
        ge=0,
        le=MOST_DRAWINGS,
        default_text=f"{_USUAL.redraw}",
    )
    denoise: float | None = option(
        None,
        "How much of these is drawn anew",
        metavar="X",
        gt=0,
        le=1,
        default_text=f"{_USUAL.denoise}",
    )
    round_length: float | None = option(
        None,
        "Length of a round's training, as a share of a usual one, which is never less than the "
        "base's least; or of the steps that --set train.steps says",
        metavar="X",
        gt=0,
        le=2,
        default_text=f"{ROUND_LENGTH}; 1 with --set train.steps",
    )
    prompts: UserPath | None = option(
        None,
        "Prompts to draw, one a line; the trigger is put in front where it is missing",
        metavar="FILE",
        default_text="views, poses and backgrounds; or the base's own words",
    )
    wildcard_dir: UserPath | None = option(
        None, "Folder with the lists that __NAME__ in prompts draws from", metavar="DIR"
    )
    models: list[str] = option(
        [],
        "A further base model of the same family that draws from round 2 on; may be repeated",
        metavar="PATH|HUB_ID",
    )
    style_lora: list[str] = option(
        [],
        "A LoRA for some of the drawings from round 2 on; may be repeated",
        metavar="FILE[:STRENGTH]",
    )
    cfg: float | None = option(
        None,
        "Guidance of the drawings; with more than 7 their contrast is learned, too",
        metavar="X",
        default_text="as the model's file says, else 6",
        ge=1,
        le=50,
    )
    steps: int | None = option(
        None, "Sampling steps", metavar="N", default_text="as the model's file says, else 20", ge=1
    )
    sampler: str | None = option(
        None, 'As the web UI calls it: "Euler a"', metavar="NAME", default_text="ddim"
    )
    negative: str | None = option(None, "What the drawings should not be", metavar="TEXT")
    size: str | None = option(
        None,
        "Size of the drawings in pixels, as 512x768",
        metavar="WxH",
        default_text="the model's own",
    )
    preset: str | None = option(
        None, "Preset of the trainings; see `lorasmith presets`", metavar="NAME"
    )
    settings: list[str] = option(
        [],
        "Any setting of the trainings, as in --set adapter.rank=8; may be repeated",
        flag="set",
        metavar="section.key=value",
    )
    seed: int | None = option(
        None, "Of everything", metavar="N", ge=0, le=2**31, default_text=f"{_USUAL.seed}"
    )
    precision: Literal["auto", "fp32", "fp16", "bf16"] | None = option(
        None,
        "Of the UNet and the text encoder; the VAE works in fp32",
        default_text=_USUAL.precision,
    )
    device: str | None = option(
        None, "Where to compute", metavar="auto|cpu|cuda|…", default_text=_USUAL.device
    )

    dry_run: bool = option(False, "Check everything and say what would be done; write nothing")

    def run(self, observer: Observer, controls: Controls) -> Bootstrapped:
        """
        Raises:
            UserError: with everything that is wrong, before a model is loaded.
            Stopped: what was done is kept.
        """
        from lorasmith.advice.bootstrap.bootstrap import bootstrap

        return bootstrap(**self.values(), observer=observer, controls=controls)
