from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.pipelines import transformers_model
from tests.tiny_models import tiny_architecture, tiny_model
from tests.tolerances import NETWORK, assert_near

from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.tokenizer import BOS, EOS, token_ids
from lorasmith.prompts.parse import parse_prompt
from lorasmith.sampling.conditioning import Chunk, PromptEncoder, weigh

COMMA = token_ids(",")[0]
WORD = token_ids("star")[0]


@pytest.fixture
def encoder(model) -> PromptEncoder:
    return PromptEncoder(model)


@pytest.fixture
def chunks(encoder) -> Callable[[str], tuple[Chunk, ...]]:
    def of(source: str) -> tuple[Chunk, ...]:
        return encoder.chunks(parse_prompt(source).parts[0].sections())

    return of


def text_of(chunk) -> list[int]:
    return [i for i in chunk.ids if i not in (BOS, EOS)]


@pytest.mark.parametrize("source", ["", "red body, star, crown", "a (b) [c] (d:1.3)"])
def test_a_short_prompt_is_one_row(source, chunks) -> None:
    (chunk,) = chunks(source)
    assert len(chunk.ids) == len(chunk.weights) == 77
    assert chunk.ids[0] == BOS
    assert chunk.ids[-1] == EOS


def test_an_unweighted_prompt_is_the_captions_encoding(model, encoder, chunks) -> None:
    captions = ["red body, star, crown", "", "a photo of a cat " * 3]
    plain = model.encode_text(captions).prompt_embeds
    ours = encoder.encode([chunks(caption) for caption in captions]).prompt_embeds
    assert_near(ours, plain, NETWORK)


def test_75_tokens_fill_one_chunk_and_76_two(chunks) -> None:
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
def test_a_long_prompt_is_cut_behind_a_comma(before, after, first, chunks) -> None:
    parts = chunks("star " * before + "," + " star" * after)
    assert [len(text_of(c)) for c in parts] == [first, before + 1 + after - first]
    assert [i for c in parts for i in text_of(c)] == [WORD] * before + [COMMA] + [WORD] * after


def test_no_token_is_lost_or_doubled(chunks) -> None:
    tags = [f"tag{i} of some length" for i in range(60)]
    source = ", ".join(tags)
    assert [i for c in chunks(source) for i in text_of(c)] == token_ids(source)
    assert all(text_of(c)[-1] == COMMA for c in chunks(source)[:-1])


def test_break_begins_a_chunk(chunks) -> None:
    first, second = chunks("red body BREAK star")
    assert (text_of(first), text_of(second)) == (token_ids("red body"), token_ids("star"))
    assert len(chunks("red body BREAK")) == 1
    assert [text_of(c) for c in chunks("BREAK star")] == [[], token_ids("star")]


def test_each_token_has_its_fragments_weight(chunks) -> None:
    (chunk,) = chunks("a (red star:1.5) [b]")
    assert chunk.weights[:6] == pytest.approx((1.0, 1.0, 1.5, 1.5, 1 / 1.1, 1.0))
    assert set(chunk.weights[5:]) == {1.0}


def test_weights_multiply_and_the_mean_is_restored() -> None:
    hidden = torch.randn(77, 8, generator=torch.Generator().manual_seed(0)) + 0.5
    weights = torch.ones(77)
    weights[3:6] = 1.7
    result = weigh(hidden, weights)
    assert_near(result.mean(), hidden.mean(), NETWORK)
    # Relative to an unweighted token, a weighted one has grown by its weight.
    ratio = (result / hidden)[4] / (result / hidden)[10]
    assert_near(ratio, torch.full((8,), 1.7), NETWORK)


def test_states_without_a_mean_are_only_multiplied() -> None:
    hidden = torch.randn(77, 8, generator=torch.Generator().manual_seed(0))
    hidden -= hidden.mean()
    weights = torch.full((77,), 0.8)
    assert_near(weigh(hidden, weights), hidden * 0.8, NETWORK)
    assert torch.isfinite(weigh(hidden + 1, torch.zeros(77))).all()


def test_prompts_of_unequal_length_are_repeated_to_a_common_one(encoder, chunks) -> None:
    two = chunks("red BREAK blue")
    three = chunks("a BREAK b BREAK c")
    hidden = encoder.encode([two, three]).prompt_embeds
    assert hidden.shape[:2] == (2, 6 * 77)
    assert torch.equal(hidden[0, : 2 * 77], hidden[0, 2 * 77 : 4 * 77])
    assert torch.equal(hidden[1, : 3 * 77], hidden[1, 3 * 77 :])


def test_a_repeated_prompt_is_the_prompt_to_the_denoiser(model, encoder, chunks) -> None:
    one = encoder.encode([chunks("red body, star")])
    both = encoder.encode([chunks("red body, star"), chunks("a BREAK b")])
    assert both.prompt_embeds.shape[1] == 2 * one.prompt_embeds.shape[1]
    repeated = type(one)(both.prompt_embeds[:1])
    noisy = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([500])
    with torch.no_grad():
        assert_near(model.denoise(noisy, t, repeated), model.denoise(noisy, t, one), NETWORK)


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_weighted_long_prompts_by_transformers_modules_alone(family) -> None:
    """Tokens laid out by hand, through transformers' own classes, weighted as the wiki says: the
    states of each encoder times the weights, then back to their mean."""
    model = tiny_model(seed=5, architecture=tiny_architecture(family=family))
    specs = model.architecture.family.text_encoders
    words = token_ids("castle")
    source = "(castle:1.4) " + "castle " * 59 + "castle, " + "castle " * 30 + "BREAK [castle]"
    weights = [
        [1.0, 1.4, *[1.0] * 75],
        [1.0] * 77,
        [1.0, 1 / 1.1, *[1.0] * 75],
    ]
    rows = [words * 61 + [COMMA], words * 30, words]
    expected = []
    for row, row_weights in zip(rows, weights, strict=True):
        sides = []
        for spec in specs:
            ids = [BOS, *row, EOS, *[spec.pad] * 77][:77]
            network = transformers_model(model.text_encoders[spec.part], spec)
            with torch.no_grad():
                found = network(torch.tensor([ids]), output_hidden_states=True)
            hidden = found.last_hidden_state if spec.layer is None else None
            states = hidden if hidden is not None else found.hidden_states[spec.layer]
            column = torch.tensor(row_weights)[None, :, None]
            mean = states.mean()
            changed = states * column
            if any(weight != 1.0 for weight in row_weights) and abs(mean) > 0.01 * states.std():
                changed = changed * (mean / changed.mean())
            sides.append(changed[0])
        expected.append(torch.cat(sides, dim=-1))
    encoder = PromptEncoder(model)
    with torch.no_grad():
        ours = encoder.encode(
            [encoder.chunks(parse_prompt(source).parts[0].sections())]
        ).prompt_embeds
    assert_near(ours[0], torch.cat(expected), NETWORK)


def test_a_comma_need_not_be_looked_for(model) -> None:
    encoder = PromptEncoder(model, comma_reach=0)
    sections = parse_prompt("star " * 70 + "," + " star" * 10).parts[0].sections()
    assert [len(text_of(chunk)) for chunk in encoder.chunks(sections)] == [75, 6]


def test_a_text_is_encoded_once(model, monkeypatch) -> None:
    rows: list[int] = []
    encode = DiffusionModel.encode_rows
    monkeypatch.setattr(
        DiffusionModel, "encode_rows", lambda self, ids: rows.append(len(ids)) or encode(self, ids)
    )
    encoder = PromptEncoder(model)
    texts = [encoder.chunks(parse_prompt(t).parts[0].sections()) for t in ("a", "b", "a BREAK b")]
    for _ in range(3):
        encoder.encode(texts)
    assert sum(rows) == 2
    encoder.encode(texts, text_encoder="another LoRA")
    assert sum(rows) == 4
