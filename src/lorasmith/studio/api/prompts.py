"""Prompts kept in the workspace: lists and wildcards, read, written, and drawn as a preview.

Who saves says which version the text was made of; where another program, or another tab, has
changed the file meanwhile, the answer is 409 and nothing is written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from lorasmith.core.rng import MAX_SEED
from lorasmith.jobs.workspace.prompt_files import (
    MOST_BYTES,
    Expanded,
    Kind,
    PromptFile,
    PromptText,
    draw_command,
    expand_prompts,
    prompt_files,
    read_prompt_file,
    remove_prompt_file,
    rename_prompt_file,
    write_prompt_file,
)
from lorasmith.studio.context import Studio, StudioDep

router = APIRouter(prefix="/api/prompts", tags=["prompts"])

Text = Annotated[str, Field(max_length=MOST_BYTES)]


class NewText(BaseModel):
    """``version``: of the text that this one was made of; "" for a new file."""

    kind: Kind
    name: str
    text: Text
    version: str = ""


class NewFileName(BaseModel):
    kind: Kind
    name: str
    new: str


class FileVersion(BaseModel):
    kind: Kind
    name: str
    version: str


class TrashedFile(BaseModel):
    """``kept``: where it lies now."""

    kept: str


class ToExpand(BaseModel):
    """
    Args:
        text: lines of prompts.
        seed: of the first line that says none.
        count: of seeds for each line.
        wildcard, wildcard_text: name and text of a file of wildcards while it is written.
    """

    text: Text
    seed: Annotated[int, Field(ge=0, le=MAX_SEED - 10_000)] = 0
    count: Annotated[int, Field(ge=1, le=50)] = 1
    wildcard: str = ""
    wildcard_text: Text = ""


class FileOnPage(PromptText):
    """``command``: what draws a list in a shell; "" of wildcards."""

    command: str


@router.get("")
def files(studio: StudioDep) -> list[PromptFile]:
    """All of both kinds."""
    return prompt_files(studio.workspace, studio.roots.leads_inside)


@router.get("/file")
def file(studio: StudioDep, kind: Kind, name: str) -> FileOnPage:
    _guard(studio, kind, name)
    return _on_page(studio, read_prompt_file(studio.workspace, kind, name))


@router.put("/file")
def put_file(studio: StudioDep, body: NewText) -> FileOnPage:
    """Save a list or a file of wildcards, whole or not at all."""
    _guard(studio, body.kind, body.name)
    return _on_page(
        studio,
        write_prompt_file(studio.workspace, body.kind, body.name, body.text, body.version),
    )


@router.post("/rename")
def rename(studio: StudioDep, body: NewFileName) -> FileOnPage:
    _guard(studio, body.kind, body.name)
    _guard(studio, body.kind, body.new)
    return _on_page(studio, rename_prompt_file(studio.workspace, body.kind, body.name, body.new))


@router.post("/remove")
def remove(studio: StudioDep, body: FileVersion) -> TrashedFile:
    """Put a file into the workspace's trash."""
    _guard(studio, body.kind, body.name)
    kept = remove_prompt_file(studio.workspace, body.kind, body.name, body.version)
    return TrashedFile(kept=str(kept))


@router.post("/expand")
def expand(studio: StudioDep, body: ToExpand) -> Expanded:
    """What prompts become with seeds, as `lorasmith generate` would draw them."""
    edited = (body.wildcard, body.wildcard_text) if body.wildcard else None
    return expand_prompts(
        studio.workspace,
        body.text,
        seed=body.seed,
        count=body.count,
        edited=edited,
        allowed=studio.roots.leads_inside,
    )


def _on_page(studio: Studio, text: PromptText) -> FileOnPage:
    command = draw_command(studio.workspace, text.name) if text.kind == "prompts" else ""
    return FileOnPage(**text.model_dump(), command=command)


def _guard(studio: Studio, kind: Kind, name: str) -> None:
    """
    Raises:
        OutsideError: it leads out, by a link or dots.
    """
    studio.roots.resolve(str(Path(kind, f"{name}.txt")))
