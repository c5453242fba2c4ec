"""CLIP's byte-pair tokenizer, from the vocabulary file in the package. Torch-free.

The vocabulary is OpenAI's ``bpe_simple_vocab_16e6.txt.gz`` (MIT licence); the rules (lower case,
single spaces, how words split) are those of transformers' ``CLIPTokenizer``, on the same library.
"""

from __future__ import annotations

import functools
import gzip

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE

from lorasmith.files import ASSETS

VOCABULARY = ASSETS / "bpe_simple_vocab_16e6.txt.gz"
BOS_TEXT, EOS_TEXT = "<|startoftext|>", "<|endoftext|>"
BOS, EOS = 49406, 49407
ROW = 75  # text tokens in a row; with begin and end it is 77 long

# CLIP was trained on the first merges only: 49 152 tokens less the 256 bytes and 2 marks.
MERGES = 49152 - 256 - 2
WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]"
    r"|[^\s\p{L}\p{N}]+"
)


@functools.cache
def clip_tokenizer() -> Tokenizer:
    """The tokenizer, built once per process."""
    lines = gzip.decompress(VOCABULARY.read_bytes()).decode("utf-8").split("\n")
    merges = [_pair(line) for line in lines[1 : MERGES + 1]]
    letters = _byte_letters()
    tokens = letters + [f"{letter}</w>" for letter in letters]
    tokens += ["".join(pair) for pair in merges] + [BOS_TEXT, EOS_TEXT]
    tokenizer = Tokenizer(
        BPE(
            vocab={token: number for number, token in enumerate(tokens)},
            merges=merges,
            end_of_word_suffix="</w>",
            unk_token=EOS_TEXT,
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.add_special_tokens([BOS_TEXT, EOS_TEXT])
    return tokenizer


def _pair(line: str) -> tuple[str, str]:
    first, second = line.split()
    return first, second


def _byte_letters() -> list[str]:
    """A printable letter for each byte, in the order of CLIP's vocabulary: bytes that print as
    themselves come first, the others take letters from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = 256 - len(printable)
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(others)]


def token_ids(text: str) -> list[int]:
    """The ids of a text, without begin and end."""
    return clip_tokenizer().encode(text, add_special_tokens=False).ids


def count_tokens(text: str) -> int:
    """How many of the 75, 150 or 225 tokens a caption takes."""
    return len(token_ids(text))


def lost_tokens(text: str, max_tokens: int = ROW) -> int:
    """How many tokens at a caption's end the model will not see."""
    return max(0, count_tokens(text) - max_tokens)


def token_rows(text: str, max_tokens: int = ROW) -> list[list[int]]:
    """A caption as rows of 77 ids: begin, 75 of text, end; short rows are filled with end.

    Cut by count, as sd-scripts does for SD 1 (its ``max_token_length``), so that a LoRA meets
    the same conditioning there. Every caption has max_tokens / 75 rows.
    """
    assert max_tokens > 0
    assert max_tokens % ROW == 0, max_tokens
    return rows_of_ids(token_ids(text)[:max_tokens], max_tokens // ROW)


def rows_of_ids(ids: list[int], rows: int) -> list[list[int]]:
    """``rows`` rows of 77 from at most 75 * rows text ids."""
    assert len(ids) <= rows * ROW
    padded = ids + [EOS] * (rows * ROW - len(ids))
    return [[BOS, *padded[i * ROW : (i + 1) * ROW], EOS] for i in range(rows)]
