"""The request for images, of prompts, of a dataset's captions or as another image was made."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from lorasmith.config.values import UserPath
from lorasmith.core.errors import Problem, UserError, collect_problems
from lorasmith.core.events import Controls, Notice, Observer
from lorasmith.core.files import check_writable
from lorasmith.jobs.drawing import GenerateReport, Work, draw, warn_of_trigger
from lorasmith.jobs.images import ImageJob, choose_place, say_unused, suited_to
from lorasmith.jobs.request import option

if TYPE_CHECKING:
    from lorasmith.models.reference import ModelReference
    from lorasmith.sampling.from_dataset import Drawing
    from lorasmith.sampling.from_infotext import InfotextRequest
    from lorasmith.sampling.request import ImageRequest, Inpaint
    from lorasmith.sampling.sources import Sources

MAX_COUNT = 10_000
# Names that say that no other VAE was used.
_NO_VAE = ("", "None", "Automatic")
_FIELDS = (
    "prompt", "negative", "seed", "steps", "cfg", "cfg_rescale", "sampler", "schedule", "eta",
    "init", "denoise",
)  # fmt: skip


class GenerateRequest(ImageJob):
    """Draw pictures of PROMPT, with LoRAs named in it.

    PROMPT is written as in the Stable Diffusion web UI: <lora:NAME:0.8> adds a LoRA, (word:1.2)
    and [word] weigh words, BREAK begins a new chunk. Each PNG carries what made it, and
    --from-png makes it again; options given beside it win.
    """

    verb: ClassVar = "generate"

    prompt: str | None = option(None, "What to draw", positional=True, metavar="[PROMPT]")
    seed: int | None = option(
        None, "Seed of the first picture", metavar="N", default_text="a random one"
    )
    count: int = option(1, "Number of pictures, with seeds N, N+1, …", metavar="N")
    cfg_rescale: float = option(
        0.0, "Bring strong guidance back to the contrast without it, 0 to 1", metavar="X"
    )
    eta: float = option(0.0, "Share of noise in each of DDIM's steps, 0 to 1", metavar="X")
    batch: int | None = option(None, "Pictures at once", metavar="N", default_text="by size")
    mask: UserPath | None = option(
        None, "Draw only where this is white (inpaint)", metavar="PICTURE"
    )
    masked_content: Literal["original", "noise"] = option(
        "original", "What stands under the mask at first"
    )
    mask_blur: int = option(4, "How far the seam is softened", metavar="PX")
    mask_padding: int | None = option(
        None,
        "Draw the mask's surroundings alone, this far around it, at full size",
        metavar="PX",
    )
    from_png: UserPath | None = option(
        None, "Take everything from what this picture says made it", metavar="PICTURE"
    )
    model_dir: UserPath | None = option(
        None, "Folder where --from-png looks for the picture's model", metavar="DIR"
    )
    captions: UserPath | None = option(
        None, "Draw the captions of this dataset, with a caption beside each picture", metavar="DIR"
    )
    without: list[str] = option(
        [],
        "Take this word out of the captions; can be given several times",
        metavar="WORD",
    )
    prompts: UserPath | None = option(
        None, "Draw the prompts of this file, one a line", metavar="FILE"
    )
    out: UserPath = option(Path("outputs"), "Folder for the pictures", metavar="DIR")
    preview_of: UserPath | None = option(
        None,
        "Put the first picture beside this LoRA as its preview, NAME.png, as web UIs read it",
        metavar="LORA",
    )

    def run(self, observer: Observer, controls: Controls) -> GenerateReport:
        """
        Raises:
            UserError: with everything that is wrong; nothing has been written.
            Stopped: finished images stay.
        """
        from lorasmith.jobs.drawings.loras import set_preview

        report = draw(prepare(self, observer), observer, controls)
        if self.preview_of is not None and report.images:
            place = set_preview(self.preview_of, report.images[0])
            observer(Notice("info", f"{place} is the preview of {self.preview_of.name}"))
        return report


def prepare(job: GenerateRequest, observer: Observer) -> Work:
    """What is to be drawn, checked but for the weights.

    Raises:
        UserError: with everything that is wrong.
    """
    from lorasmith.jobs.drawings.loras import require_lora
    from lorasmith.sampling.batching import check_requests

    problems = list(_contradictions(job))
    sources = collect_problems(problems, lambda: job.sources(observer))
    library = sources.library if sources else None
    infotext = collect_problems(problems, lambda: _infotext_request(job, sources, observer))
    if infotext is not None:
        job = _with_infotext(job, infotext)
    if not 1 <= job.count <= MAX_COUNT:
        what = f"{job.count} is out of range"
        problems.append(Problem("count", what, f"choose 1 to {MAX_COUNT}"))
    if job.batch is not None and job.batch < 1:
        problems.append(Problem("batch", f"{job.batch} is out of range", "choose 1 or more"))
    model = collect_problems(problems, lambda: _model(job, infotext))
    suited = suited_to(model) if model is not None and infotext is None else {}
    base = _base(job, infotext, suited, problems)
    drawings = collect_problems(problems, lambda: _drawings(job, base, observer))
    if job.captions or job.prompts:
        requests = [drawing.request for drawing in drawings or []]
    else:
        count = min(max(job.count, 1), MAX_COUNT)
        requests = [replace(base, seed=base.seed + i) for i in range(count)]
        if job.seed is None and infotext is None and not problems:
            last = f" to {base.seed + count - 1}" * (count > 1)
            observer(Notice("info", f"seed {base.seed}{last}"))
    problems += check_requests(requests, library, sources.wildcards if sources else None)
    if sources and not problems:
        say_unused(requests, sources, observer)
    collect_problems(problems, lambda: check_writable(job.out))
    if job.preview_of is not None:
        lora = job.preview_of
        collect_problems(problems, lambda: require_lora(lora))
        collect_problems(problems, lambda: check_writable(lora.parent))
    place = None
    if model is not None:  # Without one there is nothing to say of layers and devices.
        place = collect_problems(
            problems,
            lambda: choose_place([(model, [model.clip_skip])], job.device, job.precision),
        )
    if problems or sources is None or model is None or place is None:
        raise UserError(dict.fromkeys(problems))
    return Work(
        requests,
        model,
        place,
        job.out,
        drawings=drawings,
        from_file=job.prompts is not None,
        sources=sources,
        batch=job.batch,
    )


def _contradictions(job: GenerateRequest) -> Iterator[Problem]:
    """What is missing, or does not go together."""
    sources = {"captions": job.captions, "prompts": job.prompts}
    used = [name for name, path in sources.items() if path is not None]
    if len(used) == 2:
        yield Problem(used[1], "cannot be used with --captions", "leave one of them out")
    if job.prompt is None and job.from_png is None and not used:
        yield Problem("prompt", "is missing", "say what to draw")
    if job.without and job.captions is None:
        yield Problem("without", "there are no captions", "give the dataset with --captions")
    if job.prompt is not None and job.prompts is not None:
        yield Problem("prompt", "does nothing with --prompts", "leave one of them out")
    needs = {
        "init": ("denoise", "mask"),
        "mask": ("masked_content", "mask_blur", "mask_padding"),
        "from_png": ("model_dir",),
    }
    for needed, names in needs.items():
        for name in names:
            if job.given(name) and getattr(job, needed) is None:
                yield Problem(name, f"does nothing without --{needed.replace('_', '-')}")


def _infotext_request(
    job: GenerateRequest, sources: Sources | None, observer: Observer
) -> InfotextRequest | None:
    """What ``from_png`` says, with LoRAs and embeddings by the names that they have here."""
    from lorasmith.sampling.from_infotext import find_embeddings, find_loras, request_of
    from lorasmith.sampling.infotext import require_infotext

    if job.from_png is None:
        return None
    infotext = request_of(require_infotext(job.from_png), job.from_png, job.model_fields_set)
    if sources is not None:
        infotext = find_embeddings(infotext, sources.embeddings)
        prompt = find_loras(infotext.request.prompt, infotext.lora_hashes, sources.library)
        infotext = replace(infotext, request=replace(infotext.request, prompt=prompt))
    for note in infotext.notes:
        observer(Notice("warning", f"{job.from_png.name}: {note}"))
    return infotext


def _with_infotext(job: GenerateRequest, infotext: InfotextRequest) -> GenerateRequest:
    """The options, with what the image says in place of defaults."""
    names = {"content": "masked_content", "blur": "mask_blur", "padding": "mask_padding"}
    values: dict[str, Any] = {names[name]: value for name, value in infotext.masked.items()}
    for name in ("clip_skip", "prediction", "zero_terminal_snr"):
        values[name] = getattr(infotext, name)
    return job.model_copy(
        update={name: value for name, value in values.items() if not job.given(name)}
    )


def _base(
    job: GenerateRequest,
    infotext: InfotextRequest | None,
    suited: Mapping[str, Any],
    problems: list[Problem],
) -> ImageRequest:
    """The request that all images share: the infotext's or what suits the model, with what the
    user says."""
    from lorasmith.sampling.request import ImageRequest

    anew = ImageRequest("", seed=secrets.randbelow(2**32), **suited)
    base = infotext.request if infotext else anew
    if job.seed is None and (job.captions or job.prompts):
        # Fixed, so that the command can go on where it was stopped.
        base = replace(base, seed=0)
    changes = job.changes(_FIELDS) | (collect_problems(problems, job.sides) or {})
    hires = collect_problems(problems, lambda: job.second_pass(base.hires))
    return replace(base, inpaint=_inpaint(job), hires=hires, **changes)


def _inpaint(job: GenerateRequest) -> Inpaint | None:
    from lorasmith.sampling.request import Inpaint

    # A mask without an image is among the contradictions.
    if job.mask is None or job.init is None:
        return None
    return Inpaint(job.mask, job.masked_content, job.mask_blur, job.mask_padding)


def _drawings(job: GenerateRequest, base: ImageRequest, observer: Observer) -> list[Drawing] | None:
    from lorasmith.sampling.from_dataset import PLACE, drawings_of_dataset, drawings_of_file

    if job.prompts is not None:
        return drawings_of_file(job.prompts, base, job.out, count=job.count)
    if job.captions is None:
        return None
    drawings = drawings_of_dataset(
        job.captions,
        base,
        job.out,
        template=PLACE if job.prompt is None else job.prompt,
        without=job.without,
        count=job.count,
    )
    if job.prompt is None:
        warn_of_trigger(drawings, observer)
    return drawings


def _model(job: GenerateRequest, infotext: InfotextRequest | None) -> ModelReference:
    """
    Raises:
        UserError: the image's model is not to be found.
    """
    from lorasmith.models.reference import ModelReference
    from lorasmith.sampling.from_infotext import find_model
    from lorasmith.sampling.sources import not_a_folder

    reference = ModelReference(
        job.model,
        vae=job.vae,
        prediction=job.prediction,
        zero_terminal_snr=job.zero_terminal_snr or "auto",
        clip_skip=job.clip_skip,
    )
    if infotext is None or job.given("model") or infotext.model == "demo":
        return reference
    folder = job.model_dir
    if (problem := not_a_folder("model_dir", folder)) is not None:
        raise UserError(problem)
    named = f'"{infotext.model}"' if infotext.model else "a model that it does not name"
    if folder is None:
        hint = "give it with --model, or its folder with --model-dir"
        raise UserError.of("model", f"the picture was made with {named}", hint)

    path = find_model(infotext.model, infotext.model_hash, folder)
    if path is None:
        what = f"{folder} has no model {named}, nor one of its hash"
        raise UserError.of("model_dir", what, "give another with --model")
    vae = find_model(infotext.vae, "", folder) if infotext.vae not in _NO_VAE else None
    return replace(reference, path=path, vae=job.vae or vae)
