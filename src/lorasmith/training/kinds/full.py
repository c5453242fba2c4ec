"""A base's own weights as what is trained, ``train.kind = "full"``."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lorasmith.adapters.targets import Target
from lorasmith.config.checks.table import contradictions
from lorasmith.config.optimizers import optimizer_facts
from lorasmith.config.schema import TrainSettings, replace_settings
from lorasmith.core.disk import remove_file, remove_folder
from lorasmith.core.errors import SettingsError, UserError
from lorasmith.core.events import Controls, Notice, Observer, ignore
from lorasmith.formats.run_paths import diffusers_folder, extracted_path
from lorasmith.lora_tools.extract import Parts, extract
from lorasmith.models.open import OpenedCheckpoint, open_checkpoint
from lorasmith.models.reference import ModelReference
from lorasmith.models.skeleton import skeleton_roots, stored_shapes
from lorasmith.tensors.files import PRECISIONS
from lorasmith.tensors.rounding import StochasticRounding
from lorasmith.training.kinds.full_checkpoint import FullCheckpoint, stored_dtype
from lorasmith.training.kinds.full_weights import FullWeights, Weight, choose_weights, holding
from lorasmith.training.kinds.kind import Disk, MemoryChange, NetworkFacts, PlainKind
from lorasmith.training.kinds.trained import Trained
from lorasmith.training.kinds.weight_groups import ParameterwiseOptimizer, WeightGroup
from lorasmith.training.optim import Group, build_optimizer, shared_rates
from lorasmith.training.setup.base_model import open_base

if TYPE_CHECKING:
    from lorasmith.models.diffusion_model import DiffusionModel


class CheckpointOnModel:
    """The weights of UNet and text encoders; the VAE stays the base's, which none of a run's
    checkpoints changes. See :class:`lorasmith.measures.on_model.SnapshotOnModel`.

    Raises:
        CheckpointError: the file is damaged.
    """

    def __init__(self, path: Path, model: DiffusionModel) -> None:
        # It imports diffusers, and who asks what a run would cost needs none of it.
        from lorasmith.models.load import load_model

        other = load_model(ModelReference(path), dtype=model.dtype, device=torch.device("cpu"))
        theirs = {root.folder: root.module for root in other.adapter_roots()}
        self._own: list[nn.Parameter] = []
        self._new: list[Tensor] = []
        squares: dict[str, float] = {}
        for root in model.adapter_roots():
            for name, own in root.module.named_parameters():
                new = theirs[root.folder].get_parameter(name).data
                moved = (new.float() - own.data.float().cpu()).square().sum()
                squares[root.part] = squares.get(root.part, 0.0) + float(moved)
                self._own.append(own)
                self._new.append(new)
        self._norms = {part: math.sqrt(square) for part, square in squares.items()}

    def attached(self) -> contextlib.AbstractContextManager[object]:
        return holding(self._own, self._new, park=True)

    def set_strength(self, strength: float) -> None:
        assert strength == 1, "a checkpoint has no strength"

    def norms(self) -> dict[str, float]:
        return dict(self._norms)


class FullKind(PlainKind):
    """A checkpoint; see :class:`lorasmith.training.kinds.kind.Kind`."""

    size_name = "held in"
    modelspec = ""
    large_files = True

    def check_model(self, settings: TrainSettings, checkpoint: OpenedCheckpoint) -> None:
        FullCheckpoint(checkpoint, [w.place for w in self.planned(settings, checkpoint).weights])

    def trains_text(self, settings: TrainSettings) -> bool:
        return settings.full.text_encoder and settings.optimizer.lrs["text_encoder"] > 0

    def build(
        self, settings: TrainSettings, model: DiffusionModel, observe: Observer = ignore
    ) -> FullWeights:
        roots = model.adapter_roots()
        networks: dict[str, nn.Module] = {root.folder: root.module for root in roots}
        names = {
            folder: [name for name, _ in network.named_parameters()]
            for folder, network in networks.items()
        }
        chosen = _with_rate(settings, choose_weights(settings.full, roots, names))
        places = [(target.root.folder, name) for target, name in chosen]
        parameters = [networks[folder].get_parameter(name) for folder, name in places]
        checkpoint = None
        masters: dict[tuple[str, str], nn.Parameter] = {}
        needs_masters = settings.full.weights == "fp32" and model.dtype != torch.float32
        if model.device.type != "meta":
            checkpoint = FullCheckpoint(open_base(settings), places)
            if needs_masters:  # From the file: what the model has is rounded.
                numbers = checkpoint.read(torch.float32, model.device)
                masters = {place: nn.Parameter(tensor) for place, tensor in numbers}
        elif needs_masters:
            masters = {
                place: nn.Parameter(torch.empty_like(parameter, dtype=torch.float32))
                for place, parameter in zip(places, parameters, strict=True)
            }
        weights = [
            Weight(target, name, parameter, masters.get((target.root.folder, name)))
            for (target, name), parameter in zip(chosen, parameters, strict=True)
        ]
        rounding = StochasticRounding(settings.train.seed)
        return FullWeights(networks, weights, checkpoint, rounding, observe)

    def planned(self, settings: TrainSettings, checkpoint: OpenedCheckpoint) -> FullWeights:
        shapes = stored_shapes(checkpoint)
        roots = skeleton_roots(checkpoint.architecture, shapes)
        chosen = _with_rate(settings, choose_weights(settings.full, roots, shapes))
        weights = [
            Weight(target, name, nn.Parameter(torch.empty(shapes[target.root.folder][name],
                                                          device="meta")))
            for target, name in chosen
        ]  # fmt: skip
        return FullWeights({}, weights, None, StochasticRounding(settings.train.seed))

    def passes(self, settings: TrainSettings) -> float:
        # Weights take gradients too, which costs what they cost forward; of some layers less.
        return 1 if settings.full.unet else 0

    def packs(self, settings: TrainSettings) -> bool:
        return not settings.full.unet

    def plan_key(self, settings: TrainSettings) -> Hashable | None:
        zero = tuple(rate == 0 for rate in settings.optimizer.lrs.values())
        return repr(settings.full), zero

    def size(self, settings: TrainSettings, part: str) -> str:
        return settings.full.weights

    def disk(self, settings: TrainSettings, planned: Trained, checkpoint: OpenedCheckpoint) -> Disk:
        assert isinstance(planned, FullWeights)
        file = FullCheckpoint(checkpoint, [weight.place for weight in planned.weights]).size
        shapes = [tuple(weight.parameter.shape) for weight in planned.weights]
        numbers = sum(map(math.prod, shapes))
        facts = optimizer_facts(settings.optimizer.name)
        averages = numbers if settings.train.ema else 0
        beside = sum(facts.values_for(shape) for shape in shapes) + averages
        held = PRECISIONS[settings.full.weights].itemsize
        return Disk(
            "checkpoints",
            file,
            held * numbers + int(4 * beside),
            {
                **_extracted_bytes(settings.full.extract_rank, shapes),
                **({"diffusers folder": file} if settings.full.diffusers else {}),
            },
        )

    def memory_changes(self) -> tuple[MemoryChange, ...]:
        def can_be_bf16(s: TrainSettings) -> bool:
            return s.full.weights == "fp32" and s.train.precision == "bf16"

        def can_be_fused(s: TrainSettings) -> bool:
            if s.full.fused_backward:
                return False
            return not contradictions(replace_settings(s, {"full.fused_backward": True}))

        return (
            MemoryChange("full.fused_backward", True, can_be_fused),
            MemoryChange("full.weights", "bf16", can_be_bf16),
            MemoryChange("optimizer.name", "AdaFactor", lambda s: s.optimizer.name == "AdamW8bit"),
            MemoryChange("full.text_encoder", False, lambda s: s.full.text_encoder and s.full.unet),
        )

    def network_facts(self, settings: TrainSettings, trained: Trained) -> NetworkFacts:
        return NetworkFacts()

    def describe(self, settings: TrainSettings, trained: Trained) -> str:
        parts = {"unet": settings.full.unet, "text encoder": settings.full.text_encoder}
        trained_parts = " and ".join(part for part, is_trained in parts.items() if is_trained)
        return f"full fine-tuning of {trained_parts}, layers {', '.join(settings.full.layers)}"

    def next_steps(
        self, settings: TrainSettings, run: str, result: str, *, drawn: bool
    ) -> dict[str, str]:
        return {
            f'lorasmith generate --model {result} "PROMPT"': "draw with the checkpoint",
            **self.comparisons(settings, run, drawn=drawn),
        }

    def further_files(self, settings: TrainSettings, result: Path) -> tuple[Path, ...]:
        rank = settings.full.extract_rank
        return () if rank is None else (extracted_path(result, rank),)

    def finish(
        self, settings: TrainSettings, result: Path, observe: Observer, controls: Controls
    ) -> None:
        """A diffusers folder, for ``full.diffusers``; the difference as a LoRA, for
        ``full.extract_rank``."""
        if settings.full.diffusers:
            self._as_folder(result, observe, controls)
        rank = settings.full.extract_rank
        if rank is None:
            return
        out = extracted_path(result, rank)
        remove_file(out)  # Of a shorter run.
        both = settings.full.unet and settings.full.text_encoder
        parts: Parts = "all" if both else "unet" if settings.full.unet else "text-encoder"
        try:
            report = extract(
                settings.model.path, result, out, rank=rank, type="locon", parts=parts,
                min_diff=0.0, observer=observe, controls=controls,
            )  # fmt: skip
        except UserError as error:  # Training is done, whatever comes of this.
            observe(Notice("warning", f"full.extract_rank: no LoRA was made: {error}"))
            return
        what = f"a LoRA of rank {rank} of the difference, which lacks {report.error:.0%} of it"
        observe(Notice("info", f"{out}: {what}"))

    def _as_folder(self, result: Path, observe: Observer, controls: Controls) -> None:
        # They import diffusers, and who asks what a run would cost needs none of it.
        from lorasmith.models.load import Loading
        from lorasmith.training.kinds.full_diffusers import save_diffusers

        controls.check("stopped before the diffusers folder was written; go on to have it written")
        folder = diffusers_folder(result)
        try:
            if folder.exists():  # Of a shorter run.
                remove_folder(folder)
            opened = open_checkpoint(result)
            parts = opened.architecture.family.parts
            vae = stored_dtype(opened, ("vae",))
            dtype = stored_dtype(opened, [part for part in parts if part != "vae"])
            loading = Loading(opened, dtype=dtype, vae_dtype=vae)
            loading.fill(*parts)
            save_diffusers(loading.model, folder)
        except UserError as error:  # Training is done, whatever comes of this.
            observe(Notice("warning", f"full.diffusers: no folder was made: {error}"))
            return
        observe(Notice("info", f"{folder}: the checkpoint as a diffusers folder"))

    def prompt(self, prompt: str, name: str) -> str:
        return prompt

    def on_model(
        self, settings: TrainSettings, path: Path, model: DiffusionModel
    ) -> CheckpointOnModel:
        return CheckpointOnModel(path, model)

    def groups(
        self, settings: TrainSettings, trained: Trained, compute: torch.dtype
    ) -> list[WeightGroup]:
        assert isinstance(trained, FullWeights)
        parts, optimizer = trained.parameter_groups(), settings.optimizer
        rates = shared_rates(optimizer.name, [optimizer.lrs[part.part] for part in parts])
        return [
            WeightGroup(
                part.name,
                [weight.parameter for weight in part.weights],
                [weight.master for weight in part.weights if weight.master is not None] or None,
                *rate,
                fused=settings.full.fused_backward,
            )
            for part, rate in zip(parts, rates, strict=True)
        ]

    def optimizer(
        self, settings: TrainSettings, trained: Trained, groups: Sequence[Group]
    ) -> torch.optim.Optimizer:
        assert isinstance(trained, FullWeights)
        weight_groups = [group for group in groups if isinstance(group, WeightGroup)]
        name, args = settings.optimizer.name, settings.optimizer.args
        fused = settings.full.fused_backward
        if fused or settings.full.weights == "bf16":
            return ParameterwiseOptimizer(
                name,
                weight_groups,
                args,
                trained.rounding,
                fused=fused,
                max_grad_norm=settings.optimizer.max_grad_norm,
            )
        optimizer = build_optimizer(name, groups, args)

        def sync(*_: object) -> None:
            for group in weight_groups:
                group.sync()

        optimizer.register_step_post_hook(sync)
        return optimizer


def _extracted_bytes(rank: int | None, shapes: Sequence[tuple[int, ...]]) -> dict[str, int]:
    """Of the LoRA of the difference, in fp16: two factors for each matrix and convolution."""
    if rank is None:
        return {}
    sides = [(shape[0], math.prod(shape[1:])) for shape in shapes if len(shape) > 1]
    numbers = sum(min(rank, *each) * sum(each) for each in sides)
    return {"extracted LoRA": numbers * torch.float16.itemsize}


def _with_rate(
    settings: TrainSettings, chosen: Sequence[tuple[Target, str]]
) -> list[tuple[Target, str]]:
    """Those of parts that have a learning rate."""
    lrs: Mapping[str, float] = settings.optimizer.lrs
    trained = [(target, name) for target, name in chosen if lrs[target.part] > 0]
    if not trained:
        what = "layers leave nothing of the parts that have a learning rate"
        raise SettingsError.of("full.layers", what, 'say "all"')
    return trained
