"""Token ids against OpenAI's published ones and transformers' own tokenizers."""

from __future__ import annotations

import functools
import gzip
import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from lorasmith.models.tokenizer import (
    BOS,
    BOS_TEXT,
    EOS,
    EOS_TEXT,
    VOCABULARY,
    clip_tokenizer,
    count_tokens,
    lost_tokens,
    token_ids,
    token_rows,
    tokenized_words,
)


@functools.cache
def transformers_tokenizer() -> CLIPTokenizer:
    """Built as transformers converts OpenAI's file to its vocab.json and merges.txt."""
    lines = gzip.decompress(VOCABULARY.read_bytes()).decode().split("\n")
    merges = [tuple(line.split()) for line in lines[1:48895]]
    return CLIPTokenizer(vocab=dict(clip_tokenizer().get_vocab()), merges=merges)


# Texts of every awkward kind, and what ``CLIPTokenizer`` of transformers 4.54.1 with ftfy 6.3.1
# gives for them: what sd-scripts trains with.
AWKWARD = json.loads(Path(__file__).with_name("clip_token_ids.json").read_text("ascii"))

PEERS = os.environ.get("LORASMITH_PEERS")
# Run with a PYTHONPATH that holds transformers 4 and ftfy: files of vocabulary, merges, texts.
REFERENCE = """
import json, sys
from transformers import CLIPTokenizer
tokenizer = CLIPTokenizer(*sys.argv[1:3])
assert tokenizer.fix_text is not None, "without ftfy"
texts = json.load(open(sys.argv[3]))
print(json.dumps([tokenizer(text, add_special_tokens=False).input_ids for text in texts]))
"""

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


@given(
    st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="&"))
    | st.from_regex(r"(1girl|zorp_v2|red hat|\(x:1\.2\)|, |'s )*", fullmatch=True)
)
def test_plain_text_has_the_ids_of_transformers(text: str) -> None:
    assert token_ids(text) == transformers_tokenizer()(text, add_special_tokens=False).input_ids


@pytest.mark.parametrize(
    ("text", "plain"),
    [("it\u2019s a \u201cfox\u201d", "it's a \"fox\""),
     ("\ufb01re, o\ufb03ce", "fire, office"),
     ("\uff26\uff55\uff4c\uff4c\u3000\uff17", "full 7"),
     ("tom &amp; jerry", "tom & jerry"),
     ("caf\u00c3\u00a9 don\u00e2\u20ac\u2122t", "caf\u00e9 don't"),
     ("re\u0301sume\u0301", "r\u00e9sum\u00e9"),
     ("a\x00 \x1b[31mcat\x1b[0m", "a cat")],
)  # fmt: skip
def test_text_is_mended_as_clip_was_trained(text: str, plain: str) -> None:
    assert token_ids(text) == token_ids(plain)


def test_a_typographic_apostrophe_is_an_apostrophe() -> None:
    assert token_ids("it\u2019s") == [585, 568]


def test_awkward_texts_have_the_ids_of_sd_scripts() -> None:
    wrong = [text for text, ids in AWKWARD if token_ids(text) != ids]
    assert not wrong
    assert len(AWKWARD) > 150


@pytest.mark.skipif(not PEERS, reason="LORASMITH_PEERS names no folder with transformers4")
def test_fuzzed_texts_have_the_ids_of_sd_scripts(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("vocab.json", "merges.txt", "texts.json")]
    lines = gzip.decompress(VOCABULARY.read_bytes()).decode().split("\n")
    texts = [text for text, _ in AWKWARD] + _fuzzed(20_000)
    files[0].write_text(json.dumps(clip_tokenizer().get_vocab()))
    files[1].write_text("\n".join(["#version: 0.2", *lines[1:48895]]) + "\n", encoding="utf-8")
    files[2].write_text(json.dumps(texts))
    environment = {**os.environ, "PYTHONPATH": str(Path(str(PEERS)) / "transformers4")}
    command = [sys.executable, "-c", REFERENCE, *map(str, files)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    wrong = [
        (text, token_ids(text), ids)
        for text, ids in zip(texts, json.loads(done.stdout), strict=True)
        if token_ids(text) != ids
    ]
    assert not wrong[:5]


def _fuzzed(count: int) -> list[str]:
    """Pieces of the awkward texts, letters of any script, and bytes read by the wrong encoding."""
    rng = Random(1)
    blocks = [(0, 256), (256, 1536), (0x2000, 0x2200), (0x3000, 0x3100), (0x4E00, 0x9FFF)]
    blocks += [(0xFB00, 0xFB50), (0xFF00, 0xFFFF), (0x1F300, 0x1FA00), (0, 0x110000)]
    pieces = [piece for text, _ in AWKWARD for piece in text.split()] + [BOS_TEXT, EOS_TEXT]
    texts = []
    for _ in range(count):
        some = [
            rng.choice(pieces)
            if rng.random() < 0.6
            else "".join(chr(rng.randrange(*rng.choice(blocks))) for _ in range(rng.randint(1, 9)))
            for _ in range(rng.randint(1, 9))
        ]
        text = rng.choice([" ", ", ", ""]).join(some)
        if rng.random() < 0.2:
            codec = rng.choice(["latin-1", "cp1252", "cp1251", "mac_roman"])
            text = text.encode("utf-8", "replace").decode(codec, "ignore")
        if rng.random() < 0.2:
            text = unicodedata.normalize(rng.choice(["NFD", "NFKD"]), text)
        texts.append(text.upper() if rng.random() < 0.1 else text)
    return texts


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


def test_plain_text_needs_neither_torch_nor_ftfy() -> None:
    code = (
        "import sys; from lorasmith.models.tokenizer import count_tokens; "
        "assert count_tokens('a cat') == 2; assert 'torch' not in sys.modules; "
        "assert 'ftfy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@given(
    st.lists(
        st.sampled_from(["red hat", "'s", " ", "  ", "<|endoftext|>", "<|", "12", ",", "!?", "a.b"])
        | st.text(st.characters(max_codepoint=127), max_size=5)
    ).map("".join)
)
def test_tokens_are_counted_as_there_are(text: str) -> None:
    assert count_tokens(text) == len(token_ids(text))


def test_words_have_the_tokens_of_the_text() -> None:
    more = ["zorp_v2, (red hat:1.2)", "", "日本 👩‍🚀", "a<|endoftext|>b"]
    for text in (*PUBLISHED, *(text for text, _ in AWKWARD), *more):
        ids = [number for word in tokenized_words(text) for number in word.ids]
        assert ids == token_ids(text), text


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_pieces_together_are_the_word(text: str) -> None:
    for word in tokenized_words(text):
        assert len(word.pieces) == len(word.ids)
        if not any("\\x" in piece for piece in word.pieces):
            assert "".join(word.pieces) == word.text


def test_words_know_the_space_before_them() -> None:
    words = tokenized_words("A, b  c!")
    assert "".join((" " if word.spaced else "") + word.text for word in words) == "a, b c!"
