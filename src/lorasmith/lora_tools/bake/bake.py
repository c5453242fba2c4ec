"""LoRAs added into a checkpoint's weights, for programs that read checkpoints alone.

The new checkpoint has the format of the old one: a single file, or a diffusers folder with the same
files; names, their order and the types of the numbers stay. Files are read and written tensor by
tensor (:mod:`lora_tools.checkpoint_writer`), so memory holds one weight and the LoRAs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorasmith.core.errors import UserError
from lorasmith.core.events import Controls, Notice, Observer, Progress, ignore
from lorasmith.core.files import PrecisionName, atomic_folder, write_text
from lorasmith.core.text import shortlist
from lorasmith.formats.hashes import autov1, hash_file, sha256_of
from lorasmith.formats.layer_names import describe
from lorasmith.formats.training_metadata import MODELS, RECIPE
from lorasmith.lora_tools.bake.apply import AppliedLora, added_weights
from lorasmith.lora_tools.bake.model_folder import (
    FolderFiles,
    check_folder,
    folder_files,
    new_index,
    renamed,
)
from lorasmith.lora_tools.checkpoint_writer import CheckpointRewriter
from lorasmith.lora_tools.inputs import Sources, parse_sources
from lorasmith.lora_tools.outputs import (
    carried_metadata,
    check_output,
    check_space,
    choice_problems,
    model_problems,
    read_object,
)
from lorasmith.models.layout import WeightFile
from lorasmith.models.open import OpenedCheckpoint, locate, open_checkpoint
from lorasmith.tensors.files import PRECISIONS

_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class BakeReport:
    """
    Args:
        tensors: how many stored tensors were changed.
        size: of the new file, or of all files of the new folder, in bytes; of a dry run, but
            for what is added to the metadata.
        written: ``None`` of a dry run.
    """

    loras: tuple[AppliedLora, ...]
    tensors: int
    size: int
    written: Path | None


def bake(
    model: str | Path,
    sources: Sources,
    out: str | Path,
    *,
    precision: PrecisionName | None = None,
    hash: bool = False,  # noqa: A002
    dry_run: bool = False,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> BakeReport:
    """Write ``model`` with the LoRAs in it to ``out``.

    Each weight is W + Σ strength · ΔW, summed in float32 and rounded once.

    >>> bake("demo", {"a.safetensors": 0.8}, "baked.safetensors")

    Args:
        model: see :func:`lorasmith.models.open.open_checkpoint`.
        sources: ``{path: strength}``, or a list of files, of ``(path, strength)``, and of texts as
            the command line takes them, ``"a.safetensors:0.8:0.5"``.
        out: a ``.safetensors`` file, or a folder where ``model`` is one.
        precision: of all floating-point numbers; ``None`` leaves each as it is.
        hash: the metadata names the base model by its SHA-256, which takes reading all of it
            once more and as long again; otherwise by the web UI's old hash of 64 KiB of it.
        dry_run: check everything but the numbers, and say sizes.
        observer: gets what the user should know as notices.

    Raises:
        UserError: ``out`` is there already or is an input, or does not fit on the disk.
        CheckpointError, LoraFileError: one cannot be read, they do not fit each other, or a number
            is NaN, infinite or beyond the precision.
        Stopped: asked to stop; nothing is written.
    """
    problems = [
        *model_problems("--model", model),
        *choice_problems("--precision", precision, PRECISIONS),
    ]
    if problems:
        raise UserError(problems)
    sources, path, out = parse_sources(sources), locate(model), Path(out)
    inputs = [path, *(source.path for source in sources)]
    check = check_folder if path.is_dir() else check_output
    if problems := check(out, inputs):
        raise UserError(problems)
    opened = open_checkpoint(model)
    added = added_weights(opened, sources)
    if not added.changes:
        raise UserError.of("", "every strength is 0, so nothing changes", "choose other strengths")
    files = {w.file.path: w.file for part in opened.weights.values() for w in part.values()}
    # All shards of a network together, so that none stays what another list names.
    folders = {file.parent for file in (files if precision is not None else added.changes)}
    files = {file: header for file, header in files.items() if file.parent in folders}
    others = folder_files(path, files.keys()) if path.is_dir() else FolderFiles((), (), ())
    dtype = None if precision is None else PRECISIONS[precision]
    rewriters = {
        file: CheckpointRewriter(header, added.changes.get(file, {}), dtype)
        for file, header in files.items()
    }
    copied = sum((path / below).stat().st_size for below in others.copied)
    # What will be added to the metadata is not known yet; it is about a thousand bytes.
    size = copied + sum(rewriter.size({}) for rewriter in rewriters.values())
    if problems := check_space(out, size):
        raise UserError(problems)
    for note in _notes(opened, added.loras, files, others):
        observer(Notice("warning", note))
    if not dry_run:
        controls = controls or Controls()
        metadata = {
            file: _metadata(
                file,
                header.metadata,
                added.loras,
                sha256_of(file, observer, controls) if hash else None,
            )
            for file, header in files.items()
        }
        _write(path, out, rewriters, metadata, others, observer, controls)
        size = copied + sum(each.size(metadata[file]) for file, each in rewriters.items())
    tensors = sum(len(changes) for changes in added.changes.values())
    return BakeReport(tuple(added.loras), tensors, size, None if dry_run else out)


def _notes(
    opened: OpenedCheckpoint,
    loras: Sequence[AppliedLora],
    files: Mapping[Path, WeightFile],
    others: FolderFiles,
) -> Iterator[str]:
    """What the user should know of the model and of the LoRAs."""
    yield from opened.notes
    for lora in loras:
        if lora.unmatched:
            what = f"{len(lora.unmatched)} of its tensors belong to no layer of this model"
            kind = f"{kind}: " if (kind := describe(lora.unmatched)) else ""
            names = shortlist(lora.unmatched)
            yield f"{lora.source.path.name}: {what} and have no effect ({kind}{names})"
        if lora.words:
            path, word = lora.source.path, "word" if len(lora.words) == 1 else "words"
            what = f"{path.name}: its {word} {shortlist(lora.words)} cannot be in a checkpoint"
            yield f"{what}; draw with --embedding-dir {path.parent}, where the LoRA has them"
    for file, header in files.items():
        if header.pickle is not None:
            what = "is a pickle, of which a safetensors file is written"
            yield f"{file.name} {what}; the training program's state is left out"
        if any(name.startswith("model_ema.") for name in header.shapes):
            yield f"{file.name}: its averaged weights (model_ema) stay without the LoRA"
    if others.left_out:
        names = shortlist([str(below) for below in others.left_out])
        yield f"left out, for they would still be the old weights: {names}"


def _write(
    path: Path,
    out: Path,
    rewriters: Mapping[Path, CheckpointRewriter],
    metadata: Mapping[Path, Mapping[str, str]],
    others: FolderFiles,
    observer: Observer,
    controls: Controls,
) -> None:
    """The new file, or the new folder."""
    done, total = 0, sum(rewriter.data_size for rewriter in rewriters.values())

    def count(size: int) -> None:
        nonlocal done
        done += size
        observer(Progress("baking, MB", done // _MB, total // _MB))

    if not path.is_dir():
        ((file, rewriter),) = rewriters.items()
        rewriter.write(out, metadata[file], controls, count)
        return
    with atomic_folder(out) as folder:
        sizes: dict[str, int] = {}
        for file, rewriter in rewriters.items():
            below = renamed(file.relative_to(path))
            rewriter.write(folder / below, metadata[file], controls, count)
            sizes[below.name] = rewriter.data_size
        for below in others.indexes:
            text = (path / below).read_text(encoding="utf-8")
            write_text(folder / renamed(below), new_index(text, sizes))
        for below in others.copied:
            controls.check()
            (folder / below).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path / below, folder / below)


def _metadata(
    base: Path,
    metadata: Mapping[str, str],
    loras: Sequence[AppliedLora],
    digest: str | None,
) -> dict[str, str]:
    """The base file's own metadata, without hashes that no longer hold, and what was baked.

    ``sd_merge_recipe`` and ``sd_merge_models`` are JSON as AUTOMATIC1111's checkpoint merger
    writes them: what was done, and every model that is in it by its hash, those that were merged
    before included.

    Args:
        base: the file.
        metadata: its own.
        digest: its SHA-256, or ``None`` to name it by the old hash.
    """
    old = autov1(base)
    carried = carried_metadata(metadata)
    models = read_object(carried.get(MODELS))
    hashes = [_lora_hash(lora) for lora in loras]
    models[digest or old] = {
        "name": base.name,
        "legacy_hash": old,
        RECIPE: read_object(carried.get(RECIPE)) or None,
    }
    for lora, lora_hash in zip(loras, hashes, strict=True):
        models[lora_hash] = {
            "name": lora.source.path.name,
            "legacy_hash": lora_hash[:8],
            RECIPE: None,
        }
    recipe = {
        "type": "lorasmith bake",
        "primary_model_hash": digest or old,
        "loras": [
            _strengths(lora, lora_hash) for lora, lora_hash in zip(loras, hashes, strict=True)
        ],
    }
    entries = {"format": "pt", **carried, RECIPE: json.dumps(recipe), MODELS: json.dumps(models)}
    if any(key.startswith("modelspec.") for key in carried):
        names = [base.stem, *(lora.source.path.stem for lora in loras)]
        entries["modelspec.merged_from"] = ", ".join(names)
    return entries


def _lora_hash(lora: AppliedLora) -> str:
    """Of the tensors, as web UIs know LoRAs; of the whole file for a pickle."""
    header_hash = lora.metadata.get("sshs_model_hash")
    if header_hash:
        return header_hash
    hashes = hash_file(lora.source.path)
    return hashes.autov3 or hashes.autov2


def _strengths(lora: AppliedLora, lora_hash: str) -> dict[str, Any]:
    source = lora.source
    strengths: dict[str, Any] = {
        "name": source.path.name,
        "hash": lora_hash,
        "unet": source.unet,
        "text_encoder": source.text_encoder,
    }
    if source.blocks is not None:
        strengths["blocks"] = {
            block: weight for block, weight in source.blocks.items() if weight != 1
        }
    return strengths
