"""What is known of how a LoRA was made: settings beside the base's usual ones, pictures, captions.

Torch-free but for what reads the base model's headers.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from lorasmith.advice.advise.damping import alpha_factor
from lorasmith.advice.audit.audit import audit_dataset
from lorasmith.advice.audit.finding import Finding
from lorasmith.advice.audit.inputs import AuditInputs
from lorasmith.advice.audit.rules import RULES
from lorasmith.advice.audit_rules.contradictions import contradictions
from lorasmith.advice.diagnose.subject import Subject
from lorasmith.config.adapter_types import ADAPTERS
from lorasmith.config.checks.base import trained_rates
from lorasmith.config.optimizers import OPTIMIZERS, optimizer_facts
from lorasmith.config.schema import TrainSettings
from lorasmith.config.sections.optimizer import USUAL_LR
from lorasmith.core.events import Controls, Observer, ignore
from lorasmith.core.files import read_safetensors_header
from lorasmith.curation.check.checks import is_sentence
from lorasmith.formats.layer_names import read_name
from lorasmith.lora_tools.inspect.training_summary import trigger_words
from lorasmith.models.open import locate
from lorasmith.training.runs.metadata import file_hashes
from lorasmith.training.setup.length import showings_of
from lorasmith.training.setup.preflight import folder_specs

Source = Literal["run", "metadata", "nothing"]

AUDITED = (
    "same-file",
    "near-duplicates",
    "contradiction",
    "likely-wrong-tag",
    "likely-missing-tag",
)
"""Rules of the audit that tell causes."""


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """
    Args:
        images: training images.
        tags: tags of a caption in the mean, without the trigger.
        prose: captions are sentences.
        tag_counts: captions by bare tag.
        contradictory: share of the captions with tags that exclude each other.
        repeated: share of all showings that are of one picture, copies of it counted together.
        repeated_image: which picture that is.
        copies: files that show it.
        findings: of the audit's rules in :data:`AUDITED`.
        command: what the commands of ``lorasmith dataset`` are told: its folders, quoted.
    """

    images: int
    tags: float
    prose: bool
    tag_counts: Mapping[str, int]
    contradictory: float
    repeated: float
    repeated_image: Path | None
    copies: int
    findings: tuple[Finding, ...]
    command: str

    @property
    def even_share(self) -> float:
        """Of the showings, if all pictures were shown alike."""
        return 1 / max(1, self.images - self.copies + 1)


@dataclass(frozen=True, slots=True)
class RunFacts:
    """
    Args:
        source: what tells the settings.
        lr: learning rate by trained part, "unet" and "text_encoder"; empty where nothing says it.
        usual_lr: what suits the base, by part; empty where it is unknown of the optimizer.
        sets_lr: the optimizer finds its own rate.
        rank, alpha: of Linear layers.
        scale: what the product of the two matrices is multiplied by; 1 where alpha is the rank.
        uses: how often each image was shown.
        usual_uses: how often a run of usual length shows it.
        clip_skip: that it was trained with; ``None`` for unknown.
        usual_clip_skip: that the base says it wants; ``None`` where it does not say.
        base: the name of the base that it was trained on; "" for unknown.
        same_base: whether that is the one given; ``None`` for unknown.
        given_base: the name of the one given.
        triggers: what calls it.
        captions_known: the captions, or the file, tell whether there is one.
        keeps_base: regularised, or the base's output preserved; ``None`` for unknown.
        run: the run's settings file, for commands; "" for a file alone.
        dataset: of its pictures, where they are there.
    """

    source: Source
    lr: Mapping[str, float]
    usual_lr: Mapping[str, float]
    sets_lr: bool = False
    rank: int | None = None
    alpha: float | None = None
    scale: float | None = None
    uses: float | None = None
    usual_uses: float | None = None
    clip_skip: int | None = 1
    usual_clip_skip: int | None = None
    base: str = ""
    same_base: bool | None = None
    given_base: str = ""
    triggers: tuple[str, ...] = ()
    captions_known: bool = True
    keeps_base: bool | None = None
    run: str = ""
    dataset: DatasetFacts | None = None

    def rate(self, part: str) -> float | None:
        """How many times the usual rate a part was trained with."""
        usual = self.usual_lr.get(part, 0.0)
        if part not in self.lr or usual <= 0 or self.sets_lr:
            return None
        return self.lr[part] / usual

    @property
    def length(self) -> float | None:
        """How many times the usual length it was trained."""
        if self.uses is None or not self.usual_uses:
            return None
        return self.uses / self.usual_uses

    def to_json(self) -> dict[str, Any]:
        dataset = self.dataset
        return {
            "source": self.source,
            "lr": dict(self.lr),
            "usual_lr": dict(self.usual_lr),
            "rank": self.rank,
            "alpha": self.alpha,
            "scale": self.scale,
            "showings": self.uses,
            "usual_showings": self.usual_uses,
            "clip_skip": self.clip_skip,
            "usual_clip_skip": self.usual_clip_skip,
            "trained_on": self.base,
            "same_base": self.same_base,
            "triggers": list(self.triggers),
            "keeps_base": self.keeps_base,
            "pictures": dataset.images if dataset else None,
            "tags_per_caption": dataset.tags if dataset else None,
            "most_repeated": dataset.repeated if dataset else None,
        }


def facts_of(
    subject: Subject, observer: Observer = ignore, controls: Controls | None = None
) -> RunFacts:
    """
    Raises:
        Stopped: by the controls, while the pictures are looked at.
    """
    dataset = dataset_facts(subject, observer, controls or Controls()) if subject.folders else None
    images = dataset.images if dataset else subject.eval_set.trained if subject.eval_set else None
    settings = subject.usual.settings
    usual_uses = showings_of(images, settings.train) if images else None
    said_skip = subject.usual.suggested.get("model.clip_skip")
    shared: dict[str, Any] = {
        "usual_lr": _usual_lr(subject),
        "uses": subject.uses,
        "usual_uses": usual_uses,
        "usual_clip_skip": said_skip if isinstance(said_skip, int) else None,
        "triggers": subject.triggers,
        "captions_known": subject.eval_set is not None or tells_tags(subject.metadata),
        "dataset": dataset,
        **_base_facts(subject),
    }
    if subject.trained is not None:
        return _of_settings(subject, subject.trained, shared)
    return _of_metadata(subject.metadata, shared, file_parts(subject.path))


def _of_settings(subject: Subject, trained: TrainSettings, shared: dict[str, Any]) -> RunFacts:
    adapter, optimizer = trained.adapter, trained.optimizer
    has_alpha = "alpha" in ADAPTERS[adapter.type].options
    alpha = adapter.effective_alpha if has_alpha else None
    scale = alpha_factor(adapter.rank, alpha, rs_lora=adapter.rs_lora) if alpha else None
    regularised = subject.eval_set.regularised if subject.eval_set else None
    preserved = trained.preservation.enabled
    if preserved == "auto" and regularised is not None:
        preserved = bool(subject.triggers) and not regularised
    keeps = None if regularised is None else bool(regularised or preserved is True)
    assert subject.run is not None
    return RunFacts(
        source="run",
        lr={part: lr for part, lr in trained_rates(trained).items() if lr},
        sets_lr=optimizer_facts(optimizer.name).adaptive,
        rank=adapter.rank,
        alpha=alpha,
        scale=scale,
        clip_skip=trained.model.clip_skip,
        keeps_base=keeps,
        run=str(subject.run.settings),
        **shared,
    )


def tells_tags(metadata: Mapping[str, str]) -> bool:
    """Whether a file has the tags of its captions; parts of sentences are none."""
    folders = trigger_words(metadata).folders
    tags = [tag for folder in folders if not folder.reg for tag in folder.tags]
    return bool(tags) and sum(map(is_sentence, tags)) <= len(tags) / 2


def file_parts(path: Path) -> set[str] | None:
    """The parts that a LoRA's file has weights of, "unet" and "text_encoder"; ``None`` where its
    names do not tell, or it is no safetensors file."""
    try:
        names = read_safetensors_header(path).tensors
    except (ValueError, OSError):
        return None
    layers = filter(None, map(read_name, names))
    return {layer.part.removesuffix("_2") for layer in layers} or None


def _of_metadata(
    metadata: Mapping[str, str], shared: dict[str, Any], parts: set[str] | None = None
) -> RunFacts:
    """
    Args:
        parts: that the file has weights of; ``None`` for unknown.
    """

    def number(name: str) -> float | None:
        # Newer sd-scripts write a rate for each text encoder: "[5e-05, 5e-05]".
        text = metadata.get(f"ss_{name}", "").strip("[] ").partition(",")[0]
        try:
            value = float(text)
        except ValueError:
            return None
        return value if math.isfinite(value) else None

    lr = number("learning_rate")
    said = {"unet": number("unet_lr"), "text_encoder": number("text_encoder_lr")}
    rates = {part: lr if rate is None else rate for part, rate in said.items()}
    rank, alpha, skip = number("network_dim"), number("network_alpha"), number("clip_skip")
    optimizer = metadata.get("ss_optimizer", "").partition("(")[0].rpartition(".")[2]
    if optimizer:
        shared = {**shared, "usual_lr": _usual_of(optimizer, shared["usual_lr"])}
    return RunFacts(
        source="metadata" if any(key.startswith("ss_") for key in metadata) else "nothing",
        lr={part: rate for part, rate in rates.items() if rate and part in (parts or rates)},
        sets_lr=optimizer_facts(optimizer).adaptive if optimizer else False,
        rank=int(rank) if rank else None,
        alpha=alpha,
        scale=alpha / rank if rank and alpha else None,
        # sd-scripts write None for 1; a file without the entry tells nothing.
        clip_skip=int(skip or 1) if "ss_clip_skip" in metadata else None,
        **shared,
    )


def _usual_of(optimizer: str, adamw: Mapping[str, float]) -> Mapping[str, float]:
    """By part, what suits an optimizer that a file names by its class; empty for unknown.

    Args:
        adamw: what suits AdamW, which the base model may say.
    """
    # By the classes, too: "SGD" is SGDNesterov's.
    classes = {facts.path.rpartition(".")[2]: facts for facts in OPTIMIZERS.values()}
    plain = re.sub("^Paged|(8|32)bit$", "", optimizer)
    facts = OPTIMIZERS.get(plain) or classes.get(plain)
    if facts is None or facts.lr is None:
        return {}
    if facts.lr == OPTIMIZERS["AdamW"].lr:
        return adamw
    return dict.fromkeys(adamw, facts.lr)


def _usual_lr(subject: Subject) -> dict[str, float]:
    usual = subject.usual
    name = subject.settings.optimizer.name
    if name != "AdamW" and "optimizer.lr" not in usual.origins:
        rate = optimizer_facts(name).lr or USUAL_LR
        return {"unet": rate, "text_encoder": rate}
    return usual.settings.optimizer.lrs


def _base_facts(subject: Subject) -> dict[str, Any]:
    """By the hashes that its file holds of the base; by the names where it holds none."""
    model = subject.settings.model.path
    trained_on = subject.metadata.get("ss_sd_model_name", "")
    if subject.trained is not None:
        trained_on = subject.trained.model.path
    path = locate(model)
    old, new = file_hashes(path, subject.kept / "models.json")
    same: bool | None = None
    for key, own in (("ss_new_sd_model_hash", new), ("ss_sd_model_hash", old)):
        said = subject.metadata.get(key)
        if said and own and same is None:
            same = said == own
    if same is None and subject.trained is not None:
        same = str(locate(subject.trained.model.path)) == str(path)
    return {"base": trained_on, "same_base": same, "given_base": str(model)}


def dataset_facts(subject: Subject, observer: Observer, controls: Controls) -> DatasetFacts:
    inputs = AuditInputs(
        subject.folders,
        subject.settings.data.reg,
        subject.settings,
        observer,
        controls,
    )
    # With the repeats, captions and triggers of each of ``data.folders``; sizes are all alike here.
    inputs.folder_specs = [replace(spec, group=0) for spec in folder_specs(subject.settings)]
    rules = [rule for rule in RULES if rule.id in AUDITED]
    audit = audit_dataset(inputs, rules=rules)
    captions = inputs.captions
    uses: Counter[Path] = Counter()
    for item in inputs.items:
        uses[item.image.path] += item.repeats
    groups = [one.images for one in audit.findings if one.rule in ("same-file", "near-duplicates")]
    groups = _joined(groups) or []
    shares = [(sum(uses[path] for path in group), group) for group in groups]
    shares += [(count, (path,)) for path, count in uses.items()]
    most, group = max(shares, key=lambda one: one[0], default=(0, ()))
    contradictory = [bool(contradictions(one.names)) for one in captions if one.text]
    return DatasetFacts(
        images=len(captions),
        tags=fmean(len(one.names) for one in captions) if captions else 0.0,
        prose=sum(one.is_prose for one in captions) > len(captions) / 2,
        tag_counts=dict(inputs.tags.counts),
        contradictory=fmean(contradictory) if contradictory else 0.0,
        repeated=most / max(1, uses.total()),
        repeated_image=group[0] if group else None,
        copies=len(group),
        findings=audit.findings,
        command=inputs.command("VERB").partition("VERB")[2].strip(),
    )


def _joined(groups: list[tuple[Path, ...]]) -> list[tuple[Path, ...]]:
    """Groups that share an image as one."""
    joined: list[set[Path]] = []
    for group in groups:
        near = [one for one in joined if one & set(group)]
        joined = [one for one in joined if one not in near]
        joined.append(set(group).union(*near))
    return [tuple(sorted(one)) for one in joined]
