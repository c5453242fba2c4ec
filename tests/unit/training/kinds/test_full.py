"""A base's own weights as what is trained: which, how they are held, and what is saved."""

from __future__ import annotations

from pathlib import Path

import diffusers
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests.pipelines import encode, pipeline_of
from tests.tiny_models import tiny_checkpoint
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lorasmith.config.load import load_settings
from lorasmith.config.schema import TrainSettings
from lorasmith.core.errors import CheckpointError, RunError, SettingsError
from lorasmith.core.events import Controls, ignore
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.families.table import FAMILIES
from lorasmith.models.load import load_model
from lorasmith.models.open import open_checkpoint
from lorasmith.tensors.rng import normal
from lorasmith.training.kinds.full import FullKind
from lorasmith.training.kinds.full_weights import FullWeights

KIND = FullKind()
MIDDLE = "unet.mid_block.attentions.0.transformer_blocks.0"
BOTH = "full.text_encoder=true"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("base") / "base.safetensors")


def settings_of(base: Path, *overrides: str) -> TrainSettings:
    return load_settings(None, ["train.kind=full", f"model.path={base}", *overrides])


def build(base: Path, *overrides: str, dtype: torch.dtype = torch.float32
          ) -> tuple[DiffusionModel, FullWeights]:  # fmt: skip
    model = load_model(base, dtype=dtype)
    trained = KIND.build(settings_of(base, *overrides), model)
    trained.attach()
    return model, trained


def move(trained: FullWeights) -> None:
    """Any training."""
    values = trained.state_dict()
    for number, (name, value) in enumerate(values.items()):
        values[name] = value + 0.05 * normal(value.shape, 1, "move", number).to(value.dtype)
    trained.load_state_dict(values)


@torch.no_grad()
def prediction(model: DiffusionModel) -> Tensor:
    condition = model.encode_text(["a tree"])
    if model.architecture.family.size_conditioning:
        condition = condition.with_size_ids(torch.full((1, 6), 64.0))
    return model.denoise(normal((1, 4, 8, 8), 0, "latents"), torch.tensor([300]), condition)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_what_is_saved_is_the_base_but_for_what_is_trained(family: str, tmp_path: Path) -> None:
    base = tiny_checkpoint(tmp_path / "base.safetensors", family=family)
    model, trained = build(base, BOTH)
    move(trained)
    trained.save(tmp_path / "new.safetensors", {"ss_steps": "3"}, torch.float32)
    old, new = load_file(base), load_file(tmp_path / "new.safetensors")
    assert list(old) == list(new)
    assert all(old[name].shape == new[name].shape for name in old)
    assert all(old[name].dtype == new[name].dtype for name in old)
    same = {name for name in old if torch.equal(old[name], new[name])}
    vae = {name for name in old if name.startswith("first_stage_model.")}
    assert vae <= same
    assert all("resblocks" in name for name in same - vae)  # Layers that no program runs.
    again = load_model(tmp_path / "new.safetensors")
    with trained.replaced_by(trained.as_saved(torch.float32)):
        expected = prediction(model)
    assert torch.equal(prediction(again), expected)


def test_the_files_metadata_are_the_bases_and_the_runs(base: Path, tmp_path: Path) -> None:
    tensors = load_file(base)
    with safe_open(base, "pt") as file:
        metadata = {**(file.metadata() or {}), "modelspec.title": "Base", "sshs_model_hash": "old"}
    titled = tmp_path / "titled.safetensors"
    save_file(tensors, titled, metadata)
    _, trained = build(titled)
    trained.save(tmp_path / "new.safetensors", {"ss_steps": "3"}, torch.float32)
    with safe_open(tmp_path / "new.safetensors", "pt") as file:
        found = file.metadata()
    assert found["ss_steps"] == "3"
    assert found["modelspec.title"] == "Base"
    assert found["lorasmith.model"] == metadata["lorasmith.model"]
    assert "sshs_model_hash" not in found


def test_nothing_trained_is_the_very_file(base: Path, tmp_path: Path) -> None:
    """In half precision too: float32 numbers are the file's own, not the model's rounded ones."""
    _, trained = build(base, BOTH, dtype=torch.bfloat16)
    trained.save(tmp_path / "new.safetensors", {}, torch.float32)
    old, new = load_file(base), load_file(tmp_path / "new.safetensors")
    assert all(torch.equal(old[name], new[name]) for name in old)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_it_the_model_is_the_base_bit_for_bit(base: Path, dtype: torch.dtype) -> None:
    model, trained = build(base, BOTH, dtype=dtype)
    before = prediction(model)
    move(trained)
    after = prediction(model)
    assert not torch.equal(after, before)
    for context in (trained.detached, trained.disabled, trained.disabled):
        with context():
            assert torch.equal(prediction(model), before)
        assert torch.equal(prediction(model), after)


def test_the_base_is_not_in_memory_until_each_step_asks_for_it(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, trained = build(base)
    before = prediction(model)
    move(trained)
    reads = []
    read = trained.checkpoint.read
    monkeypatch.setattr(trained.checkpoint, "read", lambda *args: reads.append(args) or read(*args))
    with trained.detached():
        pass
    assert len(reads) == 1
    for _ in range(3):
        with trained.disabled():
            assert torch.equal(prediction(model), before)
    assert len(reads) == 2


@pytest.mark.parametrize(
    ("overrides", "trained_names", "frozen"),
    [
        ((), ["unet.conv_in.weight", "unet.conv_norm_out.bias"], "text_encoder."),
        ((BOTH,), ["text_encoder.embeddings.token_embedding.weight"], "vae"),
        (("full.unet=false", BOTH), ["text_encoder.final_layer_norm.weight"], "unet."),
        (("full.layers=attn",), [f"{MIDDLE}.attn2.to_k.weight"], "unet.conv_in"),
        (("full.layers=attn2.*, conv_in",), ["unet.conv_in.bias"], "unet.conv_out"),
        (("full.layers=norm*",), ["unet.down_blocks.0.resnets.0.norm1.weight"], "unet.conv_in"),
        (("full.exclude=time_embedding.*",), ["unet.conv_in.bias"], "unet.time_embedding"),
        (("optimizer.text_encoder_lr=0", BOTH), ["unet.conv_in.bias"], "text_encoder."),
    ],
)  # fmt: skip
def test_which_weights_are_trained(
    base: Path, overrides: tuple[str, ...], trained_names: list[str], frozen: str
) -> None:
    model, trained = build(base, *overrides)
    names = list(trained.state_dict())
    assert set(trained_names) <= set(names)
    assert not any(name.startswith(frozen) for name in names)
    modules = {"unet": model.denoiser, **model.text_encoders, "vae": model.vae}
    graded = [
        f"{part}.{name}"
        for part, module in modules.items()
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    ]
    assert sorted(graded) == sorted(names)
    planned = KIND.planned(settings_of(base, *overrides), open_checkpoint(base))
    assert {one.place for one in planned.weights} == {one.place for one in trained.weights}
    sizes = {group.name: group.size for group in planned.parameter_groups()}
    assert sizes == {group.name: group.size for group in trained.parameter_groups()}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["full.layers=attn3.*"], r"full\.layers.*'attn3\.\*' names no layer.*attn"),
        (["full.layers=atn"], r"no preset.*attn"),
        (["full.exclude=conv_inn"], r"full\.exclude.*conv_in"),
        (["full.exclude=re:."], r"leave no weight"),
        (["full.unet=false", BOTH, "full.layers=conv_in"], "leave no weight"),
        ([BOTH, "optimizer.unet_lr=0", "full.layers=conv_in"], "no(thing|t).*learning rate"),
    ],
)
def test_layers_that_are_not_there(base: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        KIND.check_model(settings_of(base, *overrides), open_checkpoint(base))


def test_a_folder_is_no_base(base: Path, tmp_path: Path) -> None:
    model = load_model(base)
    folder = tmp_path / "folder"
    for part in ("unet", "vae", "text_encoder"):
        model.part(part).save_pretrained(folder / part)
    with pytest.raises(CheckpointError, match="single"):
        KIND.check_model(settings_of(folder), open_checkpoint(folder))


def test_what_saves_memory_is_not_advised_where_it_would_be_refused(base: Path) -> None:
    fused = next(one for one in KIND.memory_changes() if one.path == "full.fused_backward")
    assert fused.applies(settings_of(base))
    for other in ("preservation.enabled=true", "train.precision=fp16", "optimizer.name=Prodigy"):
        assert not fused.applies(settings_of(base, other)), other


@pytest.fixture(scope="module")
def half(base: Path) -> Path:
    """The base as most are: in fp16."""
    with safe_open(base, "pt") as file:
        metadata = file.metadata()
    tensors = {name: tensor.half() for name, tensor in load_file(base).items()}
    save_file(tensors, base.with_name("half.safetensors"), metadata)
    return base.with_name("half.safetensors")


def grown(trained: FullWeights, value: float) -> None:
    with torch.no_grad():
        trained.weights[0].member.view(-1)[0] = value


def test_weights_beyond_the_bases_type_are_saved_wider_and_told(half: Path, tmp_path: Path) -> None:
    """Otherwise a run could not be ended: it would come to the same weights again."""
    model, told = load_model(half), []
    trained = KIND.build(settings_of(half), model, told.append)
    grown(trained, 1e6)
    trained.save(tmp_path / "new.safetensors", {}, torch.float32)
    old, new = load_file(half), load_file(tmp_path / "new.safetensors")
    (wider,) = {name for name in old if new[name].dtype != torch.float16}
    assert new[wider].dtype == torch.float32
    assert float(new[wider].view(-1)[0]) == 1e6
    assert all(torch.equal(old[name], new[name]) for name in old if name != wider)
    (notice,) = told
    assert "1e+06 is the largest weight" in notice.text
    assert "lower optimizer.lr" in notice.text
    with trained.replaced_by(trained.as_saved(torch.float32)):
        shown = trained.weights[0].parameter.detach().clone()
    again = load_model(tmp_path / "new.safetensors")
    name = trained.weights[0].name
    assert torch.equal(shown, again.denoiser.get_parameter(name))


@pytest.mark.slow
def test_a_diffusers_folder_holds_what_the_file_does(half: Path, tmp_path: Path) -> None:
    """Also where its tensors are of several types."""
    _, trained = build(half)
    grown(trained, 1e6)
    trained.save(tmp_path / "run.safetensors", {}, torch.float32)
    KIND.finish(settings_of(half, "full.diffusers=true"), tmp_path / "run.safetensors", ignore,
                Controls())  # fmt: skip
    written = load_file(tmp_path / "diffusers" / "unet" / "diffusion_pytorch_model.safetensors")
    assert float(written[trained.weights[0].name].view(-1)[0]) == 1e6
    (vae,) = (tmp_path / "diffusers" / "vae").glob("*.safetensors")
    assert {tensor.dtype for tensor in load_file(vae).values()} == {torch.float16}


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_a_step_costs_what_the_plan_says(base: Path, part: str) -> None:
    chosen = [f"full.{one}={one == part}".lower() for one in ("unet", "text_encoder")]
    model, _ = build(base, *chosen)
    with FlopCounterMode(display=False) as text:
        condition = model.encode_text(["a tree"])
    with FlopCounterMode(display=False) as forward:
        out = model.denoise(normal((1, 4, 8, 8), 0, "x"), torch.tensor([300]), condition)
    with FlopCounterMode(display=False) as backward:
        out.square().sum().backward()
    ours = backward.get_total_flops()
    if part == "text_encoder":
        ours -= 2 * text.get_total_flops()
    once = forward.get_total_flops()
    further = KIND.passes(settings_of(base, *chosen))
    assert ours / once == pytest.approx(1 + further, rel=0.15)


def test_no_numbers_are_not_saved(half: Path, tmp_path: Path) -> None:
    _, trained = build(half)
    for bad in (float("nan"), float("inf")):
        grown(trained, bad)
        with pytest.raises(RunError, match=r"not written \(lower optimizer\.lr\)"):
            trained.save(tmp_path / "new.safetensors", {}, torch.float32)
    assert not (tmp_path / "new.safetensors").exists()


def test_a_base_that_is_gone_is_named(base: Path, tmp_path: Path) -> None:
    moved = tmp_path / "base.safetensors"
    moved.write_bytes(base.read_bytes())
    _, trained = build(moved)
    moved.unlink()
    with pytest.raises(CheckpointError, match="put it back, and resume"):
        trained.save(tmp_path / "new.safetensors", {}, torch.float32)


@pytest.mark.slow
@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_diffusers_folder_is_what_diffusers_writes_and_reads(family: str, tmp_path: Path) -> None:
    base = tiny_checkpoint(tmp_path / "base.safetensors", family=family)
    settings = settings_of(base, "full.diffusers=true")
    _, trained = build(base, "full.diffusers=true")
    move(trained)
    result = tmp_path / "run.safetensors"
    trained.save(result, {}, torch.float32)
    for _ in range(2):  # The second time in the place of the first.
        KIND.finish(settings, result, lambda event: None, Controls())
    folder = tmp_path / "diffusers"
    model = load_model(result)
    pipeline_of(model).save_pretrained(tmp_path / "theirs")
    ours, theirs = (
        {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
        for place in (folder, tmp_path / "theirs")
    )
    assert ours == theirs
    index = (folder / "model_index.json").read_text(encoding="utf-8")
    assert index == (tmp_path / "theirs" / "model_index.json").read_text(encoding="utf-8")
    for name in sorted(one for one in ours if one.endswith(".safetensors")):
        mine, other = load_file(folder / name), load_file(tmp_path / "theirs" / name)
        assert mine.keys() == other.keys()
        stored = {tensor.dtype for tensor in load_file(result).values()}
        assert {tensor.dtype for tensor in mine.values()} <= stored
        assert all(torch.equal(mine[key].float(), other[key].float()) for key in mine)

    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    assert (
        pipeline.scheduler.config.prediction_type
        == {"epsilon": "epsilon", "v": "v_prediction"}[model.prediction]
    )
    assert pipeline.scheduler.config.beta_start == 0.00085
    assert pipeline.scheduler.config.beta_schedule == "scaled_linear"
    assert pipeline.scheduler.config.steps_offset == 1
    assert not pipeline.scheduler.config.clip_sample
    hidden, pooled = encode(pipeline, ["A (tree), in fog"])
    features = model.encode_text(["A (tree), in fog"])
    torch.testing.assert_close(hidden, features.prompt_embeds, rtol=1e-4, atol=1e-5)
    if pooled is not None:
        torch.testing.assert_close(pooled, features.pooled, rtol=1e-4, atol=1e-5)
    if family != "sd2":  # Which is told by its width, that the tiny one has not.
        torch.testing.assert_close(prediction(load_model(folder)), prediction(model))
    opened = open_checkpoint(base)
    planned = KIND.disk(settings, KIND.planned(settings, opened), opened).at_the_end
    written = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    assert planned["diffusers folder"] == pytest.approx(written, rel=0.1)


def test_the_plan_has_the_extracted_lora(base: Path, tmp_path: Path) -> None:
    settings = settings_of(base, "full.extract_rank=4")
    opened = open_checkpoint(base)
    planned = KIND.disk(settings, KIND.planned(settings, opened), opened).at_the_end
    _, trained = build(base, "full.extract_rank=4")
    move(trained)
    result = tmp_path / "run.safetensors"
    trained.save(result, {}, torch.float32)
    KIND.finish(settings, result, lambda event: None, Controls())
    size = (tmp_path / "run-rank4.safetensors").stat().st_size
    header = 8 + int.from_bytes((tmp_path / "run-rank4.safetensors").read_bytes()[:8], "little")
    assert planned["extracted LoRA"] == pytest.approx(size - header, rel=0.1)
    settings = settings_of(base)
    assert not KIND.disk(settings, KIND.planned(settings, opened), opened).at_the_end
