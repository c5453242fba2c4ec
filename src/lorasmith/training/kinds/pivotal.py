"""Pivotal tuning, ``train.kind = "lora+embedding"``: a LoRA and the words that call it, together.

Roich et al. 2021, "Pivotal Tuning for Latent-based Editing of Real Images", as trainers of LoRAs
have taken it over (cloneofsimo's, diffusers' advanced scripts): words find the place that the base
can draw best, and the LoRA what it cannot. Both are in one file, as LoRA files carry embeddings.
"""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from lorasmith.adapters.attachable import Attachable
from lorasmith.adapters.file import save_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.config.schema import TrainSettings
from lorasmith.core.errors import Problem, PromptError
from lorasmith.core.events import Controls, Notice, Observer, ignore
from lorasmith.core.text import quantity
from lorasmith.data.dataset import Dataset
from lorasmith.data.triggers import Trigger
from lorasmith.formats.embedding_keys import part_keys
from lorasmith.models.embedding_file import load_embedding
from lorasmith.models.open import OpenedCheckpoint
from lorasmith.models.placeholders import Placeholders
from lorasmith.training.kinds.adapter import AdapterKind, words_of_start
from lorasmith.training.kinds.embedding import EmbeddingKind, TrainedEmbeddings
from lorasmith.training.kinds.kind import FlatKind, MemoryChange, NetworkFacts
from lorasmith.training.kinds.trained import Trained, TrainedGroup

if TYPE_CHECKING:
    from lorasmith.models.diffusion_model import DiffusionModel


class NetworkWithWords(Attachable):
    """Adapters, and words of one's own; see :class:`lorasmith.training.kinds.trained.Trained`."""

    def __init__(self, network: AdapterNetwork, words: TrainedEmbeddings) -> None:
        self.network, self.words = network, words

    def __str__(self) -> str:
        return f"{self.network} and {self.words}"

    def attach(self) -> None:
        # In this order: adapters freeze all that they find in the model.
        self.network.attach()
        self.words.attach()

    def detach(self) -> None:
        self.words.detach()
        self.network.detach()

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        """Without the adapters, and the words as they were at first."""
        with self.network.disabled(), self.words.disabled():
            yield

    def parameter_groups(self) -> Sequence[TrainedGroup]:
        return [*self.network.parameter_groups(), *self.words.parameter_groups()]

    def holders(self) -> Mapping[str, nn.Module]:
        return {**self.network.holders(), **self.words.holders()}

    def layers(self) -> Mapping[str, nn.Module]:
        return {**self.network.layers(), **self.words.layers()}

    @property
    def masks_ahead(self) -> bool:
        return self.network.masks_ahead

    def begin_update(self, step: int) -> None:
        self.network.begin_update(step)
        self.words.begin_update(step)

    def begin_step(self, seed: int, step: int, samples: Sequence[int], **noise: Any) -> None:
        self.network.begin_step(seed, step, samples, **noise)

    def end_step(self) -> None:
        self.network.end_step()

    def end_update(self) -> None:
        self.network.end_update()
        self.words.end_update()

    def state_dict(self, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        return {**self.network.state_dict(dtype), **self.words.state_dict(dtype)}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        own = self.words.state_dict().keys()
        self.words.load_state_dict({key: tensors[key] for key in own})
        self.network.load_state_dict({k: t for k, t in tensors.items() if k not in own})

    def save(self, path: Path, metadata: Mapping[str, str], dtype: torch.dtype) -> None:
        save_lora(path, self.state_dict(dtype), metadata)

    def as_saved(self, dtype: torch.dtype) -> Self:
        return type(self)(self.network.as_saved(dtype), self.words.as_saved(dtype))


class PivotalKind(FlatKind):
    """A LoRA with words of its own; see :class:`lorasmith.training.kinds.kind.Kind`."""

    size_name = "alpha / rank"
    modelspec = "/lora"

    def __init__(self) -> None:
        self._lora, self._words = AdapterKind(), EmbeddingKind(bundled=True)

    def check_files(self, settings: TrainSettings) -> None:
        self._lora.check_files(settings)

    def check_model(self, settings: TrainSettings, checkpoint: OpenedCheckpoint) -> None:
        self._lora.check_model(settings, checkpoint)

    def with_triggers(self, settings: TrainSettings, triggers: Sequence[Trigger]) -> TrainSettings:
        return self._words.with_triggers(settings, triggers)

    def problems(self, settings: TrainSettings, dataset: Dataset) -> Iterator[Problem]:
        return self._words.problems(settings, dataset)

    def oddities(self, settings: TrainSettings, dataset: Dataset) -> Iterator[Problem]:
        yield from self._words.odd_words(settings)
        yield from _odd_start(settings)

    def placeholders(self, settings: TrainSettings) -> Placeholders:
        return self._words.placeholders(settings)

    def trains_text(self, settings: TrainSettings) -> bool:
        return True

    def build(
        self, settings: TrainSettings, model: DiffusionModel, observe: Observer = ignore
    ) -> NetworkWithWords:
        network = self._lora.build(settings, model, observe)
        begin = _words_of_the_start(settings, model)
        for name in begin:
            observe(Notice("info", f"{name} goes on from the vectors that the file has for it"))
        return NetworkWithWords(network, self._words.build(settings, model, begin=begin))

    def planned(self, settings: TrainSettings, checkpoint: OpenedCheckpoint) -> NetworkWithWords:
        words = self._words.planned(settings, checkpoint)
        return NetworkWithWords(self._lora.planned(settings, checkpoint), words)

    def plan_key(self, settings: TrainSettings) -> Hashable | None:
        key = self._lora.plan_key(settings)
        return None if key is None else (key, self._words.plan_key(settings))

    def size(self, settings: TrainSettings, part: str) -> str:
        return (self._words if part == "embedding" else self._lora).size(settings, part)

    def memory_changes(self) -> tuple[MemoryChange, ...]:
        return self._lora.memory_changes()

    def network_facts(self, settings: TrainSettings, trained: Trained) -> NetworkFacts:
        assert isinstance(trained, NetworkWithWords)
        return self._lora.network_facts(settings, trained.network)

    def describe(self, settings: TrainSettings, trained: Trained) -> str:
        assert isinstance(trained, NetworkWithWords)
        return f"{self._lora.describe(settings, trained.network)}, with {trained.words}"

    def next_steps(
        self, settings: TrainSettings, run: str, result: str, *, drawn: bool
    ) -> dict[str, str]:
        return self._lora.next_steps(settings, run, result, drawn=drawn)

    def further_files(self, settings: TrainSettings, result: Path) -> tuple[Path, ...]:
        return self._words.further_files(settings, result)

    def finish(
        self, settings: TrainSettings, result: Path, observe: Observer, controls: Controls
    ) -> None:
        self._words.finish(settings, result, observe, controls)

    def prompt(self, prompt: str, name: str) -> str:
        return self._lora.prompt(prompt, name)


def _started_words(settings: TrainSettings) -> dict[str, str]:
    """The run's words that ``adapter.init_from`` carries in as many vectors, and their names there;
    prompts do not tell capitals apart."""
    section, counts = settings.embedding, words_of_start(settings.adapter)
    there = {name.casefold(): name for name, n in counts.items() if n == section.vectors}
    return {name: there[key] for name in section.names if (key := name.casefold()) in there}


def _words_of_the_start(
    settings: TrainSettings, model: DiffusionModel
) -> dict[str, dict[str, Tensor]]:
    """Vectors (n, D), float32, of :func:`_started_words`: by word, then by text encoder.

    Raises:
        PromptError: those in the file are damaged, or of another family.
    """
    path, keys = settings.adapter.init_from, part_keys(list(model.text_encoders))
    begin = {}
    for name, inner in _started_words(settings).items():
        assert path is not None
        vectors = load_embedding(path, inner)
        if vectors.keys() != set(keys.values()):
            raise PromptError.of(f"{path}: {inner}", "belongs to another family of models")
        begin[name] = {part: vectors[key] for part, key in keys.items()}
    return begin


def _odd_start(settings: TrainSettings) -> Iterator[Problem]:
    """Words of the file to go on from that this run does not go on with."""
    path, section = settings.adapter.init_from, settings.embedding
    own = {name.casefold() for name in section.names}
    for name, count in words_of_start(settings.adapter).items():
        if name.casefold() not in own:
            what = f"{name!r}, a word that {path} carries, is none of this run's: it is left out"
            yield Problem("adapter.init_from", what, "give it in embedding.names to go on with it")
        elif count != section.vectors:
            what = f"{path} has {quantity(count, 'vector')} for {name!r}: the word begins anew"
            yield Problem("adapter.init_from", what, f"set embedding.vectors = {count}")
