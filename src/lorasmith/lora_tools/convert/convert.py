"""``convert``: a LoRA or a checkpoint in another form; nothing in it is ever run.

A checkpoint's torch file becomes a safetensors file, tensor by tensor, so that little memory is
needed; or its numbers are rounded. LoRAs are in :mod:`lorasmith.lora_tools.convert.lora`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch

from lorasmith.core.errors import CheckpointError, Problem, UserError
from lorasmith.core.events import Controls, Observer, Progress, ignore
from lorasmith.core.files import PrecisionName, write_chunks
from lorasmith.formats.key_styles import WRITTEN
from lorasmith.formats.pickle_header import stubs
from lorasmith.lora_tools.checkpoint_writer import CheckpointRewriter
from lorasmith.lora_tools.convert.cloneofsimo import is_lora
from lorasmith.lora_tools.convert.lora import ConvertedLora, convert_lora
from lorasmith.lora_tools.inspect.thumbnail import KEY as PREVIEW_KEY
from lorasmith.lora_tools.inspect.thumbnail import preview_url
from lorasmith.lora_tools.outputs import check_output, check_space, choice_problems
from lorasmith.models.layout import WeightFile
from lorasmith.models.open import read_header
from lorasmith.tensors.files import PRECISIONS

CONTAINER = "safetensors"
"""``to`` for the names as they are."""

Target = Literal["kohya", "kohya-diffusers", "diffusers", "comfy", "safetensors"]
TARGETS: tuple[Target, ...] = get_args(Target)


@dataclass(frozen=True, slots=True)
class Conversion:
    """
    Args:
        out: the file that was written, or would have been.
        kind: "lora" or "checkpoint".
        before, after: styles of names, see :mod:`lorasmith.formats.key_styles`; of a checkpoint
            "pickle" and "safetensors".
        tensors: how many were written.
        size: of the file, in bytes.
        notes: what the user should know.
        exact: the file is one that was there before, byte for byte.
    """

    out: Path
    kind: str
    before: str
    after: str
    tensors: int
    size: int
    notes: tuple[str, ...] = ()
    exact: bool = False


def convert(
    source: str | Path,
    out: str | Path,
    *,
    to: Target | None = None,
    precision: PrecisionName | None = None,
    preview: str | Path | None = None,
    dry_run: bool = False,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> Conversion:
    """Write ``source`` as the ``.safetensors`` file ``out``.

    Args:
        source: a LoRA in any style, ``.safetensors``, ``.pt`` or ``.ckpt``; or a checkpoint.
        to: one of :data:`TARGETS`; None is kohya's names for a LoRA.
        precision: round to this; None keeps the numbers.
        preview: an image to embed as modelspec's thumbnail.
        dry_run: check everything and say the size; write nothing.

    Raises:
        UserError: the file cannot be read or is something else, has no form in the style, or holds
            numbers that cannot be written; ``out`` exists already, the disk has no room, or the
            image cannot be read. Nothing is written then.
        Stopped: asked to stop; nothing is written.
    """
    source, out = Path(source), Path(out)
    problems = [
        *check_output(out, [source]),
        *choice_problems("--precision", precision, PRECISIONS),
    ]
    problems += choice_problems("--to", to, TARGETS)
    image = None
    try:
        image = preview_url(Path(preview)) if preview is not None else None
        lora = is_lora(source)
    except UserError as error:
        raise UserError([*problems, *error.problems]) from error
    if not lora and to in WRITTEN:
        what = f"is a checkpoint; {to} is a way to name a LoRA's tensors"
        problems.append(Problem(str(source), what, "leave out --to"))
    if problems:
        raise UserError(problems)
    dtype = None if precision is None else PRECISIONS[precision]
    new: ConvertedLora | CheckpointRewriter
    metadata: dict[str, str] = {}
    if lora:
        style = {None: "kohya", CONTAINER: None}.get(to, to)
        new = convert_lora(source, style=style, dtype=dtype, preview=image)
        report = Conversion(
            out, "lora", new.before, new.after, new.count, new.size, new.notes,
            new.exact is not None,
        )  # fmt: skip
    else:
        new, metadata, report = _checkpoint(source, out, dtype, image)
    if problems := check_space(out, report.size):
        raise UserError(problems)
    controls = controls or Controls()
    if dry_run:
        return report
    if isinstance(new, ConvertedLora):
        write_chunks(out, _until_stopped(new.chunks(), controls))
    else:
        numbers, count = itertools.count(1), new.count

        def one_more(size: int) -> None:
            observer(Progress("converting", next(numbers), count))

        new.write(out, metadata, controls, one_more)
    return report


def _until_stopped(
    chunks: Iterator[bytes | memoryview], controls: Controls
) -> Iterator[bytes | memoryview]:
    for chunk in chunks:
        controls.check()
        yield chunk


def _checkpoint(
    source: Path, out: Path, dtype: torch.dtype | None, preview: str | None
) -> tuple[CheckpointRewriter, dict[str, str], Conversion]:
    """A checkpoint as it is to be written, with its metadata; its header alone is read.

    Names, shapes and what is no floating-point number of 16 bits or more stay as they are.

    Raises:
        CheckpointError: it cannot be read.
        UserError: there is nothing to change.
    """
    file = read_header(source)
    if file.pickle is None and dtype is None and preview is None:
        hint = "say --precision for another one"
        raise UserError.of(source, "is a .safetensors checkpoint already", hint)
    metadata = {"format": "pt", **file.metadata}
    if preview is not None:
        metadata[PREVIEW_KEY] = preview
    new = CheckpointRewriter(file, {}, dtype, like_library=True)
    if not new.count:
        what = "holds no tensors by name, so it is no checkpoint"
        raise CheckpointError.of(source, what, "give a checkpoint or a LoRA")
    before = "safetensors" if file.pickle is None else "pickle"
    size, notes = new.size(metadata), _left_out(file)
    report = Conversion(out, "checkpoint", before, "safetensors", new.count, size, notes)
    return new, metadata, report


def _left_out(file: WeightFile) -> tuple[str, ...]:
    if file.pickle is None or not stubs(file.pickle):
        return ()
    return ("the training program's own state is left out",)
