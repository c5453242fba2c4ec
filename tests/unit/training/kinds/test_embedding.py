"""Textual inversion: what it starts from, what it changes, what its files are, what cannot be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.tiny_models import tiny_architecture, tiny_model
from tests.unit.training.test_step import micro_batch

from lorasmith.config.load import load_settings
from lorasmith.config.schema import TrainSettings
from lorasmith.core.errors import UserError
from lorasmith.demo.character import write_training_set
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.embedding_file import load_embedding
from lorasmith.models.tokenizer import token_ids
from lorasmith.models.word_vectors import vocabulary
from lorasmith.prompts.parse import parse_prompt
from lorasmith.sampling.conditioning import PromptEncoder
from lorasmith.sampling.embeddings import EmbeddingLibrary
from lorasmith.training.ema import Ema
from lorasmith.training.eval_weights import eval_weights
from lorasmith.training.kinds.embedding import TrainedEmbeddings, start
from lorasmith.training.kinds.table import kind_of
from lorasmith.training.lr_schedules import learning_rate
from lorasmith.training.objective import MicroBatch, build_objective
from lorasmith.training.optim import build_optimizer, flat_groups
from lorasmith.training.plan import make_plan
from lorasmith.training.setup.preflight import RunPlan, preflight
from lorasmith.training.setup.processes import Processes
from lorasmith.training.sources import LiveText
from lorasmith.training.step import TrainStep


def settings_of(**values: str) -> TrainSettings:
    given = {name.replace("__", "."): value for name, value in values.items()}
    named = {"embedding.names": "zorp"} if "embedding.names" not in given else {}
    return load_settings(None, {"train.kind": "embedding", **named, **given})


def built(model: DiffusionModel, **values: str) -> TrainedEmbeddings:
    settings = settings_of(**values)
    trained = kind_of(settings).build(settings, model)
    assert isinstance(trained, TrainedEmbeddings)
    return trained


def trainer_of(model: DiffusionModel, trained: TrainedEmbeddings, lr: float = 1e-2) -> TrainStep:
    settings = settings_of(schedule__name="constant")
    pieces = [(one.name, one.parameters, lr) for one in trained.parameter_groups()]
    groups = flat_groups("AdamW", pieces, model.dtype)
    return TrainStep(
        model,
        trained,
        groups,
        build_optimizer("AdamW", groups, {}),
        learning_rate(settings, 100),
        build_objective(settings, model),
        Processes(model.device),
    )


def batch_of(model: DiffusionModel, caption: str) -> MicroBatch:
    condition = LiveText(
        model, trained=True, placeholders=kind_of(settings_of()).placeholders(settings_of())
    )
    batch = micro_batch(model, [0])
    return MicroBatch(
        batch.mean, batch.std, condition.ahead([caption]), torch.ones(1), batch.samples
    )


# What they start from


def test_words_start_their_share_of_the_vectors() -> None:
    table = torch.arange(49408.0)[:, None].expand(-1, 4)
    (red,), (cat,) = token_ids("red"), token_ids("cat")
    assert start("red cat", 5, table, 0, "")[:, 0].tolist() == [red, red, red, cat, cat]
    assert start("red cat", 1, table, 0, "")[:, 0].tolist() == [red]


def test_random_vectors_are_spread_as_the_vocabulary_and_fixed_by_the_seed() -> None:
    table = torch.randn(5000, 8) * torch.linspace(0.1, 1, 8) + 3
    drawn = start("random", 4000, table, 0, "a")
    assert torch.allclose(drawn.mean(dim=0), table.mean(dim=0), atol=0.05)
    assert torch.allclose(drawn.std(dim=0), table.std(dim=0), rtol=0.05)
    assert torch.equal(drawn, start("random", 4000, table, 0, "a"))
    assert not torch.equal(drawn, start("random", 4000, table, 1, "a"))


def test_the_norm_is_that_of_the_vocabulary_at_the_start_and_after_each_update() -> None:
    model = tiny_model(architecture=tiny_architecture(family="sdxl"))
    trained = built(model, embedding__init="red cat")
    usual = {part: vocabulary(one).norm(dim=1).mean() for part, one in model.text_encoders.items()}
    words = trained.own_words.words["zorp"]
    with torch.no_grad():
        for part, word in words.items():
            assert torch.allclose(word.vectors.norm(dim=1), usual[part].expand(4))
            word.vectors *= 7
    trained.end_update()
    for part, word in words.items():
        assert torch.allclose(word.vectors.norm(dim=1), usual[part].expand(4))
    free = built(model, embedding__init="cat", embedding__norm="free").own_words.words["zorp"]
    (cat,) = token_ids("cat")
    for part, word in free.items():
        assert torch.equal(word.vectors, vocabulary(model.text_encoders[part])[[cat] * 4])


def test_the_norm_is_that_of_the_vocabulary_in_an_average_too() -> None:
    model = tiny_model()
    trained = built(model)
    trained.attach()
    trainer, batch = trainer_of(model, trained, lr=0.3), batch_of(model, "a zorp")
    trainer.ema = Ema(trainer.groups, 0.9)
    for step in range(4):
        trainer(step, [batch], total=1)
    vectors = trained.own_words.words["zorp"]["text_encoder"].vectors
    before, usual = vectors.detach().clone(), vocabulary(model.text_encoder).norm(dim=1).mean()
    with eval_weights(trainer):
        assert torch.allclose(vectors.norm(dim=1), usual.expand(4))
        assert not torch.allclose(vectors, before)
    assert torch.equal(vectors, before)


# What training changes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_changes_the_vectors_and_no_weight_of_the_model(dtype: torch.dtype) -> None:
    model = tiny_model(dtype)
    before = {name: value.clone() for name, value in model.denoiser.state_dict().items()}
    text = {name: value.clone() for name, value in model.text_encoder.state_dict().items()}
    trained = built(model)
    first = trained.state_dict()
    trained.attach()
    trainer_of(model, trained)(0, [batch_of(model, "a zorp")], total=1)
    trained.own_words.detach()
    assert not torch.equal(trained.state_dict()["emb_params"], first["emb_params"])
    assert all(torch.equal(value, before[n]) for n, value in model.denoiser.state_dict().items())
    assert all(torch.equal(value, text[n]) for n, value in model.text_encoder.state_dict().items())
    assert not any(p.requires_grad for module in model.networks for p in module.parameters())


def test_one_vector_learns_a_little_in_a_few_steps() -> None:
    model = tiny_model()
    trained = built(model, embedding__vectors="1", embedding__norm="free")
    trained.attach()
    trainer, batch = trainer_of(model, trained, lr=0.3), batch_of(model, "zorp")
    losses = []
    for _ in range(12):  # The same step again, so with the same noise.
        losses.append(float(trainer(0, [batch], total=1).loss))
    assert losses[-1] < losses[0]
    assert losses[-1] == min(losses[-1], *losses[:4])


def test_captions_mean_the_vectors_only_while_they_are_attached() -> None:
    model = tiny_model()
    plain = model.encode_text(["a zorp"]).prompt_embeds
    trained = built(model)
    text = LiveText(model, trained=True, placeholders=trained.own_words.placeholders)
    ahead = text.ahead(["a zorp"])
    trained.attach()
    own = ahead().prompt_embeds
    assert not torch.equal(own, plain)
    with trained.detached():
        assert torch.equal(ahead().prompt_embeds, plain), "tokenized while it was attached"
        assert torch.equal(text.condition(["a zorp"]).prompt_embeds, plain)
    assert torch.equal(ahead().prompt_embeds, own)


# Files


@pytest.mark.parametrize(
    ("family", "names", "keys"),
    [
        ("sd1", "zorp", {"emb_params"}),
        ("sdxl", "zorp", {"clip_l", "clip_g"}),
        ("sd1", "zorp, murk", {f"bundle_emb.{n}.string_to_param.*" for n in ("zorp", "murk")}),
        (
            "sdxl",
            "zorp, murk",
            {f"bundle_emb.{n}.{key}" for n in ("zorp", "murk") for key in ("clip_l", "clip_g")},
        ),
    ],
)
def test_files_have_the_names_that_others_read(tmp_path, family, names, keys) -> None:
    model = tiny_model(architecture=tiny_architecture(family=family))
    trained = built(model, embedding__names=names)
    trained.save(tmp_path / "zorp.safetensors", {"a": "b"}, torch.float16)
    tensors = load_file(tmp_path / "zorp.safetensors")
    assert set(tensors) == keys
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    other = built(model, embedding__names=names, train__seed="1")
    other.load_state_dict(trained.state_dict())
    assert all(torch.equal(t, other.state_dict()[key]) for key, t in trained.state_dict().items())


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_prompts_with_the_file_mean_what_samples_show(tmp_path: Path, family: str) -> None:
    model = tiny_model(architecture=tiny_architecture(family=family))
    trained = built(model)
    trained.save(tmp_path / "zorp.safetensors", {}, torch.float16)
    assert set(load_embedding(tmp_path / "zorp.safetensors")) == set(trained.state_dict())

    def features(encoder: PromptEncoder) -> torch.Tensor:
        sections = parse_prompt("a (zorp:1.2), red").parts[0].sections()
        with torch.no_grad():
            return encoder.encode([encoder.chunks(sections)]).prompt_embeds

    by_file = features(PromptEncoder(model, EmbeddingLibrary(tmp_path)))
    with trained.as_saved(torch.float16).attached():
        assert torch.equal(features(PromptEncoder(model)), by_file)


def test_a_file_of_several_words_is_read_by_their_names(tmp_path: Path) -> None:
    model = tiny_model()
    trained = built(model, embedding__names="zorp, murk")
    for name, change in (("run-000001", 0.0), ("run", 1.0)):
        trained.own_words.words["murk"]["text_encoder"].vectors.data += change
        trained.save(tmp_path / f"{name}.safetensors", {}, torch.float32)
    library = EmbeddingLibrary(tmp_path)
    assert set(library.names) == {"zorp", "murk"}
    for name in library.names:
        embedding = library.at(token_ids(name), 0, model)
        expected = trained.own_words.words[name]["text_encoder"].vectors
        assert embedding is not None
        assert torch.equal(embedding.vectors["text_encoder"], expected)


def test_numbers_that_are_none_are_not_written(tmp_path: Path) -> None:
    trained = built(tiny_model())
    with torch.no_grad():
        trained.own_words.words["zorp"]["text_encoder"].vectors[0, 0] = float("nan")
    with pytest.raises(UserError, match=r"emb_params holds NaN.*not written"):
        trained.save(tmp_path / "zorp.safetensors", {}, torch.float16)
    assert not list(tmp_path.iterdir())


# What cannot be meant, and what is odd


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"embedding__names": "zorp, Zorp"}, "'zorp' is there 2 times"),
        ({"embedding__names": "a.b"}, "'.' means something else"),
        ({"embedding__names": "a/b"}, "cannot be a file name"),
        ({"embedding__init": '["a", "b"]'}, "has 2 texts for 1 name"),
        ({"embedding__init": '[""]'}, "an empty text, which nothing starts from"),
        ({"embedding__vectors": "0"}, "from 1 to 75"),
        ({"embedding__negative": "true", "embedding__names": "a, b"}, "pairs say one thing"),
        ({"embedding__negative": "true", "train__kind": "lora+embedding"}, "without a LoRA"),
        ({"embedding__negative": "true", "optimizer__lr": "find"}, "pictures with captions"),
        ({"embedding__negative": "true", "data__reg": "."}, "on the pairs of pictures"),
        ({"optimizer__embedding_lr": "0"}, "nothing would change"),
        ({"performance__cache_text": "true"}, "what captions mean changes"),
        ({"optimizer__lr": "find"}, "an embedding's hardly changes"),
        ({"embedding__negative": "true", "train__stop": "best"}, "an embedding to be avoided"),
    ],
)
def test_contradictions(values: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message.replace("[", r"\[")):
        settings_of(**values)


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RunPlan]:
    folder = tmp_path_factory.mktemp("set")
    write_training_set(folder / "data", images=2, regularisation=0)

    def plan(**values: str) -> RunPlan:
        given = {name.replace("__", "."): value for name, value in values.items()}
        common = {"model": "demo", "data.path": str(folder / "data"), "train.kind": "embedding"}
        out = {"save.output": str(folder / "out"), "train.steps": "2"}
        return preflight(load_settings(None, {**common, **out, **given}))

    return plan


def test_the_trigger_is_the_name_of_the_word_the_run_and_the_file(planned) -> None:
    plan = planned()
    assert plan.settings.embedding.names == ["zorp"]
    assert plan.name == "zorp"
    assert plan.settings.optimizer.lr_of("embedding") == 5e-3
    assert plan.origins["optimizer.lr"] == "train.kind embedding"
    assert plan.preservation is None
    disk = make_plan(plan.settings).disk
    assert disk["embeddings"] == 2 * 4 * 64, "of a file in half precision"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"embedding__names": "murk"}, "no caption has 'murk'"),
        ({"captions__trigger": ""}, "no trigger to take the word from"),
        ({"captions__trigger": "a.b"}, "'a.b' cannot be the name of an embedding"),
    ],
)
def test_what_would_teach_nothing_ends_the_preflight(planned, values, message) -> None:
    with pytest.raises(UserError, match=message):
        planned(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"embedding__init": "a red cat", "embedding__vectors": "2"}, "has 3 tokens"),
        ({"captions__trigger": "cat", "embedding__names": "cat"}, "that the model knows"),
        ({"optimizer__lr": "0.5"}, "steps of 0.5 throw them about"),
        ({"embedding__vectors": "20"}, "take 20 of the 75 tokens"),
        ({"adapter__rank": "8"}, "has no effect: train.kind is embedding"),
        ({"optimizer__unet_lr": "1e-4"}, "has no effect on an embedding"),
        ({"preservation__enabled": "true"}, "mean what they did in any case"),
        ({"captions__dropout": "0.1"}, "teaches an embedding nothing"),
        ({"preservation__share": "0.5"}, "preservation.share: has no effect"),
        ({"embedding__separate": "true"}, "embedding.separate: has no effect"),
        (
            {"optimizer__name": "AdaFactor", "optimizer__embedding_lr": "0.01"},
            "optimizer.embedding_lr: has no effect",
        ),
        ({"train__kind": "lora", "embedding__vectors": "8"}, "has no effect: train.kind is lora"),
    ],
)
def test_oddities(planned, values: dict[str, str], message: str) -> None:
    assert any(message in str(warning) for warning in planned(**values).warnings)


def test_captions_are_counted_with_the_vectors(planned) -> None:
    few, many = planned(), planned(embedding__vectors="75")
    assert not any("tokens" in str(one) for one in few.report.warnings)
    assert any("tokens" in str(one) for one in many.report.warnings)
