"""Every way in which a base model lies on disk gives the same model."""

from __future__ import annotations

import pickle
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.tiny_models import tiny_architecture, tiny_checkpoint, tiny_model
from torch import Tensor

from lorasmith.core.files import read_safetensors_header
from lorasmith.models import hub
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.export import ldm_weights, save_ldm
from lorasmith.models.families.table import FAMILIES
from lorasmith.models.load import load_model
from lorasmith.models.open import DEMO, read_architecture
from lorasmith.models.reference import ModelReference


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    """The tiny model with weights that float16 holds exactly, so that any file must give them."""
    model = tiny_model()
    for module in (model.denoiser, model.vae, model.text_encoder):
        module.half().float()
    return model


def state_of(model: DiffusionModel) -> dict[str, Tensor]:
    modules = {"unet": model.denoiser, "vae": model.vae, "text_encoder": model.text_encoder}
    return {name: tensor.half() for name, tensor in ldm_weights(modules, FAMILIES["sd1"])}


def header_of(model: DiffusionModel, path: Path) -> dict[str, str]:
    _save(model, path)
    return read_safetensors_header(path).metadata


def _save(model: DiffusionModel, path: Path, dtype: torch.dtype = torch.float16) -> Path:
    save_ldm(
        path,
        unet=model.denoiser,
        vae=model.vae,
        text_encoders=model.text_encoders,
        dtype=dtype,
    )
    return path


def same(found: DiffusionModel, wanted: DiffusionModel, *, vae: bool = True) -> None:
    parts = ("unet", "text_encoder", *(("vae",) if vae else ()))
    for part in parts:
        expected = dict(wanted.part(part).named_parameters())
        for name, tensor in found.part(part).named_parameters():
            assert torch.equal(tensor, expected.pop(name)), f"{part} {name}"
        assert not expected


def test_save_and_load_give_the_same_model(model: DiffusionModel, tmp_path: Path) -> None:
    found = load_model(_save(model, tmp_path / "tiny.safetensors"))
    same(found, model)
    assert found.architecture == model.architecture
    timesteps = torch.tensor([10, 900])
    noisy = torch.linspace(-2, 2, 2 * 4 * 8 * 8).reshape(2, 4, 8, 8)
    answers = [m.denoise(noisy, timesteps, m.encode_text(["a cat", ""])) for m in (found, model)]
    assert torch.equal(*answers)


def test_equal_models_are_equal_files(model: DiffusionModel, tmp_path: Path) -> None:
    one, two = _save(model, tmp_path / "1.safetensors"), _save(model, tmp_path / "2.safetensors")
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.slow_but_first
@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("wanted", [torch.float32, torch.float16, torch.bfloat16])
def test_any_precision_is_read_into_any(
    stored: torch.dtype, wanted: torch.dtype, tmp_path: Path
) -> None:
    path = tiny_checkpoint(tmp_path / "tiny.safetensors", dtype=stored)
    found = load_model(path, dtype=wanted)
    on_disk = load_file(path)["model.diffusion_model.out.2.weight"]
    assert torch.equal(found.denoiser.conv_out.weight, on_disk.to(wanted))
    assert found.vae_dtype == torch.float32
    assert not found.denoiser.conv_out.weight.requires_grad


# ----- torch files ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def big_heads() -> DiffusionModel:
    """A torch file has no header to say how many heads and groups there are, so the family's
    8, 32 and 64 channels a head must be right."""
    tiny = tiny_architecture(hidden=64)
    unet = tiny.denoiser | {
        "block_out_channels": [32, 32, 64], "norm_num_groups": 32, "attention_head_dim": 8,
        "sample_size": 64,
    }  # fmt: skip
    vae = tiny.vae | {
        "block_out_channels": [32, 32, 32, 32], "norm_num_groups": 32, "sample_size": 512,
    }  # fmt: skip
    text = tiny.text | {"num_attention_heads": 1}
    architecture = type(tiny)("sd1", unet, vae, (text,), "epsilon", 4, 8, 32, 512)
    return tiny_model(architecture=architecture)


def test_family_defaults_need_no_header(big_heads: DiffusionModel, tmp_path: Path) -> None:
    path = _save(big_heads, tmp_path / "plain.safetensors", torch.float32)
    assert "lorasmith.model" not in read_safetensors_header(path).metadata
    assert load_model(path).architecture == big_heads.architecture


def lightning_class() -> type:
    """A class as pytorch_lightning would leave one in a checkpoint, importable for pickling."""
    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    made = type("ModelCheckpoint", (), {"__module__": module.__name__})
    module.ModelCheckpoint = made  # type: ignore[attr-defined]
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules[module.__name__] = module
    return made


def forget_lightning() -> None:
    for name in [name for name in sys.modules if name.startswith("pytorch_lightning")]:
        del sys.modules[name]


def write_plain(state: dict[str, Tensor], path: Path) -> None:
    torch.save(state, path)


def write_nested(state: dict[str, Tensor], path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": state, "optimizer_states": [{"lr": 1e-4}]}, path)


def write_legacy(state: dict[str, Tensor], path: Path) -> None:
    torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=False)


def write_lightning(state: dict[str, Tensor], path: Path) -> None:
    made = lightning_class()
    try:
        torch.save({"callbacks": {made: {"best": made()}}, "state_dict": state}, path)
    finally:
        forget_lightning()


@pytest.mark.slow_but_first
@pytest.mark.parametrize("write", [write_plain, write_nested, write_legacy, write_lightning])
def test_torch_files_are_read_safely(
    write: Callable[[dict[str, Tensor], Path], None], big_heads: DiffusionModel, tmp_path: Path
) -> None:
    path = tmp_path / "model.ckpt"
    modules = {
        "unet": big_heads.denoiser, "vae": big_heads.vae, "text_encoder": big_heads.text_encoder
    }  # fmt: skip
    write(dict(ldm_weights(modules, FAMILIES["sd1"])), path)
    assert read_architecture(path) == big_heads.architecture
    same(load_model(path), big_heads)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("stored", [torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize("write", [save_file, torch.save])
def test_float8_is_read(
    write: Callable[[dict[str, Tensor], Path], None],
    stored: torch.dtype,
    big_heads: DiffusionModel,
    tmp_path: Path,
) -> None:
    state = {name: tensor.to(stored) for name, tensor in state_of(big_heads).items()}
    write(state, tmp_path / "model")
    found = load_model(tmp_path / "model")
    wanted = state["model.diffusion_model.out.2.weight"].float()
    assert torch.equal(found.denoiser.conv_out.weight, wanted)


# ----- what real files have besides ----------------------------------------------------------


def test_leftovers_of_training_are_ignored(model: DiffusionModel, tmp_path: Path) -> None:
    metadata = header_of(model, tmp_path / "tiny.safetensors")
    state = state_of(model)
    state |= {
        "model_ema.decay": torch.ones(()),
        "model_ema.diffusion_modelout2weight": torch.ones(4),
        "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[None],
        "first_stage_model.loss.discriminator.main.0.weight": torch.ones(4),
        "alphas_cumprod": torch.ones(1000),
        "sqrt_recipm1_alphas_cumprod": torch.ones(1000),
        "posterior_mean_coef1": torch.ones(1000),
        "logvar": torch.ones(1000),
    }
    path = tmp_path / "big.safetensors"
    save_file(state, path, metadata)
    found = load_model(path)
    same(found, model)
    assert found.notes == ()


def test_strangers_beside_the_model_are_named(model: DiffusionModel, tmp_path: Path) -> None:
    metadata = header_of(model, tmp_path / "tiny.safetensors")
    path = tmp_path / "big.safetensors"
    save_file(state_of(model) | {"embedding_manager.x": torch.ones(1)}, path, metadata)
    assert "embedding_manager.x" in load_model(path).notes[0]


def test_text_model_may_be_left_out_of_names(model: DiffusionModel, tmp_path: Path) -> None:
    metadata = header_of(model, tmp_path / "tiny.safetensors")
    state = {name.replace("text_model.", ""): tensor for name, tensor in state_of(model).items()}
    path = tmp_path / "merged.safetensors"
    save_file(state, path, metadata)
    same(load_model(path), model)


@pytest.mark.slow
def test_v_prediction_is_found(model: DiffusionModel, tmp_path: Path) -> None:
    metadata = header_of(model, tmp_path / "tiny.safetensors")
    path = tmp_path / "v.safetensors"
    save_file(state_of(model) | {"v_pred": torch.ones(0)}, path, metadata)
    assert read_architecture(path).prediction == "v"
    save_file(state_of(model), path, metadata | {"modelspec.prediction_type": "v"})
    assert read_architecture(path).prediction == "v"
    assert read_architecture(ModelReference(path, prediction="epsilon")).prediction == "epsilon"
    assert load_model(path).prediction == "v"


# ----- diffusers folders ---------------------------------------------------------------------


def folder_of(model: DiffusionModel, folder: Path, **options: object) -> Path:
    model.denoiser.save_pretrained(folder / "unet", **options)
    model.vae.save_pretrained(folder / "vae", **options)
    options.pop("safe_serialization", None)
    model.text_encoder.save_pretrained(folder / "text_encoder", **options)
    return folder


@pytest.mark.slow_but_first
@pytest.mark.parametrize(
    "options",
    [{}, {"variant": "fp16"}, {"safe_serialization": False}, {"max_shard_size": "300KB"}],
    ids=lambda options: next(iter(options), "plain"),
)
def test_diffusers_folders(
    options: dict[str, object], model: DiffusionModel, tmp_path: Path
) -> None:
    folder = folder_of(model, tmp_path, **options)
    assert read_architecture(folder) == model.architecture
    same(load_model(folder), model)


def test_full_precision_is_preferred_to_its_variant(model: DiffusionModel, tmp_path: Path) -> None:
    folder = folder_of(model, tmp_path)
    other = folder_of(tiny_model(seed=9), tmp_path, variant="fp16")
    assert other == folder
    same(load_model(folder), model)


def test_scheduler_says_what_is_predicted(model: DiffusionModel, tmp_path: Path) -> None:
    folder = folder_of(model, tmp_path)
    (folder / "scheduler").mkdir()
    config = folder / "scheduler" / "scheduler_config.json"
    config.write_text('{"prediction_type": "v_prediction"}')
    assert read_architecture(folder).prediction == "v"


def test_names_of_older_diffusers_and_transformers(model: DiffusionModel, tmp_path: Path) -> None:
    folder = folder_of(model, tmp_path)
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    olden = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = load_file(path)
    for new, old in olden.items():
        state = {name.replace(f".{new}.", f".{old}."): value for name, value in state.items()}
    save_file(state, path)
    path = folder / "text_encoder" / "model.safetensors"
    save_file({f"text_model.{name}": value for name, value in load_file(path).items()}, path)
    same(load_model(folder), model)


# ----- a VAE of the user's own ---------------------------------------------------------------


def ldm_vae(model: DiffusionModel, prefix: str) -> dict[str, Tensor]:
    state = {n: t.float() for n, t in state_of(model).items() if n.startswith("first_stage_model.")}
    return {prefix + name.removeprefix("first_stage_model."): t for name, t in state.items()}


@pytest.mark.slow_but_first
@pytest.mark.parametrize("kind", ["bare", "prefixed", "diffusers file", "folder", "model"])
def test_own_vae_replaces_the_models(kind: str, model: DiffusionModel, tmp_path: Path) -> None:
    base = tiny_checkpoint(tmp_path / "base.safetensors", seed=5)
    metadata = header_of(model, tmp_path / "whole.safetensors")
    path = tmp_path / "vae.safetensors"
    if kind in ("bare", "prefixed"):
        prefix = "first_stage_model." if kind == "prefixed" else ""
        save_file(ldm_vae(model, prefix), path, metadata)
    else:
        model.vae.save_pretrained(tmp_path / "vae")
        path = tmp_path / "vae"
        if kind == "diffusers file":
            path /= "diffusion_pytorch_model.safetensors"
            save_file(load_file(path), path, metadata)
        elif kind == "model":
            path = tmp_path
    found = load_model(ModelReference(base, vae=path))
    for name, tensor in found.vae.named_parameters():
        assert torch.equal(tensor, model.vae.get_parameter(name)), name
    same(found, load_model(base), vae=False)


def test_own_vae_as_a_torch_file(big_heads: DiffusionModel, tmp_path: Path) -> None:
    other = tiny_model(architecture=big_heads.architecture, seed=4)
    base = _save(other, tmp_path / "base.safetensors")
    modules = {
        "unet": big_heads.denoiser, "vae": big_heads.vae, "text_encoder": big_heads.text_encoder
    }  # fmt: skip
    prefix = "first_stage_model."
    state = {
        n.removeprefix(prefix): t
        for n, t in ldm_weights(modules, FAMILIES["sd1"])
        if n.startswith(prefix)
    }
    torch.save({"state_dict": state | {"loss.logvar": torch.ones(())}}, tmp_path / "vae.pt")
    found = load_model(ModelReference(base, vae=tmp_path / "vae.pt"))
    for name, tensor in found.vae.named_parameters():
        assert torch.equal(tensor, big_heads.vae.get_parameter(name)), name


def test_a_model_without_vae_works_with_one(model: DiffusionModel, tmp_path: Path) -> None:
    whole = _save(model, tmp_path / "whole.safetensors")
    metadata = read_safetensors_header(whole).metadata
    state = {n: t for n, t in state_of(model).items() if not n.startswith("first_stage_model.")}
    save_file(state, tmp_path / "no_vae.safetensors", metadata)
    model.vae.save_pretrained(tmp_path / "vae")
    same(load_model(ModelReference(tmp_path / "no_vae.safetensors", vae=tmp_path / "vae")), model)


# ----- the hub, the demo, and quickness ------------------------------------------------------


def test_hub_models_are_folders_of_which_only_the_needed_is_fetched(
    model: DiffusionModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(model, tmp_path)
    names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    extra = ["README.md", "safety_checker/model.safetensors", "unet/diffusion_pytorch_model.bin"]
    asked: list[str] = []

    def snapshot(repository: str, allow_patterns: list[str], local_files_only: bool) -> str:
        asked.extend(allow_patterns)
        return str(folder)

    monkeypatch.setattr(hub, "_file_names", lambda repository: [*names, *extra])
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    same(load_model("owner/model"), model)
    assert sorted(asked) == sorted(names)


@pytest.mark.slow
def test_a_vae_from_the_hub_may_lie_at_the_top(
    model: DiffusionModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny_checkpoint(tmp_path / "base.safetensors", seed=5)
    model.vae.save_pretrained(tmp_path / "vae")
    names = ["README.md", "config.json", "diffusion_pytorch_model.safetensors"]
    monkeypatch.setattr(hub, "_file_names", lambda repository: names)

    def snapshot(repository: str, allow_patterns: list[str], local_files_only: bool) -> str:
        assert sorted(allow_patterns) == names[1:]
        return str(tmp_path / "vae")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    found = load_model(ModelReference(base, vae="stabilityai/sd-vae-ft-mse"))
    assert torch.equal(found.vae.quant_conv.weight, model.vae.quant_conv.weight)


def test_demo_loads() -> None:
    model = load_model("demo")
    assert model.architecture == read_architecture(DEMO)
    assert model.encode_text(["a cat"]).prompt_embeds.isfinite().all()


def test_peeking_needs_no_torch(model: DiffusionModel, tmp_path: Path) -> None:
    folder = folder_of(model, tmp_path / "folder")
    torch.save({"state_dict": state_of(model)}, tmp_path / "model.ckpt")
    code = (
        "import sys; from lorasmith.models.open import read_architecture, read_header; "
        "from pathlib import Path\n"
        f"for source in ('demo', {str(folder)!r}): "
        "assert read_architecture(source).family_name == 'sd1'\n"
        f"assert len(read_header(Path({str(tmp_path / 'model.ckpt')!r})).shapes) > 100; "
        "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_pickle_modules_used_here_are_gone() -> None:
    """The stand-in for pytorch_lightning must not make its own test true."""
    assert "pytorch_lightning" not in sys.modules
    with pytest.raises(ModuleNotFoundError):
        pickle.loads(b"cpytorch_lightning.callbacks.model_checkpoint\nModelCheckpoint\n.")
