"""LoRA files by the names that prompts give them, attached for as long as a picture takes."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path

from lorasmith.adapters.file import load_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.errors import Problem, PromptError
from lorasmith.events import Notice, Observer, ignore
from lorasmith.files import read_safetensors_header
from lorasmith.models.sd import DiffusionModel
from lorasmith.sampling.prompt import LoraTag

EXTENSIONS = (".safetensors", ".pt", ".ckpt")

# Networks kept in memory between pictures; a LoRA of a full-size model takes about 150 MB.
KEPT = 8


class LoraShelf:
    """The LoRAs of a folder and its sub-folders.

    A name is a file's name with or without its extension, or its path below the folder when two
    sub-folders hold files of one name.

    Args:
        folder: where to look; ``None`` for a shelf without LoRAs.
        observer: is told what in a file matched nothing, once per file.
    """

    def __init__(self, folder: Path | None, *, observer: Observer = ignore) -> None:
        self.folder = folder
        self._observer = observer
        self._model: DiffusionModel | None = None
        self._networks: OrderedDict[Path, AdapterNetwork] = OrderedDict()
        self._paths: dict[str, list[Path]] = {}
        files = sorted(folder.rglob("*")) if folder is not None else []
        for path in files:
            if path.suffix.lower() in EXTENSIONS and path.is_file():
                below = path.relative_to(folder or path)
                for name in {path.name, path.stem, str(below), str(below.with_suffix(""))}:
                    self._paths.setdefault(name, []).append(path)

    def check(self, tags: Iterable[LoraTag]) -> list[Problem]:
        """What is wrong with ``tags``, each once; opens no file."""
        problems: dict[Problem, None] = {}
        for tag in tags:
            if len(self._paths.get(tag.name, [])) != 1:
                problems[self._problem(tag.name)] = None
            if tag.block_weights is not None:
                what = "block weights (lbw=) are not supported"
                problems[Problem(tag.source, what, "remove them from the tag")] = None
        return list(problems)

    def find(self, name: str) -> Path:
        """The file of that name.

        Raises:
            PromptError: there is none, or more than one; names the nearest, or all.
        """
        found = self._paths.get(name, [])
        if len(found) != 1:
            raise PromptError(self._problem(name))
        return found[0]

    def _problem(self, name: str) -> Problem:
        where = f"<lora:{name}>"
        if self.folder is None:
            return Problem(where, "no LoRA folder is set", "say where it is with --lora-dir")
        found = self._paths.get(name, [])
        if found:
            names = [str(path.relative_to(self.folder)) for path in found]
            return Problem(
                where, f"{len(found)} files have this name", f"write one of {', '.join(names)}"
            )
        stems = {path.stem.lower(): path.stem for paths in self._paths.values() for path in paths}
        nearest = get_close_matches(name.lower(), stems, n=1)
        if nearest:
            todo = f"did you mean {stems[nearest[0]]}?"
        elif stems:
            shown = sorted(stems.values())
            todo = f"it holds {', '.join(shown[:8])}{', …' if len(shown) > 8 else ''}"
        else:
            todo = "the folder holds no .safetensors file"
        return Problem(where, f"there is no such LoRA in {self.folder}", todo)

    @contextlib.contextmanager
    def attached(self, model: DiffusionModel, tags: Sequence[LoraTag]) -> Iterator[None]:
        """``model`` with the LoRAs of ``tags`` at their strengths; as before afterwards.

        Raises:
            PromptError: a name is unknown.
            LoraFileError: a file is damaged or belongs to another family of models.
        """
        networks = [
            (tag, self._network(model, self.find(tag.name)))
            for tag in tags
            if tag.unet or tag.text_encoder
        ]
        with contextlib.ExitStack() as stack:
            for tag, network in networks:
                network.set_strength(unet=tag.unet, text_encoder=tag.text_encoder)
                network.attach()
                stack.callback(network.detach)
            yield

    def _network(self, model: DiffusionModel, path: Path) -> AdapterNetwork:
        if model is not self._model:
            self._model = model
            self._networks.clear()
        network = self._networks.get(path)
        if network is None:
            tensors = load_lora(path).tensors
            network = AdapterNetwork.load(tensors, model.adapter_roots(), where=str(path))
            self._report(path, network)
            self._networks[path] = network
            # One more than is kept may be in use: a prompt can name any number.
            while len(self._networks) > KEPT:
                self._networks.popitem(last=False)
        self._networks.move_to_end(path)
        return network

    def _report(self, path: Path, network: AdapterNetwork) -> None:
        unmatched = network.report.unmatched
        if unmatched:
            shown = ", ".join(unmatched[:3]) + (", …" if len(unmatched) > 3 else "")
            self._observer(
                Notice(
                    "warning",
                    f"{path.name}: {len(unmatched)} of its tensors belong to no layer of this "
                    f"model and have no effect ({shown})",
                )
            )


def short_hash(path: Path) -> str:
    """The 12 hex digits by which web UIs know a LoRA: SHA-256 of what follows the header."""
    try:
        stored = read_safetensors_header(path).metadata.get("sshs_model_hash")
    except ValueError:  # a pickle: web UIs hash the whole file
        return _sha256_from(path, 0)[:12]
    if stored:
        return stored[:12]
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
    return _sha256_from(path, 8 + length)[:12]


def _sha256_from(path: Path, start: int) -> str:
    digest = sha256()
    with open(path, "rb") as file:
        file.seek(start)
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
