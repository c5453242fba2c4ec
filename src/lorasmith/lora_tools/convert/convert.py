"""``convert``: a LoRA or a checkpoint in another form; nothing in it is ever run."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from lorasmith.core.errors import CheckpointError, LoraFileError, Problem, UserError
from lorasmith.core.events import Controls, Observer, ignore
from lorasmith.formats.key_styles import WRITTEN
from lorasmith.formats.layer_names import looks_like_lora
from lorasmith.lora_tools.convert.checkpoint import convert_checkpoint
from lorasmith.lora_tools.convert.cloneofsimo import is_cloneofsimo
from lorasmith.lora_tools.convert.lora import convert_lora
from lorasmith.lora_tools.convert.result import Conversion
from lorasmith.lora_tools.inspect.thumbnail import preview_url
from lorasmith.lora_tools.outputs import check_output, choice_problems
from lorasmith.models.open import GIVE, read_header
from lorasmith.tensors.files import PRECISIONS, Precision

CONTAINER = "safetensors"
"""``to`` for the names as they are."""

Target = Literal["kohya", "kohya-diffusers", "diffusers", "comfy", "safetensors"]
TARGETS: tuple[Target, ...] = get_args(Target)


def convert(
    source: str | Path,
    out: str | Path,
    *,
    to: Target | None = None,
    precision: Precision | None = None,
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
        UserError: see :func:`convert_lora` and :func:`convert_checkpoint`; ``out`` exists already,
            or the image cannot be read. Nothing is written then.
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
    if lora:
        style = {None: "kohya", CONTAINER: None}.get(to, to)
        return convert_lora(
            source,
            out,
            style=style,
            dtype=dtype,
            preview=image,
            dry_run=dry_run,
            controls=controls,
        )
    return convert_checkpoint(
        source,
        out,
        dtype=dtype,
        preview=image,
        dry_run=dry_run,
        observer=observer,
        controls=controls,
    )


def _of_either(problem: Problem) -> Problem:
    """What is wrong with a file, for a tool that reads LoRAs and checkpoints."""
    if problem.hint != GIVE:
        return problem
    hint = "give a LoRA or a checkpoint"
    if "picture" in problem.what:
        hint += "; `lorasmith generate --from-png PICTURE` reads what a picture was drawn with"
    return Problem(problem.where, problem.what, hint)


def is_lora(path: Path) -> bool:
    """Whether a file is a LoRA of any kind, by its header alone.

    Raises:
        UserError: it is not there, cannot be read safely, or is something else altogether.
    """
    try:
        there, folder = path.exists(), path.is_dir()
    except OSError as error:
        raise LoraFileError(Problem(str(path), f"cannot be read: {error.strerror}")) from error
    if not there:
        raise LoraFileError(Problem(str(path), "there is no such file", "check the path"))
    if folder:
        raise LoraFileError(Problem(str(path), "is a folder, not a file", "name a file in it"))
    try:
        names = list(read_header(path).shapes)
    except CheckpointError as error:
        raise LoraFileError([_of_either(problem) for problem in error.problems]) from error
    return looks_like_lora(names) or is_cloneofsimo(path)
