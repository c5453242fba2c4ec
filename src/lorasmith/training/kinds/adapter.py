"""Adapters as what is trained, ``train.kind = "lora"``: from settings to a network of them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from typing import TYPE_CHECKING

from lorasmith.adapters.base import AdapterOptions
from lorasmith.adapters.dropout import Dropout
from lorasmith.adapters.file import load_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.adapters.registry import READ_ONLY
from lorasmith.adapters.targets import (
    ONLY,
    PRESETS,
    BlockSizes,
    Selection,
    Size,
    matches,
    select,
    unmatched,
)
from lorasmith.config.adapter_types import ADAPTERS
from lorasmith.config.schema import TrainSettings
from lorasmith.config.sections.adapter import AdapterSettings
from lorasmith.core.errors import Problem, SettingsError
from lorasmith.core.events import Notice, Observer, ignore
from lorasmith.data.dataset import Dataset
from lorasmith.formats.adapter_roots import AdapterRoot
from lorasmith.formats.block_weights import BlockMap, learning_weights, sizes
from lorasmith.formats.embedding_header import read_embedding_header
from lorasmith.models.families.table import Architecture
from lorasmith.models.open import OpenedCheckpoint
from lorasmith.models.skeleton import skeleton_roots, stored_shapes
from lorasmith.training.kinds.kind import FlatKind, MemoryChange, NetworkFacts
from lorasmith.training.kinds.network_metadata import network_facts
from lorasmith.training.kinds.trained import Trained

if TYPE_CHECKING:
    from lorasmith.models.diffusion_model import DiffusionModel


class AdapterKind(FlatKind):
    """A LoRA of any of the types; see :class:`lorasmith.training.kinds.kind.Kind`."""

    size_name = "alpha / rank"
    modelspec = "/lora"

    def check_files(self, settings: TrainSettings) -> None:
        if settings.adapter.init_from is not None:
            load_lora(settings.adapter.init_from)

    def check_model(self, settings: TrainSettings, checkpoint: OpenedCheckpoint) -> None:
        if settings.adapter.names_layers:
            self.planned(settings, checkpoint)

    def oddities(self, settings: TrainSettings, dataset: Dataset) -> Iterator[Problem]:
        for word in words_of_start(settings.adapter):
            what = f"{word!r}, a word that {settings.adapter.init_from} carries, is left out: to "
            what += "this run it is plain text"
            hint = 'set train.kind = "lora+embedding" to go on with it'
            yield Problem("adapter.init_from", what, hint)

    def trains_text(self, settings: TrainSettings) -> bool:
        return trains_text_encoder(settings)

    def build(
        self, settings: TrainSettings, model: DiffusionModel, observe: Observer = ignore
    ) -> AdapterNetwork:
        """The adapters of a new run, or those of the file that it goes on from."""
        start = settings.adapter.init_from
        network = make_network(settings, model.architecture, model.adapter_roots())
        if start is not None:
            observe(Notice("info", f"training goes on from {start}; its types and ranks are kept"))
            if network.report.unmatched:
                count = len(network.report.unmatched)
                what = f"{count} of its tensors are of layers that this run does not train"
                observe(Notice("warning", f"{what}; left out"))
        return network

    def planned(self, settings: TrainSettings, checkpoint: OpenedCheckpoint) -> AdapterNetwork:
        """The very adapters that a run will have. The layers are read from the weights' names and
        shapes, so that neither diffusers nor transformers is imported."""
        roots = skeleton_roots(checkpoint.architecture, stored_shapes(checkpoint))
        return make_network(settings, checkpoint.architecture, roots)

    def plan_key(self, settings: TrainSettings) -> Hashable | None:
        adapter, optimizer = settings.adapter, settings.optimizer
        if adapter.init_from is not None:
            return None
        zero = tuple(rate == 0 for rate in optimizer.lrs.values())
        return repr(adapter), settings.train.seed, optimizer.loraplus_ratio, zero

    def size(self, settings: TrainSettings, part: str) -> str:
        adapter = settings.adapter
        if adapter.block_ranks or adapter.block_alphas:
            return "by block"
        return f"{adapter.effective_alpha:g} / {adapter.rank}"

    def memory_changes(self) -> tuple[MemoryChange, ...]:
        def trains_both(s: TrainSettings) -> bool:
            return trains_text_encoder(s) and trains_denoiser(s)

        return (MemoryChange("adapter.text_encoder", False, trains_both),)

    def network_facts(self, settings: TrainSettings, trained: Trained) -> NetworkFacts:
        assert isinstance(trained, AdapterNetwork)
        return network_facts(settings.adapter, trained, settings.optimizer.loraplus_ratio)

    def describe(self, settings: TrainSettings, trained: Trained) -> str:
        facts = self.network_facts(settings, trained)
        return f"{settings.adapter.type}, rank {facts.dim}, alpha {facts.alpha}"

    def next_steps(
        self, settings: TrainSettings, run: str, result: str, *, drawn: bool
    ) -> dict[str, str]:
        return self.comparisons(settings, run, drawn=drawn, rows="strengths")

    def prompt(self, prompt: str, name: str) -> str:
        return f"{prompt} <lora:{name}:1>"


def words_of_start(adapter: AdapterSettings) -> Mapping[str, int]:
    """How many vectors each word has that the file to go on from carries."""
    return {} if adapter.init_from is None else read_embedding_header(adapter.init_from).bundled


def trains_text_encoder(settings: TrainSettings) -> bool:
    return settings.adapter.parts["text_encoder"] and settings.optimizer.lrs["text_encoder"] > 0


def trains_denoiser(settings: TrainSettings) -> bool:
    return settings.adapter.parts["unet"] and settings.optimizer.lrs["unet"] > 0


def adapter_options(adapter: AdapterSettings) -> AdapterOptions:
    """The section's options of types, which have the same names."""
    return AdapterOptions(
        **{one.name: getattr(adapter, one.name) for one in fields(AdapterOptions)}
    )


def make_network(
    settings: TrainSettings, architecture: Architecture, roots: Sequence[AdapterRoot]
) -> AdapterNetwork:
    """The adapters that the settings ask for, on ``roots``.

    Raises:
        UserError: a pattern names no layer, blocks do not fit, nothing is left to train, or the
            file to go on from does not fit.
    """
    adapter = settings.adapter
    trains = {"unet": trains_denoiser(settings), "text_encoder": trains_text_encoder(settings)}
    selection = selection_of(adapter)
    check_patterns(adapter, selection, roots)
    trained_roots = [root for root in roots if trains[root.part]]
    rule = block_sizes(adapter, architecture)
    dropout = Dropout(adapter.dropout, adapter.rank_dropout, adapter.module_dropout)
    if adapter.init_from is not None:
        network = _continued(adapter, trained_roots, selection, rule, dropout)
    else:
        network = AdapterNetwork.create_sized(
            trained_roots,
            rule,
            algorithm=adapter.type,
            options=adapter_options(adapter),
            selection=selection,
            dropout=dropout,
            seed=settings.train.seed,
        )
    network.rates, network.up_rate = rule.rate, settings.optimizer.loraplus_ratio
    network.norm_limit = adapter.scale_weight_norms
    if not len(network):
        what = "targets, patterns, blocks and parts leave no layer to train"
        raise SettingsError.of("adapter", what, "lorasmith train --plan shows what is chosen")
    return network


def _continued(
    adapter: AdapterSettings,
    roots: list[AdapterRoot],
    selection: Selection,
    rule: BlockSizes,
    dropout: Dropout,
) -> AdapterNetwork:
    """The file's adapters, but for layers that the settings leave out by name or block."""
    assert adapter.init_from is not None
    tensors = load_lora(adapter.init_from).tensors
    network = AdapterNetwork.load(
        tensors, roots, algorithm=adapter.type, dropout=dropout, where=str(adapter.init_from)
    )
    for module in network.adapters.values():
        module.take_options(adapter_options(adapter))
    if adapter.targets is None:  # All that the file has, whatever a new one would have.
        keys = set(network.targets) - {
            key
            for key, target in network.targets.items()
            if any(matches(pattern, target) for pattern in adapter.exclude)
        }
    else:
        keys = {target.key for target in select(roots, selection)}
    network = network.filter(lambda target: target.key in keys and rule.rate(target) > 0)
    if fixed := [key for key, one in network.adapters.items() if isinstance(one, READ_ONLY)]:
        what = f"{len(fixed)} of its modules are of types that cannot be trained ({fixed[0]}, …)"
        hint = "leave them out with adapter.exclude, or bake the file into the base model"
        raise SettingsError.of(f"adapter.init_from {adapter.init_from}", what, hint)
    return network


def selection_of(adapter: AdapterSettings) -> Selection:
    """Which layers the settings choose, blocks aside."""
    default = ADAPTERS[adapter.type].targets or "attn-mlp"
    return Selection(
        (default,) if adapter.targets is None else tuple(adapter.targets),
        tuple(adapter.include),
        tuple(adapter.exclude),
        conv=adapter.effective_conv_rank > 0 or adapter.conv_block_ranks is not None,
    )


def check_patterns(
    adapter: AdapterSettings, selection: Selection, roots: Sequence[AdapterRoot]
) -> None:
    """Raises SettingsError for patterns that name no layer of the model, with near names."""
    problems = []
    groups = {
        "targets": selection.patterns, "include": selection.include, "exclude": selection.exclude
    }  # fmt: skip
    for name, patterns in groups.items():
        for pattern, near in unmatched(roots, patterns, norms=name == "exclude").items():
            presets = [*PRESETS, *ONLY] if name == "targets" else []
            close = get_close_matches(pattern, presets, n=1) or near
            what = f"{pattern!r} names no layer of this model" + (
                " and is no preset" * bool(presets)
            )
            hint = (
                f"did you mean {' or '.join(close)}?"
                if close
                else f"presets: {', '.join([*PRESETS, *ONLY])}"
            )
            problems.append(Problem(f"adapter.{name}", what, hint))
    if problems:
        raise SettingsError(problems)


def block_sizes(adapter: AdapterSettings, architecture: Architecture) -> BlockSizes:
    """Rank, alpha and learning rate of every layer.

    Raises:
        SettingsError: the weights are of a model with more or fewer blocks.
    """
    blocks = architecture.blocks
    conv: Size | None = Size(adapter.effective_conv_rank, adapter.effective_conv_alpha)
    if adapter.conv_rank == 0 or (adapter.conv_block_ranks and not adapter.effective_conv_rank):
        conv = None
    elif adapter.conv_rank is None:  # Convolutions that targets name though the type has none.
        conv = Size(adapter.rank, adapter.effective_conv_alpha)
    return BlockSizes(
        blocks,
        Size(adapter.rank, adapter.alpha),
        conv,
        weights=_weights(adapter, blocks),
        ranks=sizes(adapter.block_ranks or {}, whole=True),
        alphas=sizes(adapter.block_alphas or {}, whole=False),
        conv_ranks=sizes(adapter.conv_block_ranks or {}, whole=True),
        conv_alphas=sizes(adapter.conv_block_alphas or {}, whole=False),
    )


def _weights(adapter: AdapterSettings, blocks: BlockMap) -> dict[str, float]:
    if adapter.blocks is None:
        return {}
    threshold = adapter.block_lr_zero_threshold
    try:
        weights = learning_weights(adapter.blocks, side=blocks.side, threshold=threshold)
    except ValueError as error:
        hint = f"the model has {blocks.names[1]} to {blocks.names[-1]}"
        raise SettingsError(Problem("adapter.blocks", str(error), hint)) from None
    return {block: weights[block] for block in blocks.names}
