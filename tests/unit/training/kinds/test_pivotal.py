"""A LoRA and its words in one: trained together, one file, and prompts that need no more."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
import torch
from safetensors.torch import load_file
from tests.tiny_models import tiny_architecture, tiny_model

from lorasmith.adapters.file import load_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.config.load import load_settings
from lorasmith.core.events import Controls, Event, Notice, ignore
from lorasmith.data.dataset import Dataset
from lorasmith.formats.embedding_header import read_embedding_header
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.embedding_file import load_embedding
from lorasmith.models.placeholders import NO_PLACEHOLDERS
from lorasmith.prompts.parse import parse_prompt
from lorasmith.prompts.wildcards import Wildcards
from lorasmith.sampling.batching import prepare_requests
from lorasmith.sampling.conditioning import PromptEncoder
from lorasmith.sampling.embeddings import carried_words
from lorasmith.sampling.generate import generate
from lorasmith.sampling.lora_library import LoraLibrary
from lorasmith.sampling.pipeline import Pipeline
from lorasmith.sampling.request import ImageRequest
from lorasmith.training.kinds.pivotal import NetworkWithWords
from lorasmith.training.kinds.table import kind_of

SETTINGS = {"train.kind": "lora+embedding", "embedding.names": "zorp", "adapter.rank": "2"}


def built(model: DiffusionModel, **values: str) -> NetworkWithWords:
    given = {name.replace("__", "."): value for name, value in values.items()}
    settings = load_settings(None, {**SETTINGS, **given})
    trained = kind_of(settings).build(settings, model)
    assert isinstance(trained, NetworkWithWords)
    with torch.no_grad():  # As after some steps.
        for group in trained.parameter_groups():
            for parameter in group.parameters:
                parameter += 0.05
    return trained


def test_both_take_gradients_however_often_they_are_taken_off() -> None:
    model = tiny_model()
    trained = built(model)
    trained.attach()
    with trained.detached():
        pass
    timesteps = torch.tensor([10])
    prediction = model.denoise(torch.ones(1, 4, 8, 8), timesteps, model.encode_text(["a zorp"]))
    prediction.square().sum().backward()
    for group in trained.parameter_groups():
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in group.parameters)
    rates = {group.part for group in trained.parameter_groups()}
    assert rates == {"unet", "text_encoder", "embedding"}
    trained.detach()
    assert model.placeholders is NO_PLACEHOLDERS


@pytest.mark.parametrize(
    ("family", "keys"),
    [("sd1", {"string_to_param.*"}), ("sdxl", {"clip_l", "clip_g"})],
)
def test_one_file_has_both(tmp_path: Path, family: str, keys: set[str]) -> None:
    model = tiny_model(architecture=tiny_architecture(family=family))
    trained = built(model)
    trained.save(tmp_path / "a.safetensors", {}, torch.float32)
    names = set(load_file(tmp_path / "a.safetensors"))
    assert {name for name in names if name.startswith("bundle_emb.")} == {
        f"bundle_emb.zorp.{key}" for key in keys
    }
    assert any(name.startswith("lora_unet_") for name in names)
    network = AdapterNetwork.load(
        load_lora(tmp_path / "a.safetensors").tensors, model.adapter_roots()
    )
    assert network.report.unmatched == ()
    again = built(model, train__seed="1")
    again.load_state_dict(trained.state_dict())
    assert all(torch.equal(t, again.state_dict()[key]) for key, t in trained.state_dict().items())


def features(encoder: PromptEncoder, text: str, carriers: tuple[Path, ...] = ()) -> torch.Tensor:
    sections = parse_prompt(text).parts[0].sections()
    with torch.no_grad():
        return encoder.encode([encoder.chunks(sections, carriers)]).prompt_embeds


def test_a_tag_brings_the_words_to_its_own_prompts_alone(tmp_path: Path) -> None:
    model = tiny_model()
    trained = built(model)
    trained.save(tmp_path / "a.safetensors", {}, torch.float32)
    with trained.words.attached():
        own = features(PromptEncoder(model), "a zorp")
    encoder = PromptEncoder(model)
    plain = features(encoder, "a zorp")
    requests = [ImageRequest("a zorp <lora:a:1>"), ImageRequest("a zorp")]
    first, second = prepare_requests(encoder, requests, LoraLibrary(tmp_path), Wildcards(), ignore)
    assert first.guided.carriers == (tmp_path / "a.safetensors",)
    assert second.guided.carriers == ()
    assert torch.equal(features(encoder, "a zorp", first.guided.carriers), own)
    assert torch.equal(features(encoder, "a zorp", second.guided.carriers), plain)
    words = carried_words(tmp_path / "a.safetensors", model)
    assert words is not None
    with words.on(model):
        assert torch.equal(features(PromptEncoder(model), "a zorp"), own)


def test_drawings_of_the_file_are_those_of_the_training(tmp_path: Path) -> None:
    model = tiny_model()
    trained = built(model)
    trained.save(tmp_path / "a.safetensors", {}, torch.float16)
    request = ImageRequest("a zorp", steps=2, width=64, height=64, seed=3)

    def drawn(prompt: str, library: LoraLibrary | None = None) -> bytes:
        one = ImageRequest(prompt, steps=2, width=64, height=64, seed=3)
        (image,) = generate(model, [one], loras=library)
        return image.image.tobytes()

    with trained.as_saved(torch.float16).attached():
        expected = drawn("a zorp")
    assert drawn("a zorp <lora:a:1>", LoraLibrary(tmp_path)) == expected
    assert drawn("a zorp") != expected
    pipe = Pipeline(model)
    with pipe.lora(tmp_path / "a.safetensors"):
        (image,) = pipe.generate(request)
    assert image.image.tobytes() == expected


def test_words_can_have_files_of_their_own_too(tmp_path: Path) -> None:
    model = tiny_model()
    trained = built(model, embedding__names="zorp, murk")
    result = tmp_path / "a.safetensors"
    trained.save(result, {"modelspec.architecture": "stable-diffusion-v1/lora"}, torch.float32)
    assert set(read_embedding_header(result).bundled) == {"zorp", "murk"}
    plain = load_settings(None, SETTINGS)
    kind_of(plain).finish(plain, result, ignore, Controls())
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
    settings = load_settings(None, {**SETTINGS, "embedding.separate": "true"})
    kind_of(settings).finish(settings, result, ignore, Controls())
    for name, parts in trained.words.own_words.words.items():
        tensors = load_embedding(tmp_path / "embeddings" / f"{name}.safetensors")
        assert torch.equal(tensors["emb_params"], parts["text_encoder"].vectors)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_run_goes_on_from_the_words_of_its_file_too(tmp_path: Path, family: str) -> None:
    model = tiny_model(architecture=tiny_architecture(family=family))
    file = tmp_path / "a.safetensors"
    before = built(model, embedding__names="Zorp, murk", embedding__norm="free")
    before.save(file, {}, torch.float32)
    chosen = {**SETTINGS, "adapter.init_from": str(file), "embedding.names": "zorp, blarg"}
    said: list[Event] = []
    settings = load_settings(None, {**chosen, "embedding.norm": "free"})
    trained = kind_of(settings).build(settings, model, said.append)
    assert isinstance(trained, NetworkWithWords)
    assert any("zorp goes on from" in one.text for one in said if isinstance(one, Notice))
    assert not any("blarg" in one.text for one in said if isinstance(one, Notice))
    for part, word in trained.words.own_words.words["zorp"].items():
        saved = before.words.own_words.words["Zorp"][part].vectors
        assert torch.equal(word.vectors, saved)
        assert torch.equal(word.initial, saved)
    (left_out,) = odd_start(chosen)
    assert "'murk'" in left_out
    assert "left out" in left_out


def test_words_that_are_not_gone_on_with_are_told_of(tmp_path: Path) -> None:
    model, file = tiny_model(), tmp_path / "a.safetensors"
    built(model).save(file, {}, torch.float32)
    chosen = {**SETTINGS, "adapter.init_from": str(file)}
    assert odd_start(chosen) == []
    (other_size,) = odd_start({**chosen, "embedding.vectors": "2"})
    assert "has 4 vectors for 'zorp': the word begins anew" in other_size
    settings = load_settings(None, {**chosen, "embedding.vectors": "2"})
    trained = kind_of(settings).build(settings, model)
    assert isinstance(trained, NetworkWithWords)
    assert trained.words.own_words.placeholders.counts == {"zorp": 2}
    (plain,) = odd_start({"adapter.init_from": str(file)})
    assert "'zorp'" in plain
    assert "lora+embedding" in plain


def odd_start(chosen: dict[str, str]) -> list[str]:
    settings, none = load_settings(None, chosen), cast("Dataset", None)  # Which is not looked at.
    found = kind_of(settings).oddities(settings, none)
    return [str(one) for one in found if one.where == "adapter.init_from"]
