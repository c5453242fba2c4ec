from __future__ import annotations

import pytest
import torch

from lorasmith.models.tokenizer import BOS, EOS, token_ids
from lorasmith.sampling.conditioning import chunks_of, encode_prompts, weigh
from lorasmith.sampling.prompt import parse_prompt

COMMA = token_ids(",")[0]
WORD = token_ids("star")[0]


def chunks(source: str):
    return chunks_of(parse_prompt(source))


def text_of(chunk) -> list[int]:
    return [i for i in chunk.ids if i not in (BOS, EOS)]


@pytest.mark.parametrize("source", ["", "red body, star, crown", "a (b) [c] (d:1.3)"])
def test_a_short_prompt_is_one_row(source) -> None:
    (chunk,) = chunks(source)
    assert len(chunk.ids) == len(chunk.weights) == 77
    assert chunk.ids[0] == BOS
    assert chunk.ids[-1] == EOS


def test_an_unweighted_prompt_is_the_captions_encoding(model) -> None:
    captions = ["red body, star, crown", "", "a photo of a cat " * 3]
    plain = model.encode_text(captions).hidden
    ours = encode_prompts(model, [chunks(caption) for caption in captions]).hidden
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)


def test_75_tokens_fill_one_chunk_and_76_two() -> None:
    assert [len(text_of(c)) for c in chunks("star " * 75)] == [75]
    assert [len(text_of(c)) for c in chunks("star " * 76)] == [75, 1]


@pytest.mark.parametrize(
    ("before", "after", "first"),
    [
        (70, 10, 71),  # comma at place 70, 4 words behind it: they move
        (55, 30, 56),  # 19 words behind it
        (54, 30, 75),  # 20 words behind it: too far back, cut in the middle
        (74, 10, 75),  # the comma is the last of the chunk
        (75, 10, 75),  # the comma is the first of the next
    ],
)
def test_a_long_prompt_is_cut_behind_a_comma(before, after, first) -> None:
    parts = chunks("star " * before + "," + " star" * after)
    assert [len(text_of(c)) for c in parts] == [first, before + 1 + after - first]
    assert [i for c in parts for i in text_of(c)] == [WORD] * before + [COMMA] + [WORD] * after


def test_no_token_is_lost_or_doubled() -> None:
    tags = [f"tag{i} of some length" for i in range(60)]
    source = ", ".join(tags)
    assert [i for c in chunks(source) for i in text_of(c)] == token_ids(source)
    assert all(text_of(c)[-1] == COMMA for c in chunks(source)[:-1])


def test_break_begins_a_chunk() -> None:
    first, second = chunks("red body BREAK star")
    assert (text_of(first), text_of(second)) == (token_ids("red body"), token_ids("star"))
    assert len(chunks("red body BREAK")) == 1
    assert [text_of(c) for c in chunks("BREAK star")] == [[], token_ids("star")]


def test_each_token_has_its_fragments_weight() -> None:
    (chunk,) = chunks("a (red star:1.5) [b]")
    assert chunk.weights[:6] == pytest.approx((1.0, 1.0, 1.5, 1.5, 1 / 1.1, 1.0))
    assert set(chunk.weights[5:]) == {1.0}


def test_weights_multiply_and_the_mean_is_restored() -> None:
    hidden = torch.randn(77, 8, generator=torch.Generator().manual_seed(0)) + 0.5
    weights = torch.ones(77)
    weights[3:6] = 1.7
    result = weigh(hidden, weights)
    torch.testing.assert_close(result.mean(), hidden.mean())
    # Relative to an unweighted token, a weighted one has grown by its weight.
    ratio = (result / hidden)[4] / (result / hidden)[10]
    torch.testing.assert_close(ratio, torch.full((8,), 1.7), rtol=1e-4, atol=0)


def test_states_without_a_mean_are_only_multiplied() -> None:
    hidden = torch.randn(77, 8, generator=torch.Generator().manual_seed(0))
    hidden -= hidden.mean()
    weights = torch.full((77,), 0.8)
    torch.testing.assert_close(weigh(hidden, weights), hidden * 0.8)
    assert torch.isfinite(weigh(hidden + 1, torch.zeros(77))).all()


def test_prompts_of_unequal_length_are_repeated_to_a_common_one(model) -> None:
    two = chunks("red BREAK blue")
    three = chunks("a BREAK b BREAK c")
    hidden = encode_prompts(model, [two, three]).hidden
    assert hidden.shape[:2] == (2, 6 * 77)
    assert torch.equal(hidden[0, : 2 * 77], hidden[0, 2 * 77 : 4 * 77])
    assert torch.equal(hidden[1, : 3 * 77], hidden[1, 3 * 77 :])


def test_a_repeated_prompt_is_the_prompt_to_the_denoiser(model) -> None:
    one = encode_prompts(model, [chunks("red body, star")])
    both = encode_prompts(model, [chunks("red body, star"), chunks("a BREAK b")])
    assert both.hidden.shape[1] == 2 * one.hidden.shape[1]
    repeated = type(one)(both.hidden[:1])
    noisy = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([500])
    with torch.no_grad():
        torch.testing.assert_close(
            model.denoise(noisy, t, repeated), model.denoise(noisy, t, one), rtol=1e-4, atol=1e-5
        )
