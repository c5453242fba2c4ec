from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.tiny_models import tiny_architecture, tiny_model
from tests.tolerances import NETWORK, assert_near

from lorasmith.core.errors import PromptError
from lorasmith.core.events import ignore
from lorasmith.formats.embedding_keys import WORD
from lorasmith.jobs.generate import GenerateRequest
from lorasmith.jobs.grid import GridRequest
from lorasmith.models.embedding_file import load_embedding
from lorasmith.models.tokenizer import token_ids
from lorasmith.prompts.parse import parse_prompt
from lorasmith.sampling.conditioning import PromptEncoder
from lorasmith.sampling.embeddings import EmbeddingLibrary
from lorasmith.sampling.sources import find_sources

WIDTH = 16
# Words of one token each, that stand for vectors where there are no embeddings.
STANDINS = ["zebra", "tiger", "horse"]


def vectors(count: int, width: int = WIDTH, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) * 0.1


def write(path: Path, value: torch.Tensor, kind: str) -> None:
    if kind == "web ui":
        content = {
            "string_to_token": {"*": 265}, "name": "x", "step": 500, "sd_checkpoint": None,
            "string_to_param": torch.nn.ParameterDict({"*": torch.nn.Parameter(value)}),
        }  # fmt: skip
        torch.save(content, path)
    elif kind == "web ui, plain":
        torch.save({"string_to_param": {"*": value}, "string_to_token": {"*": 265}}, path)
    elif kind == "diffusers":
        torch.save({"<my-style>": value[0] if len(value) == 1 else value}, path)
    else:
        save_file({kind: value}, path)


def hidden(encoder: PromptEncoder, source: str) -> torch.Tensor:
    with torch.no_grad():
        return encoder.encode(
            [encoder.chunks(parse_prompt(source).parts[0].sections())]
        ).prompt_embeds


@pytest.fixture(scope="module")
def model():
    return tiny_model(seed=5, architecture=tiny_architecture(family="sd1"))


def with_table(model, values: torch.Tensor, part: str = "text_encoder"):
    """A copy whose table says ``values`` for the stand-ins' tokens."""
    changed = copy.deepcopy(model)
    for word, value in zip(STANDINS, values, strict=False):
        (token,) = token_ids(word)
        with torch.no_grad():
            changed.text_encoders[part].get_input_embeddings().weight[token] = value
    return changed


@pytest.mark.slow_but_first
@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("my-style.pt", "web ui"),
        ("my-style.pt", "web ui, plain"),
        ("my-style.bin", "diffusers"),
        ("sub/my-style.safetensors", "emb_params"),
        ("my-style.safetensors", "clip_l"),
    ],
)
@pytest.mark.parametrize("count", [1, 3])
def test_vectors_stand_for_the_name(model, tmp_path, file, kind, count) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    write(tmp_path / file, vectors(count), kind)
    ours = hidden(
        PromptEncoder(model, EmbeddingLibrary(tmp_path)), "a cat, (My-Style:1.3), in a field"
    )
    words = " ".join(STANDINS[:count])
    table = PromptEncoder(with_table(model, vectors(count)))
    assert_near(ours, hidden(table, f"a cat, ({words}:1.3), in a field"), NETWORK)
    assert not torch.allclose(
        ours, hidden(PromptEncoder(model), "a cat, (my-style:1.3), in a field")
    )


def test_both_text_encoders_of_sdxl(tmp_path) -> None:
    model = tiny_model(seed=5, architecture=tiny_architecture(family="sdxl"))
    low, great = vectors(2, seed=1), vectors(2, seed=2)
    save_file({"clip_l": low, "clip_g": great}, tmp_path / "pos.safetensors")
    table = with_table(with_table(model, low), great, "text_encoder_2")
    ours, theirs = (
        PromptEncoder(model, EmbeddingLibrary(tmp_path)), PromptEncoder(table),
    )  # fmt: skip
    assert_near(hidden(ours, "a pos b"), hidden(theirs, "a zebra tiger b"), NETWORK)


def test_the_longest_name_wins_and_parts_of_words_do_not(model, tmp_path) -> None:
    for name, seed in (("cat", 1), ("cat-ears", 2)):
        save_file({"emb_params": vectors(1, seed=seed)}, tmp_path / f"{name}.safetensors")
    encoder = PromptEncoder(model, EmbeddingLibrary(tmp_path))

    def used(source: str) -> list[tuple[int, str]]:
        (chunk,) = encoder.chunks(parse_prompt(source).parts[0].sections())
        return [(place, embedding.name) for place, embedding in chunk.embeddings]

    assert used("a cat-ears cat") == [(2, "cat-ears"), (3, "cat")]
    assert used("a category of cats") == []


def test_an_embedding_is_not_torn(model, tmp_path) -> None:
    save_file({"emb_params": vectors(3)}, tmp_path / "trio.safetensors")
    encoder = PromptEncoder(model, EmbeddingLibrary(tmp_path))
    first, second = encoder.chunks(parse_prompt("star " * 73 + "trio").parts[0].sections())
    assert not first.embeddings
    assert [place for place, _ in second.embeddings] == [1]


def test_another_familys_embedding_is_words_and_said(model, tmp_path) -> None:
    save_file({"emb_params": vectors(1, width=24)}, tmp_path / "large.safetensors")
    said = []
    encoder = PromptEncoder(model, EmbeddingLibrary(tmp_path, observer=said.append))
    plain = PromptEncoder(model)
    assert torch.equal(hidden(encoder, "a large star"), hidden(plain, "a large star"))
    hidden(encoder, "large stars")
    assert [notice.text.split()[0] for notice in said] == ["large.safetensors"]


class Evil:
    def __reduce__(self):
        return print, ("this must not run",)


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("evil.pt", pickle.dumps(Evil(), protocol=2), "not opened"),
        ("cut.pt", b"PK\x03\x04rest", "cannot be read"),
        ("cut.safetensors", b"\xff" * 20, "cannot be read"),
        ("empty.bin", b"", "cannot be read"),
    ],
)
def test_what_is_no_embedding_is_refused(tmp_path, capsys, name, content, word) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PromptError, match=word):
        load_embedding(tmp_path / name)
    assert "must not run" not in capsys.readouterr().out


def test_other_tensors_are_refused(tmp_path) -> None:
    save_file({"a": vectors(1), "b": vectors(1)}, tmp_path / "two.safetensors")
    save_file({"emb_params": vectors(1) * float("nan")}, tmp_path / "nan.safetensors")
    save_file({"emb_params": torch.zeros(2, 0)}, tmp_path / "flat.safetensors")
    refused = (("two", "not a textual-inversion"), ("nan", "NaN"), ("flat", "not a textual"))
    for name, word in refused:
        with pytest.raises(PromptError, match=word):
            load_embedding(tmp_path / f"{name}.safetensors")


def test_what_was_trained_here_goes_by_its_word_too(model, tmp_path) -> None:
    for place, word in (("zorp-2/zorp-2-000001", "zorp"), ("zorp-2/zorp-2", "zorp")):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        tensors = {"emb_params": vectors(1, seed=len(place))}
        save_file(tensors, tmp_path / f"{place}.safetensors", {WORD: word})
    said = []
    library = EmbeddingLibrary(tmp_path, observer=said.append)
    assert set(library.names) == {"zorp-2-000001", "zorp-2", "zorp"}
    encoder = PromptEncoder(model, library)
    assert torch.equal(hidden(encoder, "a zorp"), hidden(encoder, "a zorp-2"))
    assert not torch.equal(hidden(encoder, "a zorp"), hidden(encoder, "a zorp-2-000001"))
    hidden(encoder, "one more zorp")
    place = tmp_path / "zorp-2" / "zorp-2.safetensors"
    assert [notice.text for notice in said][:2] == [
        f"zorp is the embedding in {place}", f"zorp-2 is the embedding in {place}",
    ]  # fmt: skip
    assert len(said) == 3, "each is told of once"
    # A file that is called so comes first, as elsewhere.
    save_file({"emb_params": vectors(1, seed=9)}, tmp_path / "Zorp.safetensors")
    assert set(EmbeddingLibrary(tmp_path).names) == {"zorp-2-000001", "zorp-2", "Zorp"}


def test_runs_that_nobody_named_give_their_embeddings_alone(model, tmp_path) -> None:
    own = {"emb_params": vectors(1)}
    carried = {"bundle_emb.murk.string_to_param.*": vectors(1), "a": own["emb_params"]}
    save_file(own, tmp_path / "zorp.safetensors")
    save_file({**carried, "b": vectors(2), "c": vectors(3)}, tmp_path / "pair.safetensors")
    phrase = {"modelspec.trigger_phrase": "a creature, zorp"}
    save_file({name: vectors(1) for name in "abc"}, tmp_path / "cat.safetensors", phrase)
    (tmp_path / "cut.safetensors").write_bytes(b"\xff" * 20)
    write(tmp_path / "old.pt", vectors(1), "web ui")
    torch.save({"a": vectors(1), "b": vectors(2)}, tmp_path / "optimizer.pt")
    trash = tmp_path / ".lorasmith" / "trash"
    trash.mkdir(parents=True)
    save_file(own, trash / "gone.safetensors")
    said = []
    library = EmbeddingLibrary(tmp_path, named=False, observer=said.append)
    assert set(library.names) == {"zorp", "old"}
    # A LoRA was trained on its trigger as plain words.
    with_cat = library.carrying([tmp_path / "cat.safetensors"])
    assert with_cat.names == ("old",)
    hidden(PromptEncoder(model, with_cat), "a zorp, one more zorp")
    (told,) = said
    assert told.text == (
        "zorp is read as words, as a LoRA of the prompt was trained on it; the embedding in "
        f"{tmp_path / 'zorp.safetensors'} is not used"
    )
    with_pair = library.carrying([tmp_path / "pair.safetensors"])
    assert set(with_pair.names) == {"zorp", "old", "murk"}
    named = EmbeddingLibrary(tmp_path)
    assert set(named.names) == {"zorp", "murk", "cut", "old"}
    assert named.carrying([tmp_path / "cat.safetensors"]) is named


def test_embeddings_are_looked_for_where_training_puts_them(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    jobs = GenerateRequest(prompt="a zorp"), GridRequest(prompt="a zorp", x="seed=1-2")
    assert [job.sources(ignore).embeddings.names for job in jobs] == [(), ()]
    runs, others = tmp_path / "runs", tmp_path / "others"
    runs.mkdir()
    save_file({"emb_params": vectors(1)}, runs / "zorp.safetensors")
    assert [job.sources(ignore).embeddings.names for job in jobs] == [("zorp",), ("zorp",)]
    assert find_sources().embeddings.names == ("zorp",)
    others.mkdir()
    save_file({"emb_params": vectors(1)}, others / "murk.safetensors")
    assert find_sources(others).embeddings.names == ("murk",), "as the LoRAs"
    other = find_sources(embeddings=others)
    assert other.embeddings.names == ("murk",)
    (told,) = other.unused(["a murk <lora:zorp:1>", "A Zorp", "zorp"])
    assert told == (
        f"zorp is read as words: the embedding in {Path('runs/zorp.safetensors')} is not in "
        f"{others}; to use it give --embedding-dir runs"
    )
    assert find_sources(tmp_path).unused(["a zorp"]) == []


def test_a_file_elsewhere_is_known_by_a_name_that_no_other_has(tmp_path) -> None:
    for folder in ("own", "one"):
        (tmp_path / folder).mkdir()
        save_file({"emb_params": vectors(1)}, tmp_path / folder / "zorp.safetensors")
    library = EmbeddingLibrary(tmp_path / "own", named=False)
    own, one = (tmp_path / folder / "zorp.safetensors" for folder in ("own", "one"))
    assert library.add(own) == "zorp"
    assert library.add(one) == library.add(one) == "one/zorp"
    named = library.in_text("a (one/zorp:1.2), zorp")
    assert {name: source.path for name, source in named.items()} == {"one/zorp": one, "zorp": own}
    # A LoRA that was trained on the word takes it from what merely lies there.
    lora = tmp_path / "lora.safetensors"
    save_file({"x": vectors(1)}, lora, {"modelspec.trigger_phrase": "zorp"})
    assert library.carrying([lora]).in_text("zorp")["zorp"].path == own
    found = EmbeddingLibrary(tmp_path / "own", named=False)
    assert found.carrying([lora]).in_text("zorp") == {}
