"""Token ids against OpenAI's published ones and transformers' own tokenizer."""

from __future__ import annotations

import functools
import gzip
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from lorasmith.models.tokenizer import (
    BOS,
    EOS,
    VOCABULARY,
    clip_tokenizer,
    count_tokens,
    lost_tokens,
    token_ids,
    token_rows,
)


@functools.cache
def transformers_tokenizer() -> CLIPTokenizer:
    """Built as transformers converts OpenAI's file to its vocab.json and merges.txt."""
    lines = gzip.decompress(VOCABULARY.read_bytes()).decode().split("\n")
    merges = [tuple(line.split()) for line in lines[1:48895]]
    return CLIPTokenizer(vocab=dict(clip_tokenizer().get_vocab()), merges=merges)


# Known outside: from OpenAI's and open_clip's README and tests.
PUBLISHED = {
    "a photo of a cat": [320, 1125, 539, 320, 2368],
    "a diagram": [320, 22697],
    "a dog": [320, 1929],
    "hello world!": [3306, 1002, 256],
}


@pytest.mark.parametrize(("text", "ids"), PUBLISHED.items())
def test_published_ids(text: str, ids: list[int]) -> None:
    assert token_ids(text) == ids


def test_vocabulary_is_clips() -> None:
    vocabulary = clip_tokenizer().get_vocab()
    assert len(vocabulary) == 49408
    assert (vocabulary["!"], vocabulary["<|startoftext|>"]) == (0, 49406)
    assert vocabulary["<|endoftext|>"] == 49407


@given(st.text(max_size=80) | st.from_regex(r"(1girl|zorp_v2|red hat|\(x:1\.2\)|, |'s )*"))
def test_same_ids_as_transformers(text: str) -> None:
    assert token_ids(text) == transformers_tokenizer()(text, add_special_tokens=False).input_ids


def test_short_caption_is_one_filled_row() -> None:
    assert token_rows("a photo of a cat") == [[BOS, *PUBLISHED["a photo of a cat"], *[EOS] * 71]]


@pytest.mark.parametrize("words", [0, 1, 74, 75, 76, 150, 151, 224, 225, 226, 300])
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_rows_are_cut_as_sd_scripts_cuts(words: int, rows: int) -> None:
    """Its way, from its own description: pad to 75 n + 2, then 75 at a time between the first
    id and the last."""
    text = " ".join(["cat"] * words)
    padded = transformers_tokenizer()(
        text, max_length=75 * rows + 2, padding="max_length", truncation=True
    ).input_ids
    wanted = [[padded[0], *padded[1 + 75 * k : 76 + 75 * k], padded[-1]] for k in range(rows)]
    assert token_rows(text, 75 * rows) == wanted


def test_what_is_lost_is_counted() -> None:
    text = ", ".join(["cat"] * 50)  # 50 words, 49 commas
    assert count_tokens(text) == 99
    assert lost_tokens(text, 75) == 24
    assert lost_tokens(text, 150) == 0


def test_needs_no_torch() -> None:
    code = (
        "import sys; from lorasmith.models.tokenizer import count_tokens; "
        "assert count_tokens('a cat') == 2; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
