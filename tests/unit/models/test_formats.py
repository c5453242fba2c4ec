"""Every family in every form that people have it in: one model, read alike from all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.pipelines import transformers_model
from tests.published import SD21
from tests.tiny_models import tiny_architecture, tiny_model
from torch import Tensor

from lorasmith.core.errors import CheckpointError
from lorasmith.core.files import read_safetensors_header
from lorasmith.models.architecture import architecture_of_parts
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.export import ldm_weights, save_ldm
from lorasmith.models.families.table import FAMILIES, Architecture, Overrides, detect
from lorasmith.models.layout import canonical_shapes, single_file_layout
from lorasmith.models.load import empty_modules, load_model
from lorasmith.models.open import read_architecture
from lorasmith.models.reference import ModelReference

State = dict[str, Tensor]


@dataclass(frozen=True)
class Known:
    """A tiny model, and the file that it came from (float16, LDM names)."""

    family: str
    path: Path
    model: DiffusionModel

    @property
    def state(self) -> State:
        return load_file(self.path)


def usual_architecture(family: str) -> Architecture:
    """Small, and with the family's own heads, groups and resolution, so that its files need no
    header: torch files have none."""
    known = tiny_architecture(family=family, hidden=64)
    usual, side = FAMILIES[family], FAMILIES[family].native_resolution[known.prediction]
    unet = {**known.denoiser, "norm_num_groups": 32, "sample_size": side // 8}
    if family == "sd1":
        unet |= {"block_out_channels": [32, 64, 64], "attention_head_dim": 8}
    vae = {
        **known.vae, "norm_num_groups": 32, "block_out_channels": [32, 32, 32, 64],
        "sample_size": side,
    }  # fmt: skip
    texts = tuple({**text, "num_attention_heads": 1} for text in known.texts)
    assert usual.denoiser_config["norm_num_groups"] == 32
    return replace(known, denoiser=unet, vae=vae, texts=texts, native_resolution=side)


@pytest.fixture(scope="module", params=list(FAMILIES))
def known(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Known:
    path = tmp_path_factory.mktemp("base") / "base.safetensors"
    model = tiny_model(seed=3, architecture=usual_architecture(request.param))
    save_ldm(
        path,
        unet=model.denoiser,
        vae=model.vae,
        text_encoders=model.text_encoders,
        family=request.param,
        prediction=model.prediction,
    )
    assert read_safetensors_header(path).metadata == {"format": "pt"}
    return Known(request.param, path, load_model(path))


def assert_same(found: DiffusionModel, wanted: DiffusionModel, rounded: object = None) -> None:
    for one, other in zip(found.networks, wanted.networks, strict=True):
        weights = dict(other.named_parameters())
        assert dict(one.named_parameters()).keys() == weights.keys()
        for name, parameter in one.named_parameters():
            same: Tensor = weights[name]
            if isinstance(rounded, torch.dtype):
                same = same.to(rounded).float()
            assert torch.equal(parameter, same), name


STORED = (torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)


@pytest.mark.broad_beyond(16)
@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["safetensors", "ckpt"])
@pytest.mark.parametrize("dtype", STORED, ids=str)
def test_any_precision(known: Known, dtype: torch.dtype, suffix: str, tmp_path: Path) -> None:
    state = {name: tensor.to(dtype) for name, tensor in known.state.items()}
    path = tmp_path / f"model.{suffix}"
    if suffix == "ckpt":
        torch.save({"state_dict": state, "global_step": 7}, path)
    else:
        save_file(state, path)
    assert_same(load_model(path), known.model, dtype)


def leftovers(known: Known) -> State:
    """What published files of the family have beside the weights."""
    positions = torch.arange(77)[None]
    first = FAMILIES[known.family].text_encoders[0]
    found = {
        "alphas_cumprod": torch.ones(1000),
        "model_ema.decay": torch.ones(()),
        "model_ema.num_updates": torch.ones((), dtype=torch.int32),
        "model_ema.diffusion_modelinput_blocks00weight": torch.zeros(4, 4),
        "first_stage_model.model_ema.decay": torch.ones(()),
        "denoiser.sigmas": torch.ones(1000),
    }
    if first.style == "hf":
        found[f"{first.ldm_prefix}text_model.embeddings.position_ids"] = positions
    for text in FAMILIES[known.family].text_encoders:
        if text.style == "open_clip":
            found[f"{text.ldm_prefix}logit_scale"] = torch.ones(())
            found[f"{text.ldm_prefix}attn_mask"] = torch.zeros(77, 77)
            if not text.projected:
                found[f"{text.ldm_prefix}text_projection"] = torch.zeros(64, 64)
    return found


@pytest.mark.slow_but_first
def test_averages_and_other_leftovers_are_left_aside(known: Known, tmp_path: Path) -> None:
    path = tmp_path / "pruned.safetensors"
    save_file(known.state | leftovers(known), path)
    found = load_model(path)
    assert_same(found, known.model)
    # SD 2's says what it was taken to predict.
    assert len(found.notes) == (known.family == "sd2")


def write_parts(model: DiffusionModel, folder: Path, **options: object) -> None:
    family = model.architecture.family
    for part, network in zip(family.parts, model.networks, strict=True):
        if part.startswith("text"):
            network = transformers_model(network, family.text_encoder(part))
            options.pop("safe_serialization", None)
        network.save_pretrained(folder / part, **options)
    scheduler = {"epsilon": "epsilon", "v": "v_prediction"}[model.prediction]
    diffusers.DDPMScheduler(prediction_type=scheduler).save_pretrained(folder / "scheduler")


@pytest.mark.slow_but_first
@pytest.mark.parametrize(
    "options",
    [{}, {"variant": "fp16"}, {"safe_serialization": False}, {"max_shard_size": "3MB"}],
    ids=lambda options: next(iter(options), "plain"),
)
def test_folders(known: Known, options: dict[str, object], tmp_path: Path) -> None:
    write_parts(known.model, tmp_path, **options)
    # The published SD 2 is known by the width of its texts, which the tiny one has not.
    family = "sd2" if known.family == "sd2" else "auto"
    found = load_model(ModelReference(tmp_path, family=family))
    assert found.architecture == known.model.architecture
    assert_same(found, known.model)


@pytest.mark.slow_but_first
def test_a_forced_family_is_taken(known: Known) -> None:
    assert (
        read_architecture(ModelReference(known.path, family=known.family))
        == known.model.architecture
    )
    for other in FAMILIES.keys() - {known.family}:
        with pytest.raises(CheckpointError):
            read_architecture(ModelReference(known.path, family=other))


@pytest.mark.slow_but_first
@pytest.mark.parametrize("names", ["ldm", "diffusers"])
def test_inpainting_is_refused(known: Known, names: str, tmp_path: Path) -> None:
    if names == "ldm":
        state = known.state
        first = "model.diffusion_model.input_blocks.0.0.weight"
    else:
        state = {f"unet.{n}": t.contiguous() for n, t in known.model.denoiser.state_dict().items()}
        first = "unet.conv_in.weight"
    state[first] = torch.zeros(state[first].shape[0], 9, 3, 3)
    save_file(state, tmp_path / "inpainting.safetensors")
    with pytest.raises(CheckpointError, match=r"an inpainting model.*takes 9 channels"):
        load_model(ModelReference(tmp_path / "inpainting.safetensors", family=known.family))


OTHERS: dict[str, tuple[Callable[[State], State], str]] = {
    "playground 2.5": (lambda state: {"edm_mean": torch.zeros(1, 4, 1, 1)}, "EDM"),
    "CosXL": (lambda state: {"edm_vpred.sigma_max": torch.ones(())}, "EDM"),
    "unCLIP": (lambda state: {"noise_augmentor.data_std": torch.ones(4)}, "unCLIP"),
}


@pytest.mark.slow_but_first
@pytest.mark.parametrize("name", OTHERS)
def test_kin_that_are_trained_otherwise_are_refused(
    known: Known, name: str, tmp_path: Path
) -> None:
    make, message = OTHERS[name]
    path = tmp_path / "other.safetensors"
    save_file(known.state | make(known.state), path)
    with pytest.raises(CheckpointError, match=message):
        read_architecture(path)


def test_marks_say_how_it_was_trained(known: Known, tmp_path: Path) -> None:
    """As NoobAI's v-prediction model does: two empty tensors."""
    path = tmp_path / "v.safetensors"
    assert not known.model.architecture.zero_terminal_snr
    marks = {"v_pred": torch.ones(0), "ztsnr": torch.ones(0)}
    save_file(known.state | marks, path)
    found = read_architecture(path)
    assert (found.prediction, found.zero_terminal_snr) == ("v", True)
    told = read_architecture(ModelReference(path, prediction="epsilon", zero_terminal_snr=False))
    assert (told.prediction, told.zero_terminal_snr) == ("epsilon", False)


def test_a_scheduler_says_how_it_was_trained(known: Known, tmp_path: Path) -> None:
    write_parts(known.model, tmp_path)
    diffusers.DDPMScheduler(
        prediction_type="v_prediction", rescale_betas_zero_snr=True
    ).save_pretrained(tmp_path / "scheduler")
    found = read_architecture(ModelReference(tmp_path, family=known.family))
    assert (found.prediction, found.zero_terminal_snr) == ("v", True)


def test_sd2_files_without_the_layer_that_is_never_run() -> None:
    """Made of a diffusers folder they have 23 layers; the published ones 24."""
    weights = ldm_weights(empty_modules(SD21), SD21.family)
    shapes = {name: tuple(tensor.shape) for name, tensor in weights}
    fewer = {name: shape for name, shape in shapes.items() if ".resblocks.23." not in name}
    assert len(fewer) < len(shapes)
    for given in (shapes, fewer):
        family = detect(given)
        parts = canonical_shapes(single_file_layout(given, family), given)
        found = architecture_of_parts(parts, family, Overrides(prediction="v"))
        assert found.text["num_hidden_layers"] == 23


def test_sd2_of_noise_is_the_small_one() -> None:
    weights = ldm_weights(empty_modules(SD21), SD21.family)
    shapes = {name: tuple(tensor.shape) for name, tensor in weights}
    parts = canonical_shapes(single_file_layout(shapes, FAMILIES["sd2"]), shapes)
    sides = {
        prediction: architecture_of_parts(
            parts, FAMILIES["sd2"], Overrides(prediction=prediction)
        ).native_resolution
        for prediction in ("epsilon", "v")
    }
    assert sides == {"epsilon": 512, "v": 768}
