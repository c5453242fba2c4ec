"""Words of one's own: where they are found, what the text encoders read, and that they go again."""

from __future__ import annotations

import pytest
import torch
from tests.tiny_models import tiny_architecture, tiny_model

from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.placeholders import FIRST_ID, NO_PLACEHOLDERS, Placeholders
from lorasmith.models.text_encoder import tokenize
from lorasmith.models.tokenizer import token_ids
from lorasmith.models.word_vectors import OwnWords, vocabulary

# Words of one token each.
KNOWN = ("zebra", "tiger", "horse")


def of_known_words(model: DiffusionModel, *words: str) -> dict[str, torch.Tensor]:
    """By text encoder, what its table says of them."""
    ids = [one for word in words for one in token_ids(word)]
    return {part: vocabulary(encoder)[ids] for part, encoder in model.text_encoders.items()}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a zorp, red", [("a",), None, (",",), ("red",)]),
        ("ZORP", [None]),
        ("zorps and zorp2", [("zor",), ("ps",), ("and",), "longest"]),
    ],
)
def test_names_are_found_by_their_tokens(text, words) -> None:
    placeholders = Placeholders({"zorp": 2, "zorp2": 1})
    found = list(placeholders.words(token_ids(text)))
    own = {None: placeholders.ids["zorp"], "longest": placeholders.ids["zorp2"]}
    for place, word in enumerate(words):
        if word in own:
            assert found[place] == own[word]
        else:
            assert all(one < FIRST_ID for one in found[place])
    assert len(found) == len(words)


def test_ids_of_a_word_are_its_own_and_count_as_its_vectors() -> None:
    placeholders = Placeholders({"one": 3, "two": 2})
    assert placeholders.ids == {
        "one": (FIRST_ID, FIRST_ID + 1, FIRST_ID + 2),
        "two": (FIRST_ID + 3, FIRST_ID + 4),
    }
    assert len(placeholders.token_ids("one red two")) == 6
    assert not NO_PLACEHOLDERS
    ids = tokenize(["one"], 75, placeholders)
    assert ids.shape == (1, 1, 77)
    assert ids[0, 0, 1:4].tolist() == list(placeholders.ids["one"])


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_vectors_of_known_words_give_their_features(family: str) -> None:
    model = tiny_model(architecture=tiny_architecture(family=family))
    words = OwnWords({"zorp": of_known_words(model, *KNOWN)})
    with torch.no_grad():
        expected = model.encode_text([f"a {' '.join(KNOWN)}, red", "a cat"])
        with words.on(model):
            got = model.encode_text(["a zorp, red", "a cat"])
    assert torch.equal(got.prompt_embeds, expected.prompt_embeds)
    if expected.pooled is not None:
        assert torch.equal(got.pooled, expected.pooled)


def test_taken_off_the_model_is_as_before() -> None:
    model = tiny_model()
    table = model.text_encoder.get_input_embeddings()
    before = model.text_fingerprint()
    words = OwnWords({"zorp": of_known_words(model, "zebra")})
    with words.on(model):
        assert model.text_fingerprint() != before
    assert model.text_encoder.get_input_embeddings() is table
    assert model.placeholders is NO_PLACEHOLDERS
    assert model.text_fingerprint() == before


def test_disabled_they_are_as_at_first() -> None:
    model = tiny_model()
    words = OwnWords({"zorp": of_known_words(model, "zebra")})
    with torch.no_grad(), words.on(model):
        first = model.encode_text(["zorp"]).prompt_embeds
        words.words["zorp"]["text_encoder"].vectors += 1.0
        assert not torch.equal(model.encode_text(["zorp"]).prompt_embeds, first)
        with words.disabled():
            assert torch.equal(model.encode_text(["zorp"]).prompt_embeds, first)


def test_gradients_reach_the_vectors_that_are_named_and_nothing_else() -> None:
    model = tiny_model()
    words = OwnWords({"zorp": of_known_words(model, "zebra"), "murk": of_known_words(model, "cat")})
    with words.on(model):
        model.encode_text(["a zorp"]).prompt_embeds.square().sum().backward()
    own = {name: parts["text_encoder"].vectors.grad for name, parts in words.words.items()}
    assert own["zorp"].abs().sum() > 0
    assert own["murk"].abs().sum() == 0
    assert all(parameter.grad is None for parameter in model.text_encoder.parameters())
