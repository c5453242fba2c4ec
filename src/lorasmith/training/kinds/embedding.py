"""Textual inversion, ``train.kind = "embedding"``: vectors for words of one's own, nothing else.

Gal et al. 2022, "An Image is Worth One Word". Captions have the words; their vectors are learned
through the frozen text encoders and the frozen denoiser, so what captions without them mean does
not change at all. Several vectors a word, and random starts, are as the web UI has them.

Shapes: V tokens of the vocabulary, n vectors of a word, D width of a text encoder.
"""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from lorasmith.adapters.attachable import Attachable
from lorasmith.config.schema import TrainSettings, replace_settings
from lorasmith.config.sections.embedding import RANDOM
from lorasmith.core.errors import Problem, PromptError, SettingsError
from lorasmith.core.events import Controls, Notice, Observer, ignore
from lorasmith.core.files import read_safetensors_header
from lorasmith.core.text import quantity
from lorasmith.data.captions import readings, split_tags
from lorasmith.data.dataset import Dataset
from lorasmith.data.triggers import Trigger
from lorasmith.formats.embedding_keys import WORD, bundled, by_file_name, part_keys
from lorasmith.models.embedding_file import load_bundled, load_embedding, save_embedding
from lorasmith.models.open import OpenedCheckpoint
from lorasmith.models.placeholders import Placeholders
from lorasmith.models.tokenizer import token_ids, tokenized_words
from lorasmith.models.word_vectors import OwnWords, WordVectors, vocabulary
from lorasmith.tensors.rng import normal
from lorasmith.training.kinds.kind import (
    ContrastTraining,
    Encoder,
    FlatKind,
    MemoryChange,
    NetworkFacts,
)
from lorasmith.training.kinds.trained import Layer, NothingDrawn, Trained

if TYPE_CHECKING:
    from lorasmith.models.diffusion_model import DiffusionModel
    from lorasmith.sampling.request import ImageRequest
    from lorasmith.training.kinds.pair_objective import NegativePairObjective
    from lorasmith.training.objective import Objective

META = torch.device("meta")


@dataclass(frozen=True, slots=True)
class VectorGroup:
    """All vectors of a run, which have one learning rate."""

    parameters: list[nn.Parameter]
    name: str = "embedding"
    part: str = "embedding"
    rate: float = 1.0
    targets: Sequence[Layer] = field(default=())

    @property
    def size(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters)


class TrainedEmbeddings(Attachable, NothingDrawn):
    """Words of one's own on a model; see :class:`lorasmith.training.kinds.trained.Trained`.

    Args:
        vectors: what they start from: by word, then by text encoder, (n, D) float32.
        model: that they belong to; ``None`` for a plan.
        norms: by text encoder, the L2 norm that every vector is brought to after each update;
            ``None`` leaves them as they come.
        bundled: its tensors have the names that LoRA files have for them, as those of several
            words do in any case.
    """

    def __init__(
        self,
        vectors: Mapping[str, Mapping[str, Tensor]],
        model: DiffusionModel | None,
        norms: Mapping[str, float] | None = None,
        *,
        bundled: bool = False,
    ) -> None:
        self.own_words = OwnWords(vectors)
        self._bundled = bundled or len(vectors) > 1
        self.norms = norms
        self._model = model
        self._keys = part_keys(list(next(iter(vectors.values()))))

    def __str__(self) -> str:
        counts = self.own_words.placeholders.counts
        each = quantity(next(iter(counts.values())), "vector")
        return f"{quantity(len(counts), 'embedding')} of {each} ({', '.join(counts)})"

    def attach(self) -> None:
        assert self._model is not None, "a plan's"
        self.own_words.attach_to(self._model)

    def detach(self) -> None:
        self.own_words.detach()

    def disabled(self) -> contextlib.AbstractContextManager[None]:
        """The vectors as they were at first: prompts then name what the words started from."""
        return self.own_words.disabled()

    def _each(self) -> Iterator[tuple[str, str, WordVectors]]:
        for name, parts in self.own_words.words.items():
            for part, word in parts.items():
                yield name, part, word

    def parameter_groups(self) -> Sequence[VectorGroup]:
        return [VectorGroup([word.vectors for _, _, word in self._each()])]

    def holders(self) -> Mapping[str, nn.Module]:
        return {f"{name} ({part})": word for name, part, word in self._each()}

    def layers(self) -> Mapping[str, nn.Module]:
        tables = self.own_words.tables()
        return {f"{name} ({part})": tables[part] for name, part, _ in self._each()}

    @torch.no_grad()
    def end_update(self) -> None:
        """Bring every vector to the norm of its text encoder's vocabulary."""
        if self.norms is not None:
            for _, part, word in self._each():
                word.vectors.copy_(with_norm(word.vectors, self.norms[part]))

    def state_dict(self, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """Of one word the tensors of an embedding's file, of several those of a bundle."""
        tensors: dict[str, Tensor] = {}
        for name, part, word in self._each():
            key = self._key(name, part)
            value = word.vectors.detach().to("cpu", copy=True)
            tensors[key] = value if dtype is None else value.to(dtype)
        return tensors

    def _key(self, name: str, part: str) -> str:
        key = self._keys[part]
        return bundled(name, key) if self._bundled else key

    @torch.no_grad()
    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        assert tensors.keys() == self.state_dict().keys(), "other words' tensors"
        for name, part, word in self._each():
            word.vectors.copy_(tensors[self._key(name, part)])

    def save(self, path: Path, metadata: Mapping[str, str], dtype: torch.dtype) -> None:
        own = {} if self._bundled else {WORD: next(iter(self.own_words.words))}
        save_embedding(path, self.state_dict(dtype), {**metadata, **own})

    def as_saved(self, dtype: torch.dtype) -> Self:
        tensors = self.state_dict(dtype)
        vectors: dict[str, dict[str, Tensor]] = {name: {} for name in self.own_words.words}
        for name, part, word in self._each():
            vectors[name][part] = tensors[self._key(name, part)].float().to(word.vectors.device)
        return type(self)(vectors, self._model, bundled=self._bundled)


class WordsOnModel:
    """A file's words on a model; see :class:`lorasmith.measures.on_model.SnapshotOnModel`."""

    def __init__(self, words: OwnWords, model: DiffusionModel) -> None:
        self._words, self._model = words, model

    def attached(self) -> contextlib.AbstractContextManager[object]:
        return self._words.on(self._model)

    def set_strength(self, strength: float) -> None:
        assert strength == 1, "words have no strength"

    def norms(self) -> dict[str, float]:
        """None of the base's weights change."""
        return {}


class NegativePairs:
    """Pairs of images that the word is learned from as what is to be avoided; see
    :class:`lorasmith.training.kinds.kind.ContrastTraining`."""

    has_pairs = True

    def captions(self, settings: TrainSettings) -> list[str]:
        return settings.embedding.names[:1]

    def further(self, settings: TrainSettings) -> list[str]:
        return []

    def describe(self, settings: TrainSettings) -> list[str]:
        return [f"{settings.embedding.names[0]!r}: what the bad picture of each pair has"]

    def objective(
        self,
        settings: TrainSettings,
        objective: Objective,
        trained: Trained,
        text: Encoder,
        items: Sequence[int],
    ) -> NegativePairObjective:
        # They import diffusers, and who asks what a run would cost needs none of it.
        from lorasmith.training.kinds.pair_objective import NegativePairObjective

        return NegativePairObjective(**objective.parts)

    def passes(self, settings: TrainSettings) -> float:
        return 4  # The other side's, forward and back, and both with the first vectors.


NEGATIVE_PAIRS = NegativePairs()


class EmbeddingKind(FlatKind):
    """Words of one's own; see :class:`lorasmith.training.kinds.kind.Kind`.

    Args:
        bundled: as of :class:`TrainedEmbeddings`.
    """

    size_name = "vectors"
    modelspec = "/textual-inversion"
    files = "embeddings"

    def __init__(self, *, bundled: bool = False) -> None:
        self._bundled = bundled

    def contrast(self, settings: TrainSettings) -> ContrastTraining | None:
        return NEGATIVE_PAIRS if settings.embedding.negative else None

    def check_model(self, settings: TrainSettings, checkpoint: OpenedCheckpoint) -> None:
        """Every model has text encoders."""

    def with_triggers(self, settings: TrainSettings, triggers: Sequence[Trigger]) -> TrainSettings:
        """With the first tag of each folder's trigger for the words, where they have no names.

        Raises:
            SettingsError: there is none, or it cannot be the name of an embedding.
        """
        if settings.embedding.names:
            return settings
        separator = settings.captions.separator
        tags = [split_tags(one.text, separator)[:1] for one in triggers if one.text]
        names = list(dict.fromkeys(tag for first in tags for tag in first))
        if not names:
            what = "there is no trigger to take the word from that is to be learned"
            raise SettingsError.of("embedding.names", what, "set captions.trigger")
        try:
            section = type(settings.embedding)(**{**dict(settings.embedding), "names": names})
        except ValueError:
            what = f"the trigger {names[0]!r} cannot be the name of an embedding"
            hint = "set captions.trigger to a word of letters and digits"
            raise SettingsError.of("embedding.names", what, hint) from None
        return replace_settings(settings, {"embedding.names": section.names})

    def default_name(self, settings: TrainSettings) -> str:
        """A file of one word is called as the word, for prompts call it by the file's name."""
        names = settings.embedding.names
        return names[0] if len(names) == 1 else ""

    def problems(self, settings: TrainSettings, dataset: Dataset) -> Iterator[Problem]:
        placeholders = self.placeholders(settings)
        taught = {word for caption in _taught(dataset) for word in _named(caption, placeholders)}
        for name in settings.embedding.names:
            if name not in taught:
                what = f"no caption has {name!r}: nothing would be learned for it"
                hint = f"set captions.trigger = {name}, which is put in front of captions"
                yield Problem("embedding.names", what, hint)

    def oddities(self, settings: TrainSettings, dataset: Dataset) -> Iterator[Problem]:
        yield from self.odd_words(settings)
        if settings.embedding.separate and not self._separate(settings):
            what = "has no effect: the file has one word, and no LoRA"
            yield Problem("embedding.separate", what, "remove it")
        if any(item.reg and item.repeats for item in dataset.items):
            what = "nothing is learned from regularisation pictures: what their captions mean does "
            what += "not change, and they take steps"
            yield Problem("embedding", what, "train without them")
        captions = list(_taught(dataset))
        without = sum(not any(_named(text, self.placeholders(settings))) for text in captions)
        if without:
            what = f"{quantity(without, 'caption')} of {len(captions)} have none of the words: "
            what += "nothing is learned from their pictures"
            yield Problem("embedding.names", what, "set captions.trigger_in_front to true")

    def odd_words(self, settings: TrainSettings) -> Iterator[Problem]:
        """What is odd about names and starts, whatever the images."""
        section = settings.embedding
        for name in section.names:
            if len(words := tokenized_words(name)) == 1 and len(words[0].ids) == 1:
                what = f"{name!r} is a word that the model knows"
                hint = "where the embedding is at hand, prompts no longer mean that by it"
                yield Problem("embedding.names", what, hint)
        for text in dict.fromkeys(section.init):
            if text == RANDOM:
                continue
            count = len(token_ids(text))
            if count > section.vectors:
                what = f"{text!r} has {count} tokens, and there are {section.vectors} vectors: the "
                what += "last ones are left out"
                yield Problem("embedding.init", what, f"set embedding.vectors = {count}")

    def placeholders(self, settings: TrainSettings) -> Placeholders:
        return Placeholders(dict.fromkeys(settings.embedding.names, settings.embedding.vectors))

    def trains_text(self, settings: TrainSettings) -> bool:
        return True

    def build(
        self,
        settings: TrainSettings,
        model: DiffusionModel,
        observe: Observer = ignore,
        *,
        begin: Mapping[str, Mapping[str, Tensor]] | None = None,
    ) -> TrainedEmbeddings:
        """
        Args:
            begin: what words start from whatever ``embedding.init`` says, (n, D) float32; by word,
                then by text encoder.
        """
        section, begin = settings.embedding, begin or {}
        tables = {part: vocabulary(one) for part, one in model.text_encoders.items()}
        norms = {part: table.norm(dim=1).mean() for part, table in tables.items()}
        vectors: dict[str, dict[str, Tensor]] = {}
        for name in section.names:
            vectors[name] = {}
            for part, table in tables.items():
                if name in begin:
                    first = begin[name][part].to(table.device)
                else:
                    init, seed = section.init_of(name), settings.train.seed
                    first = start(init, section.vectors, table, seed, f"{part}/{name}")
                if section.norm == "vocabulary":
                    first = with_norm(first, norms[part])
                vectors[name][part] = first
        if section.norm == "free" or model.device.type == "meta":
            return TrainedEmbeddings(vectors, model, bundled=self._bundled)
        kept = {part: float(norm) for part, norm in norms.items()}
        return TrainedEmbeddings(vectors, model, kept, bundled=self._bundled)

    def planned(self, settings: TrainSettings, checkpoint: OpenedCheckpoint) -> TrainedEmbeddings:
        architecture, section = checkpoint.architecture, settings.embedding
        parts = zip(architecture.family.text_encoders, architecture.texts, strict=True)
        widths = {spec.part: int(text["hidden_size"]) for spec, text in parts}
        return TrainedEmbeddings(
            {
                name: {
                    part: torch.empty(section.vectors, width, device=META)
                    for part, width in widths.items()
                }
                for name in section.names
            },
            None,
            bundled=self._bundled,
        )

    def plan_key(self, settings: TrainSettings) -> Hashable | None:
        return tuple(settings.embedding.names), settings.embedding.vectors

    def size(self, settings: TrainSettings, part: str) -> str:
        return quantity(settings.embedding.vectors, "vector")

    def memory_changes(self) -> tuple[MemoryChange, ...]:
        return ()

    def network_facts(self, settings: TrainSettings, trained: Trained) -> NetworkFacts:
        return NetworkFacts()

    def describe(self, settings: TrainSettings, trained: Trained) -> str:
        return f"textual inversion, {trained}"

    def prompt(self, prompt: str, name: str) -> str:
        return prompt

    def on_model(self, settings: TrainSettings, path: Path, model: DiffusionModel) -> WordsOnModel:
        """Under the words that captions have, whatever the file is called."""
        keys = part_keys(list(model.text_encoders))
        names = settings.embedding.names
        vectors: dict[str, dict[str, Tensor]] = {}
        for name in names:
            tensors = load_embedding(path, name if len(names) > 1 else "")
            if tensors.keys() != set(keys.values()):
                raise PromptError.of(f"{path}: {name}", "belongs to another family of models")
            vectors[name] = {part: tensors[key].to(model.device) for part, key in keys.items()}
        return WordsOnModel(OwnWords(vectors), model)

    def further_files(self, settings: TrainSettings, result: Path) -> tuple[Path, ...]:
        return tuple(_separate_path(result, word) for word in self._separate(settings))

    def _separate(self, settings: TrainSettings) -> list[str]:
        """The words that have a file of their own besides."""
        words = settings.embedding.names
        return words if settings.embedding.separate and (self._bundled or len(words) > 1) else []

    def finish(
        self, settings: TrainSettings, result: Path, observe: Observer, controls: Controls
    ) -> None:
        """Each word's vectors in a file of its own, for ``embedding.separate``."""
        if not self._separate(settings):
            return
        metadata = read_safetensors_header(result).metadata
        spec = {key: text for key, text in metadata.items() if key.startswith("modelspec.")}
        base = spec.get("modelspec.architecture", "").partition("/")[0]
        spec |= {"modelspec.architecture": f"{base}{EmbeddingKind.modelspec}"}
        for name, tensors in load_bundled(result).items():
            path = _separate_path(result, name)
            save_embedding(path, tensors, {**spec, "modelspec.title": name})
            observe(Notice("info", f"{path}: the vectors of {name} alone"))

    def called(self, settings: TrainSettings, name: str, trigger: str) -> str:
        """A file of one word goes by its own name, in any case of letters."""
        names = settings.embedding.names
        if len(names) != 1:
            return trigger
        name = names[0] if name.casefold() == names[0].casefold() else name
        return by_file_name(trigger, names, name)

    def next_steps(
        self, settings: TrainSettings, run: str, result: str, *, drawn: bool
    ) -> dict[str, str]:
        word = Path(result.strip("'\"")).stem
        avoid = f" --negative {word}" if settings.embedding.negative else ""
        what = "draw without what the word stands for" if avoid else "draw with its word"
        # In a grid snapshots go by their files' names, which only those of one word have.
        more = self.comparisons(settings, run, drawn=drawn and len(settings.embedding.names) == 1)
        return {f'lorasmith generate "PROMPT"{avoid} --embedding-dir {run}': what, **more}

    def sample(self, settings: TrainSettings, request: ImageRequest) -> ImageRequest:
        """What is to be avoided stands in the negative prompt; where the caption would be drawn,
        which is that word, anything is."""
        if not settings.embedding.negative:
            return request
        (word,) = settings.embedding.names
        negative = ", ".join(text for text in (word, request.negative) if text)
        prompt = "" if request.prompt == word else request.prompt
        return replace(request, prompt=prompt, negative=negative)


def _separate_path(result: Path, word: str) -> Path:
    return result.parent / "embeddings" / f"{word}.safetensors"


def start(init: str, count: int, table: Tensor, seed: int, purpose: str) -> Tensor:
    """The first vectors (count, D) of a word, float32, on the table's device.

    Args:
        init: words, each of whose tokens starts its share of the vectors, as the web UI's
            ``create_embedding`` has it; or :data:`RANDOM`: normal, with the mean and the standard
            deviation of each of the vocabulary's numbers.
        table: (V, D).
    """
    ids = [] if init == RANDOM else token_ids(init)[:count]
    if ids:
        spread = [ids[place * len(ids) // count] for place in range(count)]
        return table[torch.tensor(spread, device=table.device)].clone()
    noise = normal((count, table.shape[1]), seed, f"embedding {purpose}").to(table.device)
    return table.mean(dim=0) + table.std(dim=0) * noise


def with_norm(vectors: Tensor, norm: float | Tensor) -> Tensor:
    """(n, D) vectors at the L2 norm ``norm``, in their directions.

    Trainers that learn vectors beside a LoRA keep them at what the vocabulary has: cloneofsimo's
    draws them to its mean norm after each step, diffusers' advanced DreamBooth scripts to its
    standard deviation.
    """
    return vectors * (norm / vectors.norm(dim=1, keepdim=True).clamp(min=1e-12))


def _taught(dataset: Dataset) -> Iterator[str]:
    for item in dataset.items:
        if item.repeats and not item.reg:
            yield from readings(item.caption, dataset.rules_of(item))


def _named(caption: str, placeholders: Placeholders) -> Iterator[str]:
    """The words that a caption has."""
    names = {ids: name for name, ids in placeholders.ids.items()}
    for word in placeholders.words(token_ids(caption)):
        if word in names:
            yield names[word]
