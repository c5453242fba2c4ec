"""How a snapshot of a training gets into an image, by what its file is: a LoRA by its tag in the
prompt, an embedding by its file's name in the place of its word, a checkpoint as the model that
draws. Torch-free.

A further form is a class here and its place in :func:`form_of`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lorasmith.core.errors import PromptError, RunError
from lorasmith.core.files import read_safetensors_header
from lorasmith.core.text import shortlist
from lorasmith.formats.embedding_header import read_embedding_header
from lorasmith.formats.layer_names import looks_like_lora
from lorasmith.formats.ldm_keys import UNET_PREFIX
from lorasmith.formats.run_paths import lora_name
from lorasmith.grids.axes import CellSpec, LoraEdit, Value
from lorasmith.grids.snapshots import Snapshot

if TYPE_CHECKING:
    from lorasmith.sampling.sources import Sources

_TAG = re.compile(r"(<[^<>]*>)")


class SnapshotForm(Protocol):
    """What all snapshots of one training are."""

    has_strength: bool
    """Whether a tag says how much of it to apply."""

    def value(self, label: str, snapshot: Snapshot, target: str, sources: Sources) -> Value:
        """What draws with a snapshot, or with the base model alone.

        Args:
            target: the LoRA tag that the axis names; "" for none.
            sources: are told of the file.

        Raises:
            RunError: this one cannot be drawn with.
            ValueError: the axis names a LoRA, and there is none.
        """


class LoraForm:
    """LoRAs; damaged files are taken for such, and told of when they are to be read."""

    has_strength = True

    def value(self, label: str, snapshot: Snapshot, target: str, sources: Sources) -> Value:
        edit = LoraEdit(removed=True)
        if snapshot.path is not None:
            edit = LoraEdit(name=sources.library.add(snapshot.path))
        return Value(label, lambda spec: spec.editing(target, edit), snapshot.path)


class CheckpointForm:
    """Checkpoints; the base model alone is the one that the grid has anyway."""

    has_strength = False

    def value(self, label: str, snapshot: Snapshot, target: str, sources: Sources) -> Value:
        _no_target(target)
        path = snapshot.path
        if path is None:
            return Value("base model", lambda spec: spec, changes="model")
        return Value(label, lambda spec: spec.loading(path=path), path, changes="model")


class EmbeddingForm:
    """Files of one embedding each.

    Args:
        files: all snapshots of its training, any of which a prompt may name.
    """

    has_strength = False

    def __init__(self, files: Sequence[Path]) -> None:
        words = [read_embedding_header(path).word for path in files]
        names = [*(path.stem for path in files), *map(lora_name, files), *words]
        self._names = list(dict.fromkeys(name for name in names if name))

    def value(self, label: str, snapshot: Snapshot, target: str, sources: Sources) -> Value:
        _no_target(target)
        path = snapshot.path
        if path is None:
            what = "0 is the base model alone, which has no such word"
            raise RunError.of("", what, "leave it out")
        if read_embedding_header(path).bundled:
            what = "has several words, and prompts tell snapshots apart by their files' names"
            hint = "look at the run's samples, which are drawn with all of its words"
            raise RunError.of(path, what, hint)
        name = sources.embeddings.add(path)
        return Value(label, lambda spec: self._naming(spec, name), path, changes="embedding")

    def _naming(self, spec: CellSpec, name: str) -> CellSpec:
        prompt, negative = spec.request.prompt, spec.request.negative
        changed = replace_words(prompt, self._names, name)
        avoided = replace_words(negative, self._names, name)
        if changed is None and avoided is None:
            raise PromptError.of(
                f'"{prompt}"',
                f"does not name the embedding: it has none of {shortlist(self._names)}",
                "write its word into the prompt: each snapshot takes its place in turn",
            )
        return spec.asking(
            prompt=prompt if changed is None else changed,
            negative=negative if avoided is None else avoided,
        )


def replace_words(text: str, names: Sequence[str], name: str) -> str | None:
    """A prompt with ``name`` wherever it has one of ``names``, whatever their capitals; what stands
    in tags stays. ``None`` where it has none of them."""
    longest_first = sorted(names, key=len, reverse=True)
    words = "|".join(re.escape(each) for each in longest_first)
    pattern = re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE)
    parts = _TAG.split(text)
    found = 0
    for number in range(0, len(parts), 2):  # The others are tags.
        parts[number], times = pattern.subn(lambda match: name, parts[number])
        found += times
    return "".join(parts) if found else None


def form_of(snapshots: Sequence[Snapshot]) -> SnapshotForm:
    """What the snapshots of one training are, by their files."""
    files = [snapshot.path for snapshot in snapshots if snapshot.path is not None]
    if any(read_embedding_header(path).is_embedding for path in files):
        return EmbeddingForm(files)
    if any(_is_checkpoint(path) for path in files):
        return CheckpointForm()
    return LoraForm()


def _is_checkpoint(path: Path) -> bool:
    try:
        names = read_safetensors_header(path).tensors
    except (ValueError, OSError):  # Damaged.
        return False
    return any(name.startswith(UNET_PREFIX) for name in names) and not looks_like_lora(names)


def _no_target(target: str) -> None:
    if target:
        raise ValueError(f"@{target} names a LoRA, and these snapshots are none")
