"""An image of the web UI's, or of ours, made again from what it says about itself.

What the text says and the request cannot is told, each thing by name; nothing is passed over in
silence. Names of models and LoRAs are looked up in folders, and where no file has the name, the
hashes in the text are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from lorasmith.core.errors import Problem, PromptError
from lorasmith.core.files import files_below
from lorasmith.formats.hashes import autov1, autov2, autov3, shorthash
from lorasmith.models.embedding_names import EmbeddingNames
from lorasmith.prompts.infotext import Infotext
from lorasmith.prompts.lora_tags import format_tag, take_tags
from lorasmith.sampling.infotext import HIRES_DENOISE, NOISE_SCHEDULE, PREDICTION, RESCALE, ZERO_SNR
from lorasmith.sampling.lora_library import LoraLibrary
from lorasmith.sampling.request import SCHEDULE_TITLES, UPSCALERS, Hires, ImageRequest

T = TypeVar("T")

OURS = "lorasmith"
CHECKPOINTS = (".safetensors", ".ckpt")
OLD_HASH = 8
_SIZE = re.compile(r"(\d{1,9})\s*x\s*(\d{1,9})", re.ASCII)
_HASH = re.compile(r"(?<![^,])\s*+([^:,]++):\s*([0-9a-fA-F]{8,64})")
_OLDEST_WITH_SCHEDULES = (1, 9)
# Samplers whose plain name meant that, when each schedule was a sampler of its own.
_UNIFORM_ONCE = (
    "DPM2", "DPM2 a", "DPM++ 2S a", "DPM++ 2M", "DPM++ SDE", "DPM++ 2M SDE", "DPM++ 2M SDE Heun",
    "DPM++ 3M SDE",
)  # fmt: skip
_OWN_SCHEDULE = ("DDIM", "PLMS", "LCM")
# Titles of schedules that are "Automatic" in another guise.
_ANY_SCHEDULE = ("", "Automatic")
# What is followed elsewhere or says nothing about the image.
_KNOWN = {
    "Steps", "Sampler", "Schedule type", "CFG scale", "Seed", "Size", "Size-1", "Size-2", "Model",
    "Model hash", "VAE", "VAE hash", "Denoising strength", "Clip skip", "RNG", "Eta DDIM", RESCALE,
    "CFG Rescale phi", "Hires upscale", "Hires steps", "Hires upscaler", "Hires resize",
    "First pass size", "Lora hashes", "TI hashes", "Hashes", "Version", "Batch size", "Batch pos",
    "User", "Mask blur", "Masked content", "Inpaint area", "Masked area padding", HIRES_DENOISE,
    PREDICTION, NOISE_SCHEDULE,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class InfotextRequest:
    """What an image's text asks for.

    Args:
        model, model_hash, vae: as the text has them; empty where it says nothing.
        clip_skip: 1 where it says nothing.
        lora_hashes, embedding_hashes: by name.
        notes: what could not be followed.
        prediction, zero_terminal_snr: the word of the user who made it on its model.
        masked: fields of :class:`.Inpaint` but the mask, which the image does not hold.
    """

    request: ImageRequest
    model: str = ""
    model_hash: str = ""
    vae: str = ""
    clip_skip: int = 1
    lora_hashes: Mapping[str, str] = field(default_factory=dict)
    embedding_hashes: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    prediction: str = "auto"
    zero_terminal_snr: bool = False
    masked: Mapping[str, Any] = field(default_factory=dict)


def request_of(info: Infotext, where: object, given: Collection[str] = ()) -> InfotextRequest:
    """The request that a text describes.

    Args:
        where: the file, for messages.
        given: what is said elsewhere, by the names of the command's options: of that nothing is
            amiss here.

    Raises:
        PromptError: a number in the text is not one.
    """
    reader = _Reader(info.settings, where, given)
    prompt = info.prompt if reader.ours else _with_strengths_by_name(info.prompt)
    width, height = reader.size("First pass size") or reader.size("Size") or (None, None)
    hires = reader.hires(width, height)
    sampler, schedule = reader.sampler()
    rescale = reader.number("CFG Rescale phi", float, 0.0, "cfg_rescale")
    request = ImageRequest(
        prompt,
        info.negative,
        seed=reader.number("Seed", int, 0, "seed"),
        steps=reader.number("Steps", int, 20, "steps"),
        cfg=reader.number("CFG scale", float, 7.0, "cfg"),
        sampler=sampler,
        schedule=schedule,
        width=width,
        height=height,
        cfg_rescale=reader.number(RESCALE, float, rescale, "cfg_rescale"),
        eta=reader.number("Eta DDIM", float, 0.0, "eta"),
        denoise=reader.number("Denoising strength", float, 0.6, "denoise", "hires_denoise"),
        hires=hires,
    )
    result = InfotextRequest(
        request,
        info.settings.get("Model", ""),
        info.settings.get("Model hash", ""),
        info.settings.get("VAE", ""),
        reader.number("Clip skip", int, 1, "clip_skip"),
        _hashes(info.settings.get("Lora hashes", "")),
        _hashes(info.settings.get("TI hashes", "")),
        prediction=reader.choice(PREDICTION, {"v": "v", "epsilon": "epsilon"}, "auto"),
        zero_terminal_snr=reader.choice(NOISE_SCHEDULE, {ZERO_SNR: True, "Default": False}, False),
        masked=reader.masked(),
    )
    reader.note_the_rest(hires)
    if reader.problems:
        raise PromptError(dict.fromkeys(reader.problems))
    return replace(result, notes=tuple(reader.notes))


def _hashes(text: str) -> dict[str, str]:
    return {match[1]: match[2] for match in _HASH.finditer(text)}


class _Reader:
    """Reads values by their keys, and keeps what is wrong with them and what is not followed."""

    def __init__(self, settings: Mapping[str, str], where: object, given: Collection[str]) -> None:
        self._settings, self._where, self._given_options = settings, str(where), frozenset(given)
        self._strange: set[str] = set()
        self.problems: list[Problem] = []
        self.notes: list[str] = []
        self.ours = settings.get("Version", "").startswith(OURS)

    def number(self, key: str, kind: Callable[[str], Any], default: Any, *options: str) -> Any:
        """A number; one that cannot be read does not matter where one of ``options`` is given."""
        text = self._settings.get(key)
        if text is None:
            return default
        try:
            return kind(text)
        except ValueError:
            if self._given_options.isdisjoint(options):
                what = f'its "{key}" is "{text}", not a number'
                hint = f"give --{options[0].replace('_', '-')} yourself"
                self.problems.append(Problem(self._where, what, hint))
            return default

    def choice(self, key: str, choices: Mapping[str, T], default: T) -> T:
        text = self._settings.get(key)
        if text is not None and text not in choices:
            self._strange.add(key)
        return choices.get(text or "", default)

    def masked(self) -> dict[str, Any]:
        if not {"Mask blur", "Masked content", "Masked area padding"} & self._settings.keys():
            return {}
        contents = {"original": "original", "latent noise": "noise"}
        padding = self.number("Masked area padding", int, None, "mask_padding")
        whole_image = self._settings.get("Inpaint area", "Only masked") != "Only masked"
        return {
            "content": self.choice("Masked content", contents, "original"),
            "blur": self.number("Mask blur", int, 4, "mask_blur"),
            "padding": None if whole_image else padding,
        }

    def size(self, key: str) -> tuple[int, int] | None:
        match = _SIZE.fullmatch(self._settings.get(key, "").strip())
        # "0x0" is how an old first pass says that it had no size of its own.
        return (int(match[1]), int(match[2])) if match and int(match[1]) else None

    def sampler(self) -> tuple[str, str]:
        """Names of sampler and schedule; those of versions without schedules mean "uniform"."""
        sampler = self._settings.get("Sampler", "Euler a")
        schedule = self._settings.get("Schedule type", "")
        if schedule in _ANY_SCHEDULE:
            old = not schedule and not self.ours and self._version() < _OLDEST_WITH_SCHEDULES
            return sampler, "uniform" if old and sampler in _UNIFORM_ONCE else "automatic"
        if sampler in _OWN_SCHEDULE:
            return sampler, "automatic"
        if schedule == SCHEDULE_TITLES["beta"] and not self.ours:
            self.notes.append(
                "its schedule Beta spreads noise levels in A1111; here, as in ComfyUI and the "
                "paper, it spreads timesteps"
            )
        return sampler, schedule

    def _version(self) -> tuple[int, ...]:
        match = re.search(r"v(\d{1,9})\.(\d{1,9})", self._settings.get("Version", ""))
        return (int(match[1]), int(match[2])) if match else (0, 0)

    def hires(self, width: int | None, height: int | None) -> Hires | None:
        scale = self.number("Hires upscale", float, 0.0, "hires")
        large = self.size("Hires resize")
        if not large and self.size("First pass size"):
            large = self.size("Size")
        if large and width and height:
            scale = max(large[0] / width, large[1] / height)
            self._note_shape(large, (round(width * scale), round(height * scale)))
        if not scale:
            return None
        denoise = self.number("Denoising strength", float, 0.7, "hires_denoise", "denoise")
        denoise = self.number(HIRES_DENOISE, float, denoise, "hires_denoise")
        steps = self.number("Hires steps", int, 0, "hires_steps")
        return Hires(scale, denoise, steps, self._upscaler())

    def _note_shape(self, large: tuple[int, int], size: tuple[int, int]) -> None:
        if large != size and self._given_options.isdisjoint(("hires", "size")):
            self.notes.append(
                f"it was enlarged to {large[0]}x{large[1]}, another shape than it was drawn in: "
                f"here it is enlarged to {size[0]}x{size[1]}"
            )

    def _upscaler(self) -> str:
        title = self._settings.get("Hires upscaler", "Latent")
        for upscaler in UPSCALERS.values():
            if upscaler.title == title:
                return upscaler.name
        nearest = "latent" if title.startswith("Latent") else "lanczos"
        self.notes.append(
            f'the upscaler "{title}" is not among those here: {UPSCALERS[nearest].title} stands in'
        )
        return nearest

    def note_the_rest(self, hires: Hires | None) -> None:
        settings = self._settings
        if settings.get("RNG", "GPU") == "GPU" and not self.ours:
            self.notes.append(
                "its first noise was drawn on a GPU, ours is a CPU's: expect a like picture, "
                "not the same"
            )
        alone = "Denoising strength" in settings and hires is None
        begun = alone or not {"Mask blur", HIRES_DENOISE}.isdisjoint(settings)
        if begun and "init" not in self._given_options:
            self.notes.append(
                "it was made from another picture, which it does not hold: give that with --init"
            )
        if "Mask blur" in settings and "mask" not in self._given_options:
            self.notes.append("it was drawn under a mask, which it does not hold: give --mask")
        known_keys = _KNOWN - self._strange
        unknown_settings = {key: value for key, value in settings.items() if key not in known_keys}
        if unknown_settings:
            listing = ", ".join(f"{key}: {value}" for key, value in unknown_settings.items())
            self.notes.append(f"not followed: {listing}")


def _with_strengths_by_name(prompt: str) -> str:
    """The prompt with what the web UI means by two strengths: the text encoder's comes first."""
    for tag in take_tags(prompt)[1]:
        if tag.ambiguous:
            by_name = replace(tag, unet=tag.text_encoder, text_encoder=tag.unet, ambiguous=False)
            prompt = prompt.replace(tag.source, format_tag(by_name))
    return prompt


def find_loras(prompt: str, hashes: Mapping[str, str], library: LoraLibrary) -> str:
    """The prompt with the names that the library has for its LoRAs.

    A name that the library does not know is looked up by its hash, which reads every file.
    """
    tags = take_tags(prompt)[1]
    missing = [tag for tag in tags if library.check([tag]) and tag.name in hashes]
    if not missing:
        return prompt
    by_hash = {autov3(path): path for path in library.files}
    for tag in missing:
        path = by_hash.get(hashes[tag.name].lower()[:12])
        if path is not None:
            prompt = prompt.replace(tag.source, format_tag(replace(tag, name=library.add(path))))
    return prompt


def find_embeddings(request: InfotextRequest, library: EmbeddingNames) -> InfotextRequest:
    """The request with the names that the library has for its embeddings, and a note of each that
    is not there or is another here.

    A name that the library does not know is looked up by its hash, which reads every file.
    """
    texts = [request.request.prompt, request.request.negative]
    notes: list[str] = []
    by_hash: dict[str, str] | None = None
    for name, digest in request.embedding_hashes.items():
        known, wanted = library.called(name), digest.lower()[:12]
        if known is not None and not shorthash(known.path).startswith(wanted):
            notes.append(f"its embedding {name} was another than the one in {known.path}")
        if known is not None:
            continue
        if by_hash is None:
            single = [path for path in library.files if library.called(path.stem)]
            by_hash = {shorthash(path): path.stem for path in single}
        here = by_hash.get(wanted)
        if here is None:
            looked = f"{library.folder} has none" if library.folder else "no folder was searched"
            notes.append(
                f"its embedding {name} is missing, so that its name is read as words: {looked} "
                "of that name or content; give its folder with --embedding-dir"
            )
            continue
        word = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)", re.IGNORECASE)
        there = here.replace("\\", r"\\")
        texts = [word.sub(there, text) for text in texts]
        notes.append(f"its embedding {name} is called {here} here")
    prompt, negative = texts
    changed = replace(request.request, prompt=prompt, negative=negative)
    return replace(request, request=changed, notes=(*request.notes, *notes))


def find_model(name: str, digest: str, folder: Path) -> Path | None:
    """A checkpoint by its name, else by its hash, in a folder and its sub-folders.

    Args:
        digest: 8 or 10 hex digits, "" when unknown.
    """
    files = files_below(folder, CHECKPOINTS)
    for path in files:
        # A name may hold dots, and may or may not end in the extension.
        if name and name in (path.stem, path.name):
            return path
    hash_of = autov1 if len(digest) == OLD_HASH else autov2
    matches = (path for path in files if digest and hash_of(path) == digest.lower())
    return next(matches, None)
