"""How many CLIP tokens texts take, which pieces their words are in, and what is cut off where."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorasmith.core.errors import DatasetError, Problem
from lorasmith.core.events import Observer, ignore
from lorasmith.core.files import user_path
from lorasmith.curation.collection import open_collection
from lorasmith.curation.edit.new_captions import captions_in_tables
from lorasmith.data.caption_files import TABLE_SUFFIXES, decode, read_caption
from lorasmith.data.images import SUFFIXES
from lorasmith.data.scan import CAPTION_SUFFIXES
from lorasmith.formats.run_paths import DEFAULT_OUTPUT, lora_folder
from lorasmith.prompts.parse import Part, parse_prompt

if TYPE_CHECKING:
    from lorasmith.models.embedding_names import EmbeddingNames
    from lorasmith.models.tokenizer import Word

LIMITS = (75, 150, 225)
"""Tokens that trainers let captions have."""
# Steps over which a prompt that changes is looked at, as the web UI's counter does.
_STEPS = 20


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """CLIP tokens of captions that are not empty.

    Args:
        longer: how many captions are longer than 75, 150, 225 tokens.
    """

    least: int
    median: float
    most: int
    longer: dict[int, int]

    @classmethod
    def of(cls, counts: Sequence[int]) -> TokenCounts | None:
        """``None`` where there are no captions."""
        if not counts:
            return None
        longer = {limit: sum(count > limit for count in counts) for limit in LIMITS}
        return cls(min(counts), statistics.median(counts), max(counts), longer)

    def __str__(self) -> str:
        over = ", ".join(f"{count} over {limit}" for limit, count in self.longer.items())
        return f"{self.least} to {self.most} a caption, median {self.median:g}; {over}"


def count_captions(captions: Iterable[str]) -> TokenCounts | None:
    """Of captions; empty ones are left out."""
    from lorasmith.models.tokenizer import count_tokens

    return TokenCounts.of([count_tokens(caption) for caption in captions if caption])


@dataclass(frozen=True)
class TokenizedText:
    """
    Args:
        source: the prompt itself, or the file that the text stands in, with its line where there
            are several.
        words: as CLIP reads them; an embedding is one, with a piece for each vector.
        embeddings: of the text: how many vectors each has, by name.
    """

    source: str
    words: tuple[Word, ...]
    from_file: bool = False
    embeddings: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def tokens(self) -> int:
        return sum(len(word.ids) for word in self.words)

    @property
    def text(self) -> str:
        """As CLIP reads it: mended, in small letters."""
        return self.part(0, self.tokens)

    @property
    def split_words(self) -> dict[str, tuple[str, ...]]:
        """Words that take more than one token, with their pieces."""
        return {
            word.text: word.pieces
            for word in self.words
            if len(word.pieces) > 1 and word.text not in self.embeddings
        }

    def part(self, begin: int, end: int) -> str:
        """The text of the tokens from one place to another, which is not part of it."""
        pieces: list[str] = []
        at = 0
        for word in self.words:
            inside = word.pieces[max(0, begin - at) : max(0, end - at)]
            if inside:
                pieces += [" "] if word.spaced and pieces and at >= begin else []
                pieces += inside
            at += len(word.pieces)
        return "".join(pieces)

    def rows(self) -> list[tuple[int, int, str]]:
        """First and last token, from 1, and text: up to 75, to 150, to 225, and the rest."""
        ends = [min(limit, self.tokens) for limit in LIMITS] + [self.tokens]
        pairs = itertools.pairwise([0, *ends])
        return [(begin + 1, end, self.part(begin, end)) for begin, end in pairs if end > begin]

    def to_json(self) -> dict[str, Any]:
        words = [
            {"text": word.text, "pieces": list(word.pieces), "ids": list(word.ids)}
            for word in self.words
        ]
        cut = {str(limit): self.part(limit, self.tokens) for limit in LIMITS if self.tokens > limit}
        return {
            "source": self.source,
            "tokens": self.tokens,
            "text": self.text,
            "cut_off": cut,
            "words": words,
            "embeddings": dict(self.embeddings),
        }


@dataclass(frozen=True, slots=True)
class TokenReport:
    """
    Args:
        texts: in the order asked for.
        empty: captions that say nothing.
    """

    texts: tuple[TokenizedText, ...]
    empty: tuple[Path, ...] = ()

    @property
    def counts(self) -> TokenCounts | None:
        return TokenCounts.of([text.tokens for text in self.texts])

    def to_json(self) -> dict[str, Any]:
        texts = [text.to_json() for text in self.texts]
        return {"texts": texts, "empty": [str(path) for path in self.empty]}


def tokenize_texts(
    texts: Sequence[str],
    *,
    literal: bool = False,
    embedding_dir: str | Path | None = None,
    observer: Observer = ignore,
) -> TokenReport:
    """The tokens of prompts, and of captions in files and folders.

    Args:
        texts: prompts; files of captions or prompts, one a line; pictures, for their captions; or
            folders of these, with those in them.
        literal: prompts are read to the letter too, as captions are: brackets and ``<lora:…>``
            are text.
        embedding_dir: where the embeddings are whose names in prompts stand for their vectors;
            ``None`` are those that were trained here, in ``runs``, as drawing has it.

    Raises:
        DatasetError: a file or folder cannot be read, or has no captions.
        PromptError: a prompt that cannot be read.
    """
    names = _embeddings_in(embedding_dir)
    results: list[TokenizedText] = []
    empty: list[Path] = []
    problems: list[Problem] = []
    for text in texts:
        path = Path(text).expanduser()
        if not _is_path(text, path):
            results += [tokenize(text)] if literal else tokenize_prompt(text, names)
            continue
        try:
            captions = list(_captions(path, observer))
        except DatasetError as error:
            problems += error.problems
            continue
        for file, caption in captions:
            lines = caption.splitlines()
            written = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
            empty += [] if written else [file]
            for number, line in written:
                source = f"{file}:{number}" if len(written) > 1 else str(file)
                results.append(tokenize(line, source))
    if problems:
        raise DatasetError(problems)
    return TokenReport(tuple(results), tuple(empty))


def tokenize(text: str, source: str = "") -> TokenizedText:
    """A text to the letter, as captions are read."""
    from lorasmith.models.tokenizer import tokenized_words

    words = tuple(tokenized_words(text))
    return TokenizedText(source or text, words, from_file=bool(source))


def _embeddings_in(folder: str | Path | None) -> EmbeddingNames:
    """
    Raises:
        DatasetError: a folder that was given is none.
    """
    from lorasmith.models.embedding_names import EmbeddingNames

    if folder is None:
        return EmbeddingNames(DEFAULT_OUTPUT if DEFAULT_OUTPUT.is_dir() else None, named=False)
    path = lora_folder(user_path(folder))
    if not path.is_dir():
        raise DatasetError.of("embedding_dir", f"{path} is no folder", "correct the path")
    return EmbeddingNames(path)


def tokenize_prompt(prompt: str, embeddings: EmbeddingNames) -> list[TokenizedText]:
    """A prompt, as drawing reads it: its weights and LoRAs take no tokens, and an embedding's name
    as many as it has vectors. Of several that AND joins each by itself; of one that changes the
    longest that it becomes.

    Raises:
        PromptError: it cannot be read.
    """
    parts = parse_prompt(prompt).parts
    names = [f"{prompt} (part {number})" for number in range(1, len(parts) + 1)]
    return [
        max(
            (_of_part(part, step, name, embeddings) for step in _steps(part)),
            key=lambda text: text.tokens,
        )
        for part, name in zip(parts, names if len(parts) > 1 else [prompt], strict=True)
    ]


def _steps(part: Part) -> range:
    return range(_STEPS) if part.changes else range(1)


def _of_part(part: Part, step: int, name: str, embeddings: EmbeddingNames) -> TokenizedText:
    words: list[Word] = []
    counts: dict[str, int] = {}
    before = ""
    for fragment in itertools.chain(*part.sections(step, _STEPS)):
        is_apart = before[-1:].isspace() or fragment.text[:1].isspace()
        before, begin = fragment.text, len(words)
        for word, count in _with_embeddings(tokenize(fragment.text).words, embeddings):
            is_first = len(words) == begin > 0
            words.append(replace(word, spaced=True) if is_first and is_apart else word)
            if count is not None:
                counts[word.text] = count
    return TokenizedText(name, tuple(words), embeddings=counts)


def _with_embeddings(
    words: Sequence[Word], embeddings: EmbeddingNames
) -> Iterator[tuple[Word, int | None]]:
    """The words of a text, those of an embedding's name as one, with how many vectors it has. Of
    one whose file does not say that before it is read they stay words."""
    tokens = [(word, place) for word in words for place in range(len(word.ids))]
    ids = [word.ids[place] for word, place in tokens]
    at = 0
    while at < len(ids):
        word, place = tokens[at]
        found = embeddings.find(ids, at)
        if found is not None and (count := found[1].vectors) is not None:
            name = found[1].name
            pieces, spaced = (name, *[""] * (count - 1)), word.spaced and place == 0
            yield replace(word, text=name, pieces=pieces, ids=(0,) * count, spaced=spaced), count
            at += found[0]
            continue
        # A name may begin within a word, as the web UI finds it too.
        end = place + 1
        while end < len(word.ids) and embeddings.find(ids, at + end - place) is None:
            end += 1
        yield (word if end - place == len(word.ids) else _part_of(word, place, end)), None
        at += end - place


def _part_of(word: Word, begin: int, end: int) -> Word:
    pieces, spaced = word.pieces[begin:end], word.spaced and begin == 0
    return replace(
        word, text="".join(pieces), pieces=pieces, ids=word.ids[begin:end], spaced=spaced
    )


def _is_path(text: str, path: Path) -> bool:
    """Whether a text names a file; one that is not there if it is called like one."""
    if not text:
        return False
    try:
        is_there = path.exists()
    except (OSError, ValueError):  # too long for a name, or with characters that none has
        return False
    endings = (*CAPTION_SUFFIXES, *SUFFIXES)
    return is_there or (path.suffix.lower() in endings and not {",", "<"} & set(text))


def _captions(path: Path, observer: Observer) -> Iterator[tuple[Path, str]]:
    """Captions with the files that they stand in, or with their pictures where that is a table."""
    if not path.is_dir():
        yield _of_file(path)
        return
    images = open_collection(path, observer=observer).images
    tables = captions_in_tables([image for image in images if image.caption_path is None])
    for image in images:
        if image.caption_path is not None:
            yield image.caption_path, image.caption
        elif image.path in tables:
            yield image.path, tables[image.path][0]
    if images:
        return
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in CAPTION_SUFFIXES)
    if not files:
        raise DatasetError.of(path, "has neither pictures nor captions", "name another folder")
    for file in files:
        yield _of_file(file)


def _of_file(path: Path) -> tuple[Path, str]:
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        files = [path.with_suffix(ending) for ending in CAPTION_SUFFIXES]
        path = next((file for file in files if file.is_file()), files[0])
    if suffix in TABLE_SUFFIXES:
        raise DatasetError.of(path, "is a table of captions", "name the folder that it lies in")
    try:
        caption = read_caption(path)
    except OSError as error:
        what = "does not exist" if isinstance(error, FileNotFoundError) else "cannot be read"
        raise DatasetError.of(path, what, "correct the path") from error
    if not caption.is_text:
        raise DatasetError.of(path, "is not a text file", "name a file of captions")
    # With empty lines, which captions lack: lines are told by their numbers.
    return path, decode(path.read_bytes())[0]
