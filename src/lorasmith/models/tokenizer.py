"""CLIP's byte-pair tokenizer, from the vocabulary file in the package. Torch-free.

The vocabulary is OpenAI's ``bpe_simple_vocab_16e6.txt.gz`` (MIT licence); the rules are those of
OpenAI's tokenizer and of the ``CLIPTokenizer`` of transformers 4 that sd-scripts and the web UIs
run: ftfy mends the text (curly quotes, ligatures, full width, HTML entities, wrongly decoded
letters), white space becomes single spaces, Python lowers the case.
"""

from __future__ import annotations

import functools
import gzip
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import regex

from lorasmith.core.files import ASSETS

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

VOCABULARY = ASSETS / "bpe_simple_vocab_16e6.txt.gz"
BOS_TEXT, EOS_TEXT = "<|startoftext|>", "<|endoftext|>"
BOS, EOS = 49406, 49407
ROW = 75  # text tokens in a row; with begin and end it is 77 long

# CLIP was trained on the first merges only: 49 152 tokens less the 256 bytes and 2 marks.
MERGES = 49152 - 256 - 2
WORDS = regex.compile(
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]"
    r"|[^\s\p{L}\p{N}]+",
    regex.IGNORECASE,
)
_MARKS = re.compile(f"({re.escape(BOS_TEXT)}|{re.escape(EOS_TEXT)})")
_SPACES = re.compile(r"\s+")


@functools.cache
def clip_tokenizer() -> Tokenizer:
    """Merges the letters of words, as :data:`WORDS` finds them; built once per process."""
    # 5 MB, for whoever counts tokens.
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import BPE

    lines = gzip.decompress(VOCABULARY.read_bytes()).decode("utf-8").split("\n")
    merges = [_pair(line) for line in lines[1 : MERGES + 1]]
    letters = list(_letters_of_bytes().values())
    tokens = letters + [f"{letter}</w>" for letter in letters]
    tokens += ["".join(pair) for pair in merges] + [BOS_TEXT, EOS_TEXT]
    tokenizer = Tokenizer(
        BPE(
            vocab={token: number for number, token in enumerate(tokens)},
            merges=merges,
            end_of_word_suffix="</w>",
            unk_token=EOS_TEXT,
            cache_capacity=1000,  # words; ten times as many by itself, 2 MB
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.add_special_tokens([BOS_TEXT, EOS_TEXT])
    return tokenizer


def _pair(line: str) -> tuple[str, str]:
    first, second = line.split()
    return first, second


@functools.cache
def _letters_of_bytes() -> dict[int, str]:
    """A printable letter for each byte, in the order of CLIP's vocabulary: bytes that print as
    themselves come first, the others take letters from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable}
    return letters | {byte: chr(256 + number) for number, byte in enumerate(others)}


def token_ids(text: str) -> list[int]:
    """The ids of a text, without begin and end; the marks of these in it are theirs."""
    words: list[str] = []
    # ftfy decides by the whole of what it is given: each part between marks by itself.
    for part in _MARKS.split(text):
        words += [part] if _MARKS.fullmatch(part) else WORDS.findall(normalized(part))
    return [number for word in words for number in _encoded(word).ids]


def _encoded(word: str) -> Encoding:
    # A list of words takes it longer than one by one, and has it load NumPy.
    return clip_tokenizer().encode(word, add_special_tokens=False)


@dataclass(frozen=True, slots=True)
class Word:
    """A word or a run of signs, as CLIP reads it.

    Args:
        text: mended and in small letters.
        pieces: what stands for a token each; ``\\xf0`` for a byte of a letter that is itself in
            pieces.
        ids: of these.
        spaced: whether a space comes before it.
    """

    text: str
    pieces: tuple[str, ...]
    ids: tuple[int, ...]
    spaced: bool


def tokenized_words(text: str) -> list[Word]:
    """The words of a text with the tokens that they take: those of :func:`token_ids`."""
    words: list[Word] = []
    for part in _MARKS.split(text):
        if _MARKS.fullmatch(part):
            words.append(Word(part, (part,), tuple(token_ids(part)), spaced=bool(words)))
            continue
        plain = normalized(part)
        for match in WORDS.finditer(plain):
            begin = match.start()
            spaced = plain[begin - 1].isspace() if begin else bool(words)
            ids, pieces = _word_tokens(match[0])
            words.append(Word(match[0], pieces, ids, spaced))
    return words


@functools.lru_cache(maxsize=1 << 14)
def _word_tokens(word: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
    encoding = _encoded(word)
    byte_of = {letter: byte for byte, letter in _letters_of_bytes().items()}
    pieces = []
    for token in encoding.tokens:
        data = bytes(byte_of[letter] for letter in token.removesuffix("</w>"))
        pieces.append(data.decode("utf-8", errors="backslashreplace"))
    return tuple(encoding.ids), tuple(pieces)


def normalized(text: str) -> str:
    """The text as CLIP was trained to read it."""
    if not _is_plain(text):
        # Takes a while to import, and changes nothing of plain text.
        import ftfy

        text = ftfy.fix_text(text)
    return _SPACES.sub(" ", text).strip().lower()


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and "&" not in text


def count_tokens(text: str) -> int:
    """How many of the 75, 150 or 225 tokens a caption takes."""
    # No token goes across a space, and the same words come again and again.
    return sum(map(_count, text.split())) if _is_plain(text) else len(token_ids(text))


@functools.lru_cache(maxsize=1 << 16)
def _count(text: str) -> int:
    return len(token_ids(text))


def lost_tokens(text: str, max_tokens: int = ROW) -> int:
    """How many tokens at a caption's end the model will not see."""
    return max(0, count_tokens(text) - max_tokens)


def token_rows(
    text: str, max_tokens: int = ROW, read: Callable[[str], list[int]] = token_ids
) -> list[list[int]]:
    """A caption as rows of 77 ids: begin, 75 of text, end; short rows are filled with end.

    Cut by count, as sd-scripts does for SD 1 (its ``max_token_length``), so that a LoRA meets
    the same conditioning there. Every caption has max_tokens / 75 rows.
    """
    assert max_tokens > 0
    assert max_tokens % ROW == 0, max_tokens
    return rows_of_ids(read(text)[:max_tokens], max_tokens // ROW)


def rows_of_ids(ids: list[int], rows: int) -> list[list[int]]:
    """``rows`` rows of 77 from at most 75 * rows text ids."""
    assert len(ids) <= rows * ROW
    padded = ids + [EOS] * (rows * ROW - len(ids))
    return [[BOS, *padded[i * ROW : (i + 1) * ROW], EOS] for i in range(rows)]
