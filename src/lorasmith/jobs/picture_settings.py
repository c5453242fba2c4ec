"""What a picture says made it, as what a request for drawings is made of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from lorasmith.core.errors import PromptError, UserError
from lorasmith.core.terminal import clean
from lorasmith.formats.run_paths import lora_folder
from lorasmith.models.embedding_names import EmbeddingNames
from lorasmith.prompts.lora_tags import take_tags
from lorasmith.sampling.from_infotext import find_embeddings, find_loras, request_of
from lorasmith.sampling.infotext import require_infotext
from lorasmith.sampling.lora_library import LoraLibrary
from lorasmith.sampling.samplers import SAMPLERS, find_sampler

MOST_PROMPT = 100_000
"""Characters of prompts that are taken; what wildcards may make of one, too."""
_SAME = ("negative", "seed", "steps", "cfg", "cfg_rescale", "eta")


def picture_settings(path: Path, lora_dir: Path | None = None) -> dict[str, Any]:
    """Values of a :class:`.drawings.records.PictureSettings`.

    Args:
        path: a picture of a web UI's, or of ours.
        lora_dir: where its LoRAs and embeddings are looked for, by name and else by hash.

    Raises:
        PromptError: it does not say, says more than can be drawn, or a number in it is none.
    """
    info = require_infotext(path)
    if len(info.prompt) + len(info.negative) > MOST_PROMPT:
        what = f"its prompt has more than {MOST_PROMPT:,} characters"
        raise PromptError.of(path, what, "choose a picture of a prompt that can be drawn")
    folder = lora_folder(lora_dir) if lora_dir is not None else None
    found = find_embeddings(request_of(info, path), EmbeddingNames(folder, named=False))
    request, hires = found.request, found.request.hires
    library = LoraLibrary(folder)
    notes = list(found.notes)
    values: dict[str, Any] = {name: getattr(request, name) for name in _SAME}
    values["negative"] = clean(request.negative)
    values["sampler"], values["schedule"] = request.sampler, request.schedule
    try:
        sampler = find_sampler(request.sampler, request.schedule)
        values["sampler"] = sampler.name
        if sampler.schedule != SAMPLERS[sampler.name].schedule:
            values["schedule"] = sampler.schedule
    except UserError as error:
        notes += [f"{problem.what}: {problem.hint}" for problem in error.problems]
    if request.width and request.height:
        values["size"] = f"{request.width}x{request.height}"
    for name in ("clip_skip", "prediction", "zero_terminal_snr"):
        values[name] = getattr(found, name)
    if hires is not None:
        values |= {
            "hires": hires.scale, "hires_denoise": hires.denoise, "hires_steps": hires.steps,
            "hires_upscaler": hires.upscaler,
        }  # fmt: skip
    prompt, tags, _ = take_tags(find_loras(clean(request.prompt), found.lora_hashes, library))
    # A tag with what only a text can say of it stays in the text.
    plain = [tag for tag in tags if tag.steps.start is None and tag.steps.stop is None]
    prompt = " ".join([prompt.strip(), *(tag.source for tag in tags if tag not in plain)]).strip()
    loras = [
        {
            "name": tag.name,
            "strength": tag.unet,
            "text_encoder": tag.text_encoder,
            "blocks": tag.blocks,
        }
        for tag in plain
    ]
    missing = [tag.name for tag in tags if library.check([tag])]
    return {
        "drawing": {"prompt": prompt, "loras": loras, **values},
        "model": found.model,
        "model_hash": found.model_hash,
        "vae": found.vae,
        "missing": missing,
        "notes": notes,
    }


class _Question(BaseModel):
    path: Path
    lora_dir: Path | None = None


def answer_settings(question: Mapping[str, Any]) -> dict[str, Any]:
    """In the process of an engine: ``path`` and ``lora_dir``."""
    asked = _Question.model_validate(dict(question))
    return picture_settings(asked.path, asked.lora_dir)
