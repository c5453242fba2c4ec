"""LoRA files by the names that prompts give them, attached for as long as an image takes.

A tag's strength on a layer is that of its part, times its weight for the layer's block, and 0 in
steps that it leaves out.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from pathlib import Path

from lorasmith.adapters.base import Adapter
from lorasmith.adapters.file import load_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.core.errors import Problem, PromptError
from lorasmith.core.events import Notice, Observer, ignore
from lorasmith.core.files import files_below, read_safetensors_header
from lorasmith.core.text import did_you_mean, shortlist
from lorasmith.formats.layer_names import describe
from lorasmith.formats.run_paths import is_state_file
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.prompts.lora_tags import LoraTag
from lorasmith.prompts.schedule import ALWAYS, StepRange

EXTENSIONS = (".safetensors", ".pt", ".ckpt")

# Networks kept in memory between images; a LoRA of a full-size model takes about 150 MB.
KEPT = 8


class AttachedLoras:
    """The LoRAs of a prompt, in a model.

    Args:
        text_encoder: changes with what they make of the text encoder's output.
    """

    def __init__(
        self, model: DiffusionModel, loras: Sequence[tuple[LoraTag, AdapterNetwork]]
    ) -> None:
        # What comes and goes in the UNet: when, and adapters with their strengths.
        self._timed: list[tuple[StepRange, list[tuple[Adapter, float]]]] = []
        key = []
        for tag, network in loras:
            adapters, targets = network.adapters, network.targets
            strengths = set_strengths(model, network, tag)
            unet = [name for name, target in targets.items() if target.part == "unet"]
            if tag.steps != ALWAYS:
                self._timed.append(
                    (tag.steps, [(adapters[name], strengths[name]) for name in unet])
                )
            key.append((tag.name, {strengths[name] for name in targets.keys() - set(unet)} - {0.0}))
        self._on = [True] * len(self._timed)
        self.text_encoder: Hashable = tuple(
            (name, frozenset(values)) for name, values in key if values
        )

    def at(self, step: int, total: int, before: int = 0) -> None:
        """Make the UNet that of a step; see :meth:`lorasmith.prompts.schedule.StepRange.holds`.
        Touches nothing that stays as it was."""
        for index, (steps, adapters) in enumerate(self._timed):
            on = steps.holds(step, total, before)
            if on == self._on[index]:
                continue
            self._on[index] = on
            for adapter, strength in adapters:
                adapter.strength = strength if on else 0.0


def set_strengths(model: DiffusionModel, network: AdapterNetwork, tag: LoraTag) -> dict[str, float]:
    """Give each adapter what a tag says of its part and block; returns the strengths by key."""
    blocks = model.architecture.blocks
    parts = {"unet": tag.unet, "text_encoder": tag.text_encoder}
    weights, adapters, strengths = tag.blocks, network.adapters, {}
    for key, target in network.targets.items():
        weight = 1.0 if weights is None else weights[blocks.block(target)]
        strengths[key] = adapters[key].strength = parts[target.part] * weight
    return strengths


class LoadedLoras:
    """The networks of LoRA files on one model, kept from one image to the next. A file that has
    changed meanwhile is read again."""

    def __init__(self) -> None:
        self._model: DiffusionModel | None = None
        self._networks: OrderedDict[tuple[Path, int, int], AdapterNetwork] = OrderedDict()

    def network(self, model: DiffusionModel, path: Path) -> tuple[AdapterNetwork, bool]:
        """The network of a file, and whether it was read just now.

        Raises:
            LoraFileError: it is damaged or belongs to another family of models.
        """
        if model is not self._model:
            self._model = model
            self._networks.clear()
        key = _state_of(path)
        network = self._networks.get(key)
        is_new = network is None
        if network is None:
            tensors = load_lora(path).tensors
            network = AdapterNetwork.load(tensors, model.adapter_roots(), where=str(path))
            self._networks[key] = network
            # One more than is kept may be in use: a prompt can name any number.
            while len(self._networks) > KEPT:
                self._networks.popitem(last=False)
        self._networks.move_to_end(key)
        return network, is_new


def _state_of(path: Path) -> tuple[Path, int, int]:
    try:
        status = path.stat()
    except OSError:  # Reading it says so.
        return path, 0, 0
    return path, status.st_size, status.st_mtime_ns


class LoraLibrary:
    """The LoRAs of a folder and its sub-folders; a web UI's ``models/Lora`` for one.

    A name is a file's name with or without its extension, or its path below the folder when two
    sub-folders hold files of one name, or else the name that its training gave it
    (``ss_output_name``; a web UI's "alias from file").

    Args:
        folder: where to look, for ``files``; ``None`` for a library without LoRAs.
        observer: is told what in a file matched nothing, once per file.

    Attributes:
        loaded: those in memory; another library's may be put here, which then stay.
    """

    def __init__(self, folder: Path | None, *, observer: Observer = ignore) -> None:
        self.folder = folder
        self.loaded = LoadedLoras()
        self._observer = observer
        self._paths: dict[str, list[Path]] = {}
        self._aliases: dict[str, list[Path]] | None = None
        self.files = [path for path in files_below(folder, EXTENSIONS) if not is_state_file(path)]
        for path in self.files:
            below = path.relative_to(folder or path)
            for name in {path.name, path.stem, str(below), str(below.with_suffix(""))}:
                self._paths.setdefault(name, []).append(path)

    def add(self, path: Path) -> str:
        """Know a file that may lie outside of the folder; returns the name to call it by."""
        for name in (path.stem, f"{path.parent.name}/{path.stem}", path.as_posix()):
            known_paths = [file.resolve() for file in self._paths.get(name, [])]
            if known_paths in ([], [path.resolve()]):
                self._paths.setdefault(name, [path])
                return name
        raise AssertionError(path)  # Its whole path is no other file's name.

    def check(self, tags: Iterable[LoraTag]) -> list[Problem]:
        """What is wrong with the names in ``tags``, each once; reads headers at most."""
        names = dict.fromkeys(tag.name for tag in tags)
        return [self._problem(name) for name in names if len(self._paths_of(name)) != 1]

    def find(self, name: str) -> Path:
        """The file of that name.

        Raises:
            PromptError: there is none, or more than one; names the nearest, or all.
        """
        paths = self._paths_of(name)
        if len(paths) != 1:
            raise PromptError(self._problem(name))
        return paths[0]

    def _paths_of(self, name: str) -> list[Path]:
        if name in self._paths:
            return self._paths[name]
        if self._aliases is None:
            self._aliases = {}
            for path in self.files:
                self._aliases.setdefault(_output_name(path), []).append(path)
        return self._aliases.get(name, []) if name else []

    def _problem(self, name: str) -> Problem:
        where = f"<lora:{name}>"
        if self.folder is None:
            return Problem(where, "no LoRA folder is set", "say where it is with --lora-dir")
        paths = self._paths_of(name)
        if paths:
            names = [str(path.relative_to(self.folder)) for path in paths]
            return Problem(
                where, f"{len(paths)} files have this name", f"write one of {', '.join(names)}"
            )
        stems = {path.stem.lower(): path.stem for path in self.files}
        hint = "the folder holds no .safetensors file"
        if stems:
            hint = f"it holds {shortlist(sorted(stems.values()), 8)}"
        hint = did_you_mean(name.lower(), stems, hint)
        return Problem(where, f"there is no such LoRA in {self.folder}", hint)

    @contextlib.contextmanager
    def attached(self, model: DiffusionModel, tags: Sequence[LoraTag]) -> Iterator[AttachedLoras]:
        """``model`` with the LoRAs of ``tags`` at their strengths; as before afterwards.

        Raises:
            PromptError: a name is unknown, or two names are of one file.
            LoraFileError: a file is damaged or belongs to another family of models.
        """
        active_tags = [tag for tag in tags if tag.unet or tag.text_encoder]
        paths = [self.find(tag.name) for tag in active_tags]
        for index, path in enumerate(paths):
            if path in paths[:index]:
                other = active_tags[paths.index(path)].name
                what = f"is the same file as <lora:{other}>"
                raise PromptError.of(
                    active_tags[index].source, what, "write one tag with one strength"
                )
        loras = [
            (tag, self._network(model, path)) for tag, path in zip(active_tags, paths, strict=True)
        ]
        with contextlib.ExitStack() as stack:
            for _, network in loras:
                network.attach()
                stack.callback(network.detach)
            yield AttachedLoras(model, loras)

    def _network(self, model: DiffusionModel, path: Path) -> AdapterNetwork:
        network, is_new = self.loaded.network(model, path)
        if is_new:
            self._report(path, network)
        return network

    def _report(self, path: Path, network: AdapterNetwork) -> None:
        unmatched = network.report.unmatched
        if unmatched:
            listing = shortlist(unmatched)
            if kind := describe(unmatched):
                listing = f"{kind}: {listing}"
            self._observer(
                Notice(
                    "warning",
                    f"{path.name}: {len(unmatched)} of its tensors belong to no layer of this "
                    f"model and have no effect ({listing})",
                )
            )


def _output_name(path: Path) -> str:
    """The name that a file's training gave it, or ""."""
    try:
        return read_safetensors_header(path).metadata.get("ss_output_name", "")
    except (ValueError, OSError):  # a pickle, or damaged: loading it says so
        return ""
