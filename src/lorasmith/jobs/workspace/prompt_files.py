"""Prompts kept in a workspace: lists of them, and the wildcard files that ``__name__`` draws from.

::

    WORKSPACE/
      prompts/     NAME.txt: a prompt a line, with sd-scripts' options behind it;
                   what `lorasmith generate --prompts FILE` draws
      wildcards/   NAME.txt, FOLDER/NAME.txt: a line for each choice, as web UIs have them;
                   what `lorasmith generate --wildcard-dir DIR` takes

They are plain files, which other programs may change at any time: who writes one says which text
the change was made of, and is refused where that is no longer what lies there.
"""

from __future__ import annotations

import codecs
import os
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from lorasmith.config.sample_prompts import OPTIONS
from lorasmith.core.disk import is_same_file, rename, write_error
from lorasmith.core.errors import Problem, UserError, collect_problems
from lorasmith.core.file_names import new_name_problem
from lorasmith.core.files import files_below, write_bytes
from lorasmith.data.layout import natural_key
from lorasmith.jobs.curating.changes import ConflictError
from lorasmith.jobs.generate import GenerateRequest
from lorasmith.jobs.projects import PROMPTS, WILDCARDS
from lorasmith.jobs.request import command_line
from lorasmith.prompts.parse import parse_prompt
from lorasmith.prompts.wildcards import Wildcards, wildcard_name_problem
from lorasmith.sampling.from_dataset import requests_of_text
from lorasmith.sampling.request import ImageRequest, check_values, with_wildcards

Kind = Literal["prompts", "wildcards"]
Allowed = Callable[[Path], bool]
KINDS: tuple[Kind, ...] = (PROMPTS, WILDCARDS)
SUFFIX = ".txt"
MOST_BYTES = 4 << 20
"""Of a file; the largest lists of wildcards that are passed around have a tenth of it."""
_TRASH = Path(".lorasmith", "trash")
_LINE = "line"
"""What problems call a text that has no file."""

_writing = threading.Lock()


class PromptFile(BaseModel):
    """
    Args:
        name: without its ending, below the folder of its kind: "colours", "people/hair".
        lines: that count, neither blank nor begun with ``#``; ``None`` where it cannot be read.
        problem: why it cannot be read, or named in a prompt; "" of a good one.
    """

    kind: Kind
    name: str
    path: str
    lines: int | None
    problem: str = ""


class PromptText(BaseModel):
    """
    Args:
        version: another one for each text; "" of a file that is not there.
    """

    kind: Kind
    name: str
    path: str
    text: str
    version: str


class ExpandedPrompt(BaseModel):
    """What one line becomes with a seed.

    Args:
        line: its number, from 1.
        prompt, negative: with everything drawn that they leave to chance.
        written, written_negative: as they stand in the line.
        options: what the line says besides, but its seed, by the names of a drawing's fields.
        sample: the line as ``sample.prompts`` of a training takes it, which draws nothing by
            chance.
        problem: why it cannot be drawn; "" of a good one.
    """

    line: int
    seed: int
    prompt: str
    negative: str
    written: str
    written_negative: str
    options: dict[str, int | float | str]
    sample: str
    problem: str


class Expanded(BaseModel):
    """
    Args:
        lines: how many prompts there are; the first ones are expanded.
    """

    prompts: list[ExpandedPrompt]
    lines: int


def prompt_files(workspace: Path, allowed: Allowed = lambda path: True) -> list[PromptFile]:
    """All of both kinds, in natural order.

    Args:
        allowed: whether a file may be read, as one that a link leads to may not.
    """
    return [
        _described(workspace, kind, path)
        for kind in KINDS
        for path in sorted(_files(workspace, kind), key=lambda path: natural_key(str(path)))
        if allowed(path)
    ]


def read_prompt_file(workspace: Path, kind: Kind, name: str) -> PromptText:
    """
    Raises:
        UserError: there is no such file, or it is no text in UTF-8.
    """
    path = _place(workspace, kind, name)
    data = _bytes(path)
    return _text(kind, name, path, data)


def write_prompt_file(
    workspace: Path, kind: Kind, name: str, text: str, version: str = ""
) -> PromptText:
    """Write a file whole: beside it first, then in its place. Its line ends stay as they are.

    Args:
        version: of the text that this one was made of; "" for a new file.

    Raises:
        ConflictError: the file is another one than that meanwhile, or is there already.
        UserError: the name is none, or the text too long.
        WriteError: it cannot be written; the file is as it was.
    """
    path = _new_place(workspace, kind, name)
    with _writing:
        before = _require_version(path, version)
        data = text.replace("\r\n", "\n").encode("utf-8")
        if before is not None and b"\r\n" in before:
            data = data.replace(b"\n", b"\r\n")
        if before is not None and before.startswith(codecs.BOM_UTF8):
            data = codecs.BOM_UTF8 + data
        if len(data) > MOST_BYTES:
            what = f"would have {len(data)} bytes; {MOST_BYTES} are the most"
            raise UserError.of(path, what, "share it out to several files")
        write_bytes(path, data)
    return _text(kind, name, path, data)


def rename_prompt_file(workspace: Path, kind: Kind, name: str, new: str) -> PromptText:
    """
    Raises:
        ConflictError: the new name is taken.
        UserError: there is no such file, or the new name is none.
    """
    old, path = _place(workspace, kind, name), _new_place(workspace, kind, new)
    with _writing:
        data = _bytes(old)
        if path != old and os.path.lexists(path) and not is_same_file(path, old):
            raise ConflictError.of(new, "is there already", "choose another name")
        _make_folder(path.parent)
        _move(old, path)
    return _text(kind, new, path, data)


def remove_prompt_file(workspace: Path, kind: Kind, name: str, version: str) -> Path:
    """Put a file into the workspace's trash.

    Args:
        version: of the text that is to go.

    Returns:
        where it lies now.

    Raises:
        ConflictError: the file is another one meanwhile.
        UserError: there is no such file.
    """
    path = _place(workspace, kind, name)
    with _writing:
        _bytes(path)
        _require_version(path, version)
        kept = workspace / _TRASH / kind / f"{name}{SUFFIX}"
        number = 1
        while os.path.lexists(kept):
            number += 1
            kept = kept.with_name(f"{Path(name).name}-{number}{SUFFIX}")
        _make_folder(kept.parent)
        _move(path, kept)
    return kept


def expand_prompts(
    workspace: Path,
    text: str,
    *,
    seed: int = 0,
    count: int = 1,
    most: int = 200,
    edited: tuple[str, str] | None = None,
    allowed: Allowed = lambda path: True,
) -> Expanded:
    """What the lines of a list become, drawn as `lorasmith generate --prompts` would draw them.

    Args:
        text: of a list of prompts.
        seed: of the first line that says none; each further line has the next one.
        count: of seeds for each line.
        most: lines and seeds that are expanded in all.
        edited: name and text of a wildcard file while it is written.
        allowed: whether a file of wildcards may be read.
    """
    folder = workspace / WILDCARDS
    wildcards = Wildcards(folder if folder.is_dir() or edited else None, allowed)
    if edited is not None:
        wildcards.put(*edited)
    problems: list[Problem] = []
    requests = requests_of_text(text, ImageRequest("", seed=seed), _LINE, problems, count=count)
    expanded = []
    for line, request, options in requests[: max(1, most // count)]:
        wrong = [problem for problem in problems if problem.where == f"{_LINE}:{line}"]
        for turn in range(count):
            one = replace(request, seed=request.seed + turn)
            expanded.append(_expanded(line, one, options, wildcards, wrong))
    return Expanded(prompts=expanded, lines=len(requests))


def draw_command(workspace: Path, name: str) -> str:
    """What draws all prompts of a list, in a shell."""
    folder = workspace / WILDCARDS
    request = GenerateRequest(
        prompts=_place(workspace, PROMPTS, name),
        wildcard_dir=folder if folder.is_dir() else None,
    )
    return command_line(request)


def _expanded(
    line: int,
    request: ImageRequest,
    options: Collection[str],
    wildcards: Wildcards,
    problems: Sequence[Problem],
) -> ExpandedPrompt:
    found = list(problems)
    drawn = collect_problems(found, lambda: with_wildcards(request, wildcards)) or request
    if not found:
        found += check_values(drawn)
        collect_problems(found, lambda: parse_prompt(drawn.prompt))
    values = {name: getattr(drawn, name) for name in OPTIONS.values() if name in options}
    words = [f"--{letter} {values[name]}" for letter, name in OPTIONS.items() if name in values]
    return ExpandedPrompt(
        line=line,
        seed=request.seed,
        prompt=drawn.prompt,
        negative=drawn.negative,
        written=request.prompt,
        written_negative=request.negative,
        options={name: values[name] for name in values if name not in ("negative", "seed")},
        sample=" ".join([drawn.prompt, *words]),
        problem="; ".join(_told(problem) for problem in found),
    )


def _told(problem: Problem) -> str:
    """Without the line, beside which it stands."""
    is_line = problem.where.startswith(_LINE)
    text = problem.what if is_line else f"{problem.where}: {problem.what}"
    return f"{text} ({problem.hint})" if problem.hint else text


def _described(workspace: Path, kind: Kind, path: Path) -> PromptFile:
    name = path.relative_to(workspace / kind).with_suffix("").as_posix()
    problem = wildcard_name_problem(name) if kind == WILDCARDS else ""
    lines = None
    try:
        text = _decoded(path, _bytes(path))
        lines = sum(bool(line.strip()) and line.strip()[0] != "#" for line in text.splitlines())
    except UserError as error:
        problem = error.problems[0].what
    return PromptFile(kind=kind, name=name, path=str(path), lines=lines, problem=problem)


def _files(workspace: Path, kind: Kind) -> list[Path]:
    return files_below(workspace / kind, (SUFFIX,))


def _place(workspace: Path, kind: Kind, name: str) -> Path:
    """
    Raises:
        UserError: it is no name of a file within the folder.
    """
    parts = name.split("/")
    wrong = next((one for one in parts if one in ("", ".", "..")), None)
    if wrong is not None or Path(name).is_absolute() or "\\" in name or "\0" in name:
        what = "is no name of a list of prompts or wildcards"
        raise UserError.of("name", what, "give one as in the list, as colours or people/hair")
    return workspace / kind / f"{name}{SUFFIX}"


def _new_place(workspace: Path, kind: Kind, name: str) -> Path:
    """
    Raises:
        UserError: some system takes no file of that name, or no prompt could name it.
    """
    path = _place(workspace, kind, name)
    problem = next(filter(None, map(new_name_problem, name.split("/"))), "")
    if not problem and kind == WILDCARDS:
        problem = wildcard_name_problem(name)
    if problem:
        raise UserError.of("name", f"{name!r} cannot name a file: {problem}", "choose another")
    return path


def _bytes(path: Path) -> bytes:
    """
    Raises:
        UserError: there is none, it is too long, or it cannot be read.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            what = f"has {path.stat().st_size} bytes; {MOST_BYTES} are the most"
            raise UserError.of(path, what, "change it with an editor")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise UserError.of(path, "is not there any more", "choose another") from error
    except OSError as error:
        raise UserError.of(path, f"cannot be read: {error.strerror}") from error


def _decoded(path: Path, data: bytes) -> str:
    """
    Raises:
        UserError: it is no text in UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError.of(path, "is not text in UTF-8", "save it as UTF-8") from error


def _text(kind: Kind, name: str, path: Path, data: bytes) -> PromptText:
    text = _decoded(path, data).replace("\r\n", "\n")
    return PromptText(kind=kind, name=name, path=str(path), text=text, version=_version(data))


def _version(data: bytes) -> str:
    return blake2b(data, digest_size=8).hexdigest()


def _require_version(path: Path, version: str) -> bytes | None:
    """What lies there, where that is what a change was made of.

    Raises:
        ConflictError: it is not.
    """
    data = _bytes(path) if os.path.lexists(path) else None
    if (_version(data) if data is not None else "") != version:
        what = "was changed elsewhere meanwhile" if data is not None else "is not there any more"
        if data is not None and not version:
            what = "is there already"
        hint = "load it again, and keep your text by copying it or saving it under another name"
        raise ConflictError.of(path, what, hint)
    return data


def _make_folder(folder: Path) -> None:
    """
    Raises:
        WriteError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(folder, error) from error


def _move(old: Path, new: Path) -> None:
    """
    Raises:
        WriteError: it cannot be moved.
    """
    try:
        rename(old, new)
    except OSError as error:
        raise write_error(new, error) from error
