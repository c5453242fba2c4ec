"""The LoRA that is diagnosed, with what is known of it before a model is loaded: its run, its
pictures, and what its file says."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from lorasmith.adapters.file import load_lora
from lorasmith.advice.pick_run import Material, as_reported, find_candidates, open_material
from lorasmith.config.kinds import kind_facts
from lorasmith.config.load import load_settings
from lorasmith.config.schema import TrainSettings, replace_settings
from lorasmith.core.errors import LoraFileError, RunError, UserError
from lorasmith.core.file_names import shell_word
from lorasmith.core.files import quick_fingerprint, read_safetensors_header
from lorasmith.data.triggers import GENERIC_TAGS
from lorasmith.formats.run_paths import runs_at
from lorasmith.lora_tools.inspect.report import TriggerWords
from lorasmith.lora_tools.inspect.training_summary import trigger_words
from lorasmith.measures.eval_set import EvalSet
from lorasmith.models.open import OpenedCheckpoint, locate
from lorasmith.training.runs.control import read_status
from lorasmith.training.runs.folder import RunFolder, existing_run_folder
from lorasmith.training.setup.base_defaults import SuitedSettings, suit
from lorasmith.training.setup.base_model import open_base
from lorasmith.training.setup.preflight import data_folders

PROMPTS = 6
"""Drawings of each kind, as ``pick`` has them unless told otherwise."""

_LORA_FILES = (".safetensors", ".pt", ".ckpt", ".bin")


@dataclass(frozen=True, slots=True)
class Subject:
    """
    Args:
        path: the LoRA's file.
        name: how people call it.
        fingerprint: changes with the file.
        metadata: of the file.
        run: its run; ``None`` for a file alone.
        settings: that it is measured with: the run's, on the base that was given; what suits the
            base for a file alone.
        trained: the run's settings, as it was trained; ``None`` for a file alone.
        base: the base model's headers.
        base_fingerprint: of the base model's file.
        usual: what suits the base where nobody chooses anything.
        eval_set: images and prompts to measure on; ``None`` where the pictures are not there.
        folders: of the pictures.
        uses: how often each training image had been shown; ``None`` where nothing says it.
        triggers: what calls it, by the captions or by its own metadata.
        kept: folder for what is measured.
    """

    path: Path
    name: str
    fingerprint: str
    metadata: dict[str, str]
    run: RunFolder | None
    settings: TrainSettings
    trained: TrainSettings | None
    base: OpenedCheckpoint
    base_fingerprint: str
    usual: SuitedSettings
    eval_set: EvalSet | None
    folders: tuple[Path, ...]
    uses: float | None
    triggers: tuple[str, ...]
    kept: Path

    @property
    def plain(self) -> tuple[str, ...]:
        """Prompts of other things that the base says it knows."""
        prompts = self.usual.suggested.get("preservation.prompts") or ()
        return tuple(prompts)


def open_subject(
    path: Path, model: str | None = None, data: Path | None = None, images: int = PROMPTS
) -> Subject:
    """
    Args:
        path: a run's folder, one of its snapshots, or a LoRA file alone.
        model: the base model; the run's own where it is ``None``.
        data: the training pictures, in place of the run's.
        images: drawings of each kind.

    Raises:
        UserError: there is nothing of that path, it is no LoRA, or no base model is named; with all
            problems.
    """
    run = _run_of(path)
    if run is None:
        return _file_alone(path, model, data, images)
    trained = load_settings(run.settings)
    _refuse_other_kinds(run, trained)
    settings = trained if model is None else replace_settings(trained, {"model.path": model})
    if data is not None:
        settings = replace_settings(settings, {"data.path": data, "data.folders": []})
    candidates = find_candidates(run, read_status(run).state)
    candidate = next((one for one in candidates if _is_same(one.path, path)), candidates[-1])
    has_pictures = all(map(os.path.isdir, data_folders(settings)))
    material = open_material(settings, images) if has_pictures else None
    count = material.eval_set.trained if material else 1
    _, per_step = as_reported(run, count)
    metadata = _metadata(candidate.path)
    if material is None or candidate.step is None or per_step is None:
        uses = _uses_said(metadata)
    else:
        uses = candidate.step * per_step
    named = named_triggers(trigger_words(metadata))
    base = open_base(settings)
    return Subject(
        path=candidate.path,
        name=f"{run.name}, {candidate.label}",
        fingerprint=candidate.fingerprint,
        metadata=metadata,
        run=run,
        settings=settings,
        trained=trained,
        base=base,
        base_fingerprint=quick_fingerprint(locate(settings.model.path)),
        usual=_usual(settings, base),
        eval_set=material.eval_set if material else None,
        folders=_folders(settings) if material else (),
        uses=uses,
        triggers=material.eval_set.triggers if material else named,
        kept=run.path / "diagnose",
    )


def _run_of(path: Path) -> RunFolder | None:
    """The run that a path means; ``None`` for a LoRA file that belongs to none.

    Raises:
        RunError: it is neither.
    """
    if not path.is_file():
        return existing_run_folder(path)
    for folder in runs_at(path):
        run = RunFolder(folder)
        if any(_is_same(file, path) for file in run.lora_files):
            return run
    if path.suffix.lower() not in _LORA_FILES:
        raise RunError.of(path, "is neither a run nor a LoRA", "name a run's folder or a LoRA file")
    return None


def _is_same(one: Path, other: Path) -> bool:
    return os.path.abspath(one) == os.path.abspath(other)


def _metadata(path: Path) -> dict[str, str]:
    """Empty for pickles."""
    if path.suffix.lower() != ".safetensors":
        return {}
    try:
        return dict(read_safetensors_header(path).metadata)
    except (ValueError, OSError) as error:
        hint = "copy or download it again"
        raise LoraFileError.of(path, f"cannot be read: {error}", hint) from error


def _refuse_other_kinds(run: RunFolder, settings: TrainSettings) -> None:
    """
    Raises:
        RunError: it trained no LoRA.
    """
    facts = kind_facts(settings)
    if "adapter" not in facts.sections:
        what = f"is not a LoRA's run: it trained {facts.title}"
        hint = f"lorasmith pick {shell_word(run.handle)} judges its snapshots"
        raise RunError.of(run.path, what, "" if facts.unjudged(settings) else hint)


def _file_alone(path: Path, model: str | None, data: Path | None, images: int) -> Subject:
    load_lora(path, finite=False)  # Says of what is no LoRA what it is.
    if model is None:
        what = "belongs to no run that would name its base model"
        raise UserError.of(path, what, "say which it is for with --model")
    metadata = _metadata(path)
    values = {"model.path": model}
    skip = metadata.get("ss_clip_skip", "")
    if skip.isdecimal() and len(skip) == 1:
        values["model.clip_skip"] = skip
    if data is not None:
        values["data.path"] = str(data)
    triggers = trigger_words(metadata)
    if triggers.said:
        values["captions.trigger"] = triggers.triggers[0]
    settings = load_settings(None, values)
    base = open_base(settings)
    settings = suit(settings, base).settings
    material: Material | None = open_material(settings, images) if data is not None else None
    return Subject(
        path=path,
        name=path.stem,
        fingerprint=quick_fingerprint(path),
        metadata=metadata,
        run=None,
        settings=settings,
        trained=None,
        base=base,
        base_fingerprint=quick_fingerprint(locate(settings.model.path)),
        usual=_usual(settings, base),
        eval_set=material.eval_set if material else None,
        folders=_folders(settings) if material else (),
        uses=_uses_said(metadata),
        triggers=material.eval_set.triggers if material else named_triggers(triggers),
        kept=path.with_name(f"{path.stem}.diagnose"),
    )


def named_triggers(words: TriggerWords) -> tuple[str, ...]:
    """What a file says that calls it: its own words, or tags of all its captions but for those that
    captions have whatever they show."""
    if words.said:
        return words.triggers
    return tuple(tag for tag in words.triggers if tag.replace("_", " ") not in GENERIC_TAGS)


def _usual(settings: TrainSettings, base: OpenedCheckpoint) -> SuitedSettings:
    """What suits the base, for the optimizer that the LoRA was trained with."""
    chosen = {
        "model.path": settings.model.path,
        "optimizer.name": settings.optimizer.name,
    }
    if settings.optimizer.name == "AdamW":
        del chosen["optimizer.name"]
    return suit(load_settings(None, chosen), base)


def _folders(settings: TrainSettings) -> tuple[Path, ...]:
    """Those of the training pictures."""
    data = settings.data
    named = [data.path, *(folder.path for folder in data.folders if not folder.reg)]
    return tuple(path for path in named if path is not None)


def _uses_said(metadata: dict[str, str]) -> float | None:
    """How often each image was shown, by a file's own metadata: steps and batch against images."""

    def number(name: str) -> float:
        text = metadata.get(f"ss_{name}", "")
        return float(text) if text.isdecimal() and len(text) < 12 else 0.0

    samples = number("steps") * number("total_batch_size")
    folders = trigger_words(metadata).folders
    images = sum(one.pictures or 0 for one in folders if not one.reg)
    weighted, reg = number("num_train_images"), number("num_reg_images")
    if not (samples and images and weighted):
        return None
    return samples * weighted / (weighted + reg) / images
