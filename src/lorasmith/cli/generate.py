"""``lorasmith generate``"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lorasmith.cli.generate_options import NAMES, Options, read_options, with_options
from lorasmith.core.errors import Problem, UserError, collect_problems
from lorasmith.core.events import Notice, Observer
from lorasmith.core.text import parse_size
from lorasmith.formats.run_paths import DEFAULT_OUTPUT, lora_folder

if TYPE_CHECKING:
    import torch

    from lorasmith.cli.generate_run import Work
    from lorasmith.models.reference import ModelReference
    from lorasmith.prompts.wildcards import Wildcards
    from lorasmith.sampling.from_dataset import Drawing
    from lorasmith.sampling.from_infotext import InfotextRequest
    from lorasmith.sampling.lora_library import LoraLibrary
    from lorasmith.sampling.request import Hires, ImageRequest, Inpaint

T = TypeVar("T")

# Where `lorasmith train` puts its results, so that a fresh LoRA is found without an option.
MAX_COUNT = 10_000
# Names that say that no other VAE was used.
_NO_VAE = ("", "None", "Automatic")
# Request fields that are options of the same name.
_PLAIN = (
    "negative", "steps", "cfg", "cfg_rescale", "sampler", "schedule", "eta", "init", "denoise",
)  # fmt: skip


@click.command("generate")
@click.argument("prompt", required=False)
@with_options
@click.pass_context
def generate(context: click.Context, /, prompt: str | None, **values: Any) -> None:
    """Draw pictures of PROMPT, with LoRAs named in it.

    PROMPT is written as in the Stable Diffusion web UI: <lora:NAME:0.8> adds a LoRA, (word:1.2)
    and [word] weigh words, BREAK begins a new chunk. Each PNG carries what made it, and
    --from-png makes it again; options given beside it win.
    """
    from lorasmith.cli.console import console
    from lorasmith.cli.generate_run import draw
    from lorasmith.core.terminal_view import Terminal

    terminal = Terminal(console)
    options = read_options(context, values)
    work = _work(prompt, options, terminal)
    if work.drawings is None and work.random_seed is not None:
        last = work.random_seed + options.count - 1
        console.print(f"seed {work.random_seed}" + f" to {last}" * (options.count > 1))
    draw(work, console, terminal)


def _work(prompt: str | None, options: Options, terminal: Observer) -> Work:
    """All that is to be drawn and with what, checked but for the weights.

    Raises:
        UserError: with everything that is wrong.
    """
    from lorasmith.cli.generate_run import Work
    from lorasmith.core.files import check_writable
    from lorasmith.prompts.wildcards import Wildcards
    from lorasmith.sampling.embeddings import EmbeddingLibrary

    problems = list(_check_sources(prompt, options))
    library = collect_problems(problems, lambda: _library(options.lora_dir, terminal))
    infotext = collect_problems(problems, lambda: _infotext_request(options, library, terminal))
    if infotext is not None:
        problems += _without_hires(options, infotext)
        options = _with_infotext(options, infotext)
    size = collect_problems(problems, lambda: _parse_size(options.size))
    if not 1 <= options.count <= MAX_COUNT:
        what = f"{options.count} is out of range"
        problems.append(Problem("--count", what, f"choose 1 to {MAX_COUNT}"))
    if options.batch is not None and options.batch < 1:
        problems.append(Problem("--batch", f"{options.batch} is out of range", "choose 1 or more"))
    base = _base(prompt, options, infotext, size)
    drawings = collect_problems(problems, lambda: _drawings(prompt, options, base, terminal))
    if options.captions or options.prompts:
        requests = [drawing.request for drawing in drawings or []]
    else:
        count = min(max(options.count, 1), MAX_COUNT)
        requests = [replace(base, seed=base.seed + i) for i in range(count)]
    wildcards = Wildcards(_folder(options.wildcard_dir, "--wildcard-dir", problems))
    problems += _check(requests, library, wildcards)
    collect_problems(problems, lambda: check_writable(options.out))
    model = collect_problems(problems, lambda: _model(options, infotext))
    embeddings = _folder(options.embedding_dir, "--embedding-dir", problems)
    # Without a model there is nothing to say of layers and devices.
    place = (
        collect_problems(problems, lambda: _place(model, options)) if model is not None else None
    )
    if problems or library is None or model is None or place is None:
        raise UserError(dict.fromkeys(problems))
    random_seed = None if options.seed is not None or infotext else base.seed
    return Work(
        requests, drawings, library, EmbeddingLibrary(embeddings, observer=terminal),
        wildcards, model, options, *place, random_seed,
    )  # fmt: skip


def _check_sources(prompt: str | None, options: Options) -> Iterable[Problem]:
    """What is missing, or does not go together."""
    sources = {"--captions": options.captions, "--prompts": options.prompts}
    used = [name for name, path in sources.items() if path is not None]
    if len(used) == 2:
        yield Problem(used[1], "cannot be used with --captions", "leave one of them out")
    if prompt is None and options.from_png is None and not used:
        yield Problem("PROMPT", "is missing", "say what to draw")
    if options.without and options.captions is None:
        yield Problem("--without", "there are no captions", "give the dataset with --captions")
    if prompt is not None and options.prompts is not None:
        yield Problem("PROMPT", "does nothing with --prompts", "leave one of them out")
    needs = {
        "init": ("denoise", "mask"),
        "mask": ("masked_content", "mask_blur", "mask_padding"),
        "from_png": ("model_dir",),
    }
    if options.from_png is None:
        yield from _without_hires(options)
    for needed, names in needs.items():
        for name in names:
            if name in options.given and getattr(options, needed) is None:
                what = f"does nothing without --{needed.replace('_', '-')}"
                yield Problem(f"--{name.replace('_', '-')}", what)


def _without_hires(options: Options, infotext: InfotextRequest | None = None) -> Iterable[Problem]:
    """Options of a second pass that neither the command nor the picture asks for."""
    if options.hires is None and (infotext is None or infotext.request.hires is None):
        for name in ("hires-denoise", "hires-steps", "hires-upscaler"):
            if name.replace("-", "_") in options.given:
                yield Problem(f"--{name}", "does nothing without --hires")


def _parse_size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        return parse_size(text)
    except ValueError as error:
        raise UserError.of("--size", str(error), "write it as 512x768") from None


def _library(folder: Path | None, observer: Observer) -> LoraLibrary:
    from lorasmith.sampling.lora_library import LoraLibrary

    if folder is None:
        folder = DEFAULT_OUTPUT if DEFAULT_OUTPUT.is_dir() else None
    elif not (folder := lora_folder(folder)).is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise UserError.of(
            "--lora-dir", f"{folder} {what}", "give the folder that holds your LoRAs"
        )
    return LoraLibrary(folder, observer=observer)


def _folder(path: Path | None, option: str, problems: list[Problem]) -> Path | None:
    if path is not None and not path.is_dir():
        problems.append(Problem(option, f"{path} is not a folder"))
    return path


def _infotext_request(
    options: Options, library: LoraLibrary | None, observer: Observer
) -> InfotextRequest | None:
    """What ``--from-png`` says, with LoRAs by the names that they have here."""
    from lorasmith.sampling.from_infotext import find_loras, request_of
    from lorasmith.sampling.infotext import require_infotext

    if options.from_png is None:
        return None
    found = request_of(require_infotext(options.from_png), options.from_png, options.given)
    for note in found.notes:
        observer(Notice("warning", f"{options.from_png.name}: {note}"))
    if library is None:
        return found
    prompt = find_loras(found.request.prompt, found.lora_hashes, library)
    return replace(found, request=replace(found.request, prompt=prompt))


def _with_infotext(options: Options, infotext: InfotextRequest) -> Options:
    """The options, with what the picture says in place of defaults."""
    names = {"content": "masked_content", "blur": "mask_blur", "padding": "mask_padding"}
    said: dict[str, Any] = {names[name]: value for name, value in infotext.masked.items()}
    said["clip_skip"] = infotext.clip_skip
    said["prediction"] = infotext.prediction
    said["zero_terminal_snr"] = infotext.zero_terminal_snr
    return replace(options, **{k: v for k, v in said.items() if k not in options.given})


def _base(
    prompt: str | None,
    options: Options,
    infotext: InfotextRequest | None,
    size: tuple[int, int] | None,
) -> ImageRequest:
    """The request that all pictures share: the recipe's, with what the command line says."""
    from lorasmith.sampling.request import ImageRequest

    base = infotext.request if infotext else ImageRequest("", seed=secrets.randbelow(2**32))
    said = {
        name: getattr(options, name) for name in _PLAIN if not infotext or name in options.given
    }
    if "sampler" in said and "schedule" not in said:
        said["schedule"] = "automatic"
    if prompt is not None:
        said["prompt"] = prompt
    if options.seed is not None:
        said["seed"] = options.seed
    elif options.captions or options.prompts:
        # Fixed, so that the command can go on where it was stopped.
        said["seed"] = 0
    if size is not None:
        said["width"], said["height"] = size
    if infotext is None or any(name.startswith("hires") for name in options.given):
        said["hires"] = _hires(options, base.hires)
    return replace(base, inpaint=_inpaint(options), **said)


def _hires(options: Options, known: Hires | None) -> Hires | None:
    from lorasmith.sampling.request import Hires

    scale = options.hires
    if scale is None and known is not None:
        scale = known.scale
    if scale is None or scale == 1.0:
        return None
    said: dict[str, Any] = {
        name: getattr(options, f"hires_{name}")
        for name in ("denoise", "steps", "upscaler")
        if known is None or f"hires_{name}" in options.given
    }
    return replace(known or Hires(), scale=scale, **said)


def _inpaint(options: Options) -> Inpaint | None:
    from lorasmith.sampling.request import Inpaint

    # A mask without an image is told by the options' check.
    if options.mask is None or options.init is None:
        return None
    content: Any = options.masked_content
    return Inpaint(options.mask, content, options.mask_blur, options.mask_padding)


def _drawings(
    prompt: str | None, options: Options, base: ImageRequest, observer: Observer
) -> list[Drawing] | None:
    from lorasmith.sampling.from_dataset import (
        PLACE,
        drawings_of_dataset,
        drawings_of_file,
        shared_tags,
    )

    if options.prompts is not None:
        return drawings_of_file(options.prompts, base, options.out, count=options.count)
    if options.captions is None:
        return None
    drawings = drawings_of_dataset(
        options.captions,
        base,
        options.out,
        template=PLACE if prompt is None else prompt,
        without=options.without,
        count=options.count,
    )
    shared = shared_tags(drawings)
    if shared and prompt is None:
        told = f'every caption has "{shared[0]}": if that is a trigger word, take it out with '
        observer(Notice("warning", f'{told}--without "{shared[0]}"'))
    return drawings


def _check(
    requests: list[ImageRequest], library: LoraLibrary | None, wildcards: Wildcards
) -> list[Problem]:
    """Problems of the prompts, the settings and the LoRAs' names."""
    from lorasmith.prompts.lora_tags import take_tags
    from lorasmith.sampling.batching import check_request, with_wildcards

    problems: list[Problem] = []
    # Most differ in their seeds alone, and the last one's is the largest.
    distinct: dict[ImageRequest, ImageRequest] = {}
    last: list[ImageRequest] = []
    for request in requests:
        try:
            request = with_wildcards(request, wildcards)
        except UserError as error:
            problems += error.problems
        else:
            distinct[replace(request, seed=0)] = request
            last = [request]
    checked = [*distinct.values(), *last]
    problems += [problem for request in checked for problem in check_request(request)]
    if library is not None:
        problems += library.check(tag for each in distinct for tag in take_tags(each.prompt)[1])
    return _under_options(dict.fromkeys(problems))


def _under_options(problems: Iterable[Problem]) -> list[Problem]:
    """The problems with settings named as on this command line."""
    return [
        Problem(NAMES.get(problem.where, problem.where), problem.what, problem.hint)
        for problem in problems
    ]


def _model(options: Options, infotext: InfotextRequest | None) -> ModelReference:
    """Base model and VAE.

    Raises:
        UserError: the picture's model is not to be found.
    """
    from lorasmith.formats.hashes import hash_file
    from lorasmith.sampling.from_infotext import find_model

    if infotext is None or "model" in options.given or infotext.model == "demo":
        return _reference(options, options.model, options.vae)
    problems: list[Problem] = []
    folder = _folder(options.model_dir, "--model-dir", problems)
    if problems:
        raise UserError(problems)
    named = f'"{infotext.model}"' if infotext.model else "a model that it does not name"
    if folder is None:
        hint = "give it with --model, or its folder with --model-dir"
        raise UserError.of("--model", f"the picture was made with {named}", hint)

    def hashes_of(path: Path) -> tuple[str, ...]:
        hashes = hash_file(path)
        return hashes.autov1, hashes.autov2

    found = find_model(infotext.model, infotext.model_hash, folder, hashes_of)
    if found is None:
        what = f"{folder} has no model {named}, nor one of its hash"
        raise UserError.of("--model-dir", what, "give another with --model")
    vae = find_model(infotext.vae, "", folder, hashes_of) if infotext.vae not in _NO_VAE else None
    return _reference(options, found, options.vae or vae)


def _reference(options: Options, path: str | Path, vae: str | Path | None) -> ModelReference:
    from lorasmith.models.reference import ModelReference

    return ModelReference(
        path,
        vae=vae,
        prediction=options.prediction,
        zero_terminal_snr=options.zero_terminal_snr or "auto",
        clip_skip=options.clip_skip,
    )


def _place(model: ModelReference, options: Options) -> tuple[torch.device, torch.dtype]:
    """Where and in which precision to compute, from the model's header.

    Raises:
        UserError: there is no such model, layer or device, or the device lacks the precision.
    """
    from lorasmith.models.families.table import check_clip_skip
    from lorasmith.models.flops import unet_weights
    from lorasmith.models.open import read_architecture
    from lorasmith.tensors.device import choose_device, choose_precision

    problems: list[Problem] = []
    architecture = collect_problems(problems, lambda: read_architecture(model))
    chosen = collect_problems(problems, lambda: choose_device(options.device))
    if architecture is not None:
        known = architecture
        collect_problems(problems, lambda: check_clip_skip(known, options.clip_skip, "--clip-skip"))
    if architecture is None or chosen is None or problems:
        raise UserError(_under_options(problems))
    weights = unet_weights(architecture.denoiser)
    dtype = collect_problems(
        problems, lambda: choose_precision(options.precision, chosen, weights).dtype
    )
    if dtype is None:
        raise UserError(_under_options(problems))
    return chosen, dtype
