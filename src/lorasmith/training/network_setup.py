"""From settings to the adapters that are trained."""

from __future__ import annotations

from lorasmith.adapters.dropout import Dropout
from lorasmith.adapters.file import load_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.config.schema import TrainSettings
from lorasmith.events import Notice, Observer
from lorasmith.models.sd import DiffusionModel


def trains_text_encoder(settings: TrainSettings) -> bool:
    return settings.adapter.text_encoder and settings.optimizer.lrs["text_encoder"] > 0


def trains_unet(settings: TrainSettings) -> bool:
    return settings.adapter.unet and settings.optimizer.lrs["unet"] > 0


def build_network(
    settings: TrainSettings, model: DiffusionModel, observe: Observer
) -> AdapterNetwork:
    """The adapters of a new run, or those of the file that it goes on from; not attached."""
    adapter = settings.adapter
    dropout = Dropout(adapter.dropout, adapter.rank_dropout, adapter.module_dropout)
    if adapter.init_from is not None:
        trained = {"unet": trains_unet(settings), "text_encoder": trains_text_encoder(settings)}
        roots = [root for root in model.adapter_roots() if trained[root.part]]
        tensors = load_lora(adapter.init_from).tensors
        network = AdapterNetwork.load(tensors, roots, dropout=dropout, where=str(adapter.init_from))
        observe(Notice("info", f"training goes on from {adapter.init_from}; its ranks are kept"))
        if network.report.unmatched:
            left = len(network.report.unmatched)
            what = f"{left} of its tensors are of layers that this run does not train; left out"
            observe(Notice("warning", what))
        return network
    return AdapterNetwork.create(
        model.adapter_roots(),
        algorithm=adapter.type,
        rank=adapter.rank,
        alpha=adapter.alpha,
        conv_rank=adapter.conv_rank,
        conv_alpha=adapter.conv_alpha,
        unet=trains_unet(settings),
        text_encoder=trains_text_encoder(settings),
        dropout=dropout,
        seed=settings.train.seed,
    )
