"""One caption at a time: read, counted in tokens, and written unless somebody else wrote it."""

from __future__ import annotations

from itertools import accumulate

from pydantic import BaseModel

from lorasmith.core.errors import DatasetError
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.collection import CollectionImage
from lorasmith.curation.edit.caption_text import CaptionFile
from lorasmith.curation.token_counts import LIMITS, tokenize
from lorasmith.data.captions import split_tags
from lorasmith.jobs.curating.changes import ConflictError, apply
from lorasmith.jobs.curating.open_dataset import OpenDataset


class TokenChunk(BaseModel):
    """The tokens from ``begin``, counted from 1, to ``end``, and their text as CLIP reads it."""

    begin: int
    end: int
    text: str


class TokensRecord(BaseModel):
    """
    Args:
        tokens: of the first line, which is what training reads without wildcards.
        after_tags: for each of its tags, how many there are up to it, its comma left out.
        chunks: up to 75, to 150, to 225, and the rest.
        limits: 75, 150, 225.
    """

    tokens: int
    after_tags: list[int]
    chunks: list[TokenChunk]
    limits: list[int] = list(LIMITS)


class CaptionRecord(BaseModel):
    """
    Args:
        version: of the dataset.
        name: of the image.
        file: the caption's, within the folder; it need not be there.
        exists: it is.
        text: all of the file, but for the line break at its end.
        tags: of its first line.
        is_text: ``False`` of a file that holds something else, and cannot be written.
        images: others that share the caption.
    """

    version: str
    name: str
    file: str
    exists: bool
    text: str
    tags: list[str]
    is_text: bool
    images: list[str]
    tokens: TokensRecord


def read(dataset: OpenDataset, name: str) -> CaptionRecord:
    """
    Raises:
        DatasetError: there is no such image, or its caption cannot be read.
    """
    image = dataset.image(name)
    file = _file(image)
    text = _body(file.text) if file is not None else ""
    path = image.new_caption_path
    return CaptionRecord(
        version=dataset.version,
        name=name,
        file=path.relative_to(dataset.folder).as_posix(),
        exists=file is not None,
        text=text,
        tags=split_tags(_first_line(text)),
        is_text=file is None or file.is_text,
        images=[
            dataset.name_of(other)
            for other in dataset.images
            if other is not image and other.caption_path == image.caption_path is not None
        ],
        tokens=count_tokens(text),
    )


def write(dataset: OpenDataset, name: str, former: str, text: str) -> CaptionRecord:
    """Give an image another caption, through the journal; an empty one stays, as an empty file.

    Args:
        former: the text that is to be replaced, as :func:`read` gave it.

    Raises:
        ConflictError: the caption is another one by now.
        DatasetError: there is no such image, or its caption cannot be written.
    """
    image = dataset.image(name)
    file = _file(image)
    present = _body(file.text) if file is not None else ""
    if present != former:
        what = "somebody else changed the caption meanwhile; it is left as it is"
        raise ConflictError.of(name, what, "look at it again, then write yours")
    if file is not None and not file.is_text:
        raise DatasetError.of(name, "its caption file is not text, and left alone", "remove it")
    if text == present:
        return read(dataset, name)
    plan = Plan(f"caption of {name}", dataset.collection.roots)
    with plan.together(image.path):
        if file is None:
            plan.write_text(image.new_caption_path, None, f"{text}\n".encode())
        else:
            ending = file.text[len(present) :]
            # A text field of a page knows one kind of line break.
            lines = text.replace("\n", "\r\n") if "\r\n" in file.text else text
            data = file.with_text(lines + ending)
            plan.write_text(image.new_caption_path, file.data, data)
    plan.leave_out_infeasible()
    if plan.skipped:
        raise DatasetError(plan.skipped)
    apply(dataset, plan)
    return read(dataset, name)


def count_tokens(text: str) -> TokensRecord:
    """CLIP tokens of a caption's first line, to the letter."""
    from lorasmith.models.tokenizer import token_ids

    line = _first_line(text)
    tokenized = tokenize(line)
    pieces = line.split(",")
    ends = accumulate(pieces, lambda end, piece: end + 1 + len(piece), initial=-1)
    return TokensRecord(
        tokens=tokenized.tokens,
        after_tags=[
            len(token_ids(line[:end]))
            for end, piece in zip(list(ends)[1:], pieces, strict=True)
            if piece.strip()
        ],
        chunks=[
            TokenChunk(begin=begin, end=end, text=part) for begin, end, part in tokenized.rows()
        ],
    )


def _file(image: CollectionImage) -> CaptionFile | None:
    if image.caption_path is None:
        return None
    try:
        return CaptionFile.of(image.caption_path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        what = f"the caption cannot be read: {error.strerror}"
        raise DatasetError.of(image.caption_path.name, what, "mend or remove it") from error


def _body(text: str) -> str:
    return text.rstrip("\r\n")


def _first_line(text: str) -> str:
    """What training reads: the first line with something on it."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
