"""How captioning models want to be asked: by their kind, and the known ones by a short name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lorasmith.core.errors import CheckpointError, Problem
from lorasmith.core.files import parse_json
from lorasmith.core.text import did_you_mean
from lorasmith.curation.captioner.repair import Style
from lorasmith.models.hub import fetch_files, is_hub_id

Manner = Literal["continues", "task", "chat"]
"""A model continues the beginning of a caption, is given a task in words of its own, or is talked
to."""

CHAT_PROMPTS: dict[Style, str] = {
    "descriptive": "Describe this picture in one paragraph: what is shown, how it looks, where it "
    "is, and in which style it is made. Write only the description.",
    "tags": "List what is in this picture as tags of one to three words between commas, the most "
    "important first. Write only the tags.",
}


@dataclass(frozen=True, slots=True)
class Convention:
    """
    Args:
        prompts: what it is asked, unless the user says; a style that is not there it cannot write.
        system: what a chat begins with.
    """

    manner: Manner
    prompts: Mapping[Style, str] = field(default_factory=lambda: CHAT_PROMPTS)
    system: str = ""


_KINDS: dict[str, Convention] = {
    "blip": Convention("continues", {"descriptive": ""}),
    "blip-2": Convention("continues", {"descriptive": ""}),
    "git": Convention("continues", {"descriptive": ""}),
    "vision-encoder-decoder": Convention("continues", {"descriptive": ""}),
    "florence2": Convention("task", {"descriptive": "<MORE_DETAILED_CAPTION>"}),
    "instructblip": Convention("task", {"descriptive": "Describe the image in detail."}),
    "paligemma": Convention("task", {"descriptive": "caption en"}),
}
"""By transformers' ``model_type``; all others are talked to."""

_JOYCAPTION = Convention(
    "chat",
    {
        "descriptive": "Write a long descriptive caption for this image in a formal tone.",
        "tags": "Write a list of Booru-like tags for this image.",
    },
    system="You are a helpful image captioner.",
)


def convention_of(model_type: str, name: str = "") -> Convention:
    """
    Args:
        model_type: transformers' name of the kind of model.
        name: of the folder or repository, by which some models of a kind are told.
    """
    if "joycaption" in name.lower().replace("-", ""):
        return _JOYCAPTION
    return _KINDS.get(model_type, Convention("chat"))


@dataclass(frozen=True, slots=True)
class KnownModel:
    """``repository`` on the hub, and what to expect of it."""

    repository: str
    text: str


KNOWN: dict[str, KnownModel] = {
    "blip": KnownModel("Salesforce/blip-image-captioning-base", "a short sentence; 1 GB"),
    "blip-large": KnownModel("Salesforce/blip-image-captioning-large", "a sentence; 2 GB"),
    "blip2": KnownModel("Salesforce/blip2-opt-2.7b", "a short sentence; 15 GB"),
    "git": KnownModel("microsoft/git-base-coco", "a short sentence; 1 GB"),
    "florence2": KnownModel("florence-community/Florence-2-base", "a paragraph; 0.5 GB"),
    "florence2-large": KnownModel("florence-community/Florence-2-large", "a paragraph; 2 GB"),
    "joycaption": KnownModel(
        "fancyfeast/llama-joycaption-beta-one-hf-llava",
        "follows prompts, knows drawn pictures; 17 GB",
    ),
    "llava": KnownModel("llava-hf/llava-1.5-7b-hf", "follows prompts; 14 GB"),
    "qwen": KnownModel("Qwen/Qwen2.5-VL-3B-Instruct", "follows prompts; 8 GB; needs torchvision"),
    "smolvlm": KnownModel("HuggingFaceTB/SmolVLM-Instruct", "follows prompts; 5 GB"),
}
"""By a short name; sizes are those of the download."""

_NEEDED_SUFFIXES = (".json", ".txt", ".model", ".jinja")


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model of transformers on this machine, whose ``config.json`` was read.

    Args:
        name: as the user gave it.
        config: what ``config.json`` says.
    """

    path: Path
    name: str
    config: Mapping[str, Any]

    @property
    def model_type(self) -> str:
        return str(self.config.get("model_type", ""))

    @property
    def convention(self) -> Convention:
        return convention_of(self.model_type, f"{self.name}/{self.path.name}")

    def prompt(self, style: Style) -> str:
        """
        Raises:
            CheckpointError: the model cannot write in that style.
        """
        prompts = self.convention.prompts
        if style not in prompts:
            what = f"{self.name} follows no instructions, so it cannot write {style}"
            hint = "tag with `lorasmith dataset tag`, or use joycaption, qwen or another that does"
            raise CheckpointError.of("style", what, hint)
        return prompts[style]


def find_model(
    name: str, check: Callable[[ModelFolder], None] = lambda folder: None
) -> ModelFolder:
    """
    Args:
        name: of :data:`KNOWN`, a folder, or ``owner/model`` on the Hugging Face hub.
        check: raises for a model that cannot be used; called before weights are fetched.

    Raises:
        CheckpointError: it is not there, or brings code.
        UserError: as ``check``.
    """
    path = Path(name)
    if path.is_dir():
        folder = read_model_folder(path, name)
        check(folder)
        return folder
    repository = KNOWN[name].repository if name in KNOWN else name
    if not is_hub_id(repository) or repository.count("/") != 1:
        hint = did_you_mean(
            name, list(KNOWN), f"name one of {', '.join(KNOWN)}, a folder or a hub id"
        )
        raise CheckpointError.of(name, "there is no such captioning model", hint)
    check(read_model_folder(fetch_files(repository, _config_file), name))
    return read_model_folder(fetch_files(repository, _needed_files), name)


def _config_file(names: list[str]) -> list[str]:
    return [name for name in names if name == "config.json"]


def _needed_files(names: list[str]) -> list[str]:
    """Settings, tokenizer and weights; of weights those without pickles, where there are any."""
    top = [name for name in names if "/" not in name]
    weights = [name for name in top if name.endswith(".safetensors")]
    weights = weights or [name for name in top if name.endswith(".bin")]
    return weights + [name for name in top if name.endswith(_NEEDED_SUFFIXES)]


def read_model_folder(path: Path, name: str) -> ModelFolder:
    """
    Raises:
        CheckpointError: there is no readable ``config.json`` in it, or none of a model that
            transformers has itself.
    """
    file = path / "config.json"
    try:
        config = parse_json(file.read_bytes())
    except OSError:
        what = "holds no config.json, so it is not a model of transformers"
        hint = f"give the folder of a captioning model, or one of {', '.join(KNOWN)}"
        raise CheckpointError.of(path, what, hint) from None
    except ValueError as error:
        raise CheckpointError.of(file, f"cannot be read: {error}", "get it again") from error
    if not isinstance(config, dict):
        raise CheckpointError.of(file, "is not the settings of a model", "get it again")
    folder = ModelFolder(path, name, config)
    if problem := _brings_code(folder):
        raise CheckpointError(problem)
    return folder


def _brings_code(folder: ModelFolder) -> Problem | None:
    text_config = folder.config.get("text_config")
    text_type = text_config.get("model_type") if isinstance(text_config, dict) else ""
    if text_type == "florence2_language":
        what = "this is Florence-2 in its first form, which only code from the model's page reads"
        hint = "use the same weights converted: florence2, or florence-community/… on the hub"
        return Problem(str(folder.name), what, hint)
    if not folder.model_type and "auto_map" in folder.config:
        what = "this model needs code from its page, which is not run here"
        return Problem(str(folder.name), what, "use a model that transformers has itself")
    return None
