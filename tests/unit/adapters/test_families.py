"""LoRA files of each family: diffusers computes with ours what we compute, and we with theirs."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from diffusers.training_utils import _collate_lora_metadata
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from tests.pipelines import encode, pipeline_of
from tests.tiny_models import tiny_architecture, tiny_model
from tests.tolerances import NETWORK, assert_near
from torch import Tensor

from lorasmith.adapters.file import load_lora, save_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.models.diffusion_model import DiffusionModel

CAPTIONS = ["a cat, sitting", "a dog"]
CONV = {"lora": 0, "c3lier": 2}
SIZES = torch.tensor([[64.0, 96.0, 0.0, 16.0, 64.0, 64.0]] * 2)


@pytest.fixture(scope="module", params=["sd1", "sd2", "sdxl"])
def family(request: pytest.FixtureRequest) -> str:
    return request.param


def model_of(family: str) -> DiffusionModel:
    """Its UNet has as many levels and layers as SDXL's, so the block numbers are the real ones."""
    return tiny_model(seed=5, architecture=tiny_architecture(family=family, layers=2))


@torch.no_grad()
def network_of(model: DiffusionModel, kind: str = "lora") -> AdapterNetwork:
    network = AdapterNetwork.create(
        model.adapter_roots(), algorithm=kind, rank=4, alpha=3.0, conv_rank=CONV[kind]
    )
    g = torch.Generator().manual_seed(2)
    for adapter in network.adapters.values():
        for p in adapter.parameters():
            p.copy_(torch.randn(p.shape, generator=g) * 0.5 / math.sqrt(p[0].numel()))
    return network


@torch.no_grad()
def ours(model: DiffusionModel) -> tuple[Tensor, Tensor]:
    """(prediction, text features), with whatever is attached."""
    text = model.encode_text(CAPTIONS).with_size_ids(SIZES)
    return model.denoise(noisy(), torch.tensor([30, 700]), text), features(
        text.prompt_embeds, text.pooled
    )


@torch.no_grad()
def theirs(pipeline) -> tuple[Tensor, Tensor]:
    hidden, pooled = encode(pipeline, CAPTIONS)
    added = None if pooled is None else {"text_embeds": pooled, "time_ids": SIZES}
    found = pipeline.unet(noisy(), torch.tensor([30, 700]), hidden, added_cond_kwargs=added)
    return found.sample, features(hidden, pooled)


def features(hidden: Tensor, pooled: Tensor | None) -> Tensor:
    return torch.cat([hidden.flatten(), *([] if pooled is None else [pooled.flatten()])])


def noisy() -> Tensor:
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def assert_same(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> None:
    for a, b in zip(one, other, strict=True):
        assert_near(a, b, NETWORK)


def assert_differ(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> None:
    for a, b in zip(one, other, strict=True):
        assert (a - b).norm() > 0.05 * b.norm(), "the LoRA does nothing here"


@pytest.mark.slow_but_first
@pytest.mark.parametrize("kind", list(CONV))
def test_diffusers_computes_what_we_compute(family: str, kind: str, tmp_path: Path) -> None:
    model = model_of(family)
    network = network_of(model, kind)
    save_lora(tmp_path / "ours.safetensors", network.state_dict(), {})
    base = ours(model)
    with network.attached():
        wanted = ours(model)
    pipeline = pipeline_of(model_of(family))
    assert_same(theirs(pipeline), base)
    pipeline.load_lora_weights(tmp_path, weight_name="ours.safetensors")
    found = theirs(pipeline)
    assert_differ(found, base)
    assert_same(found, wanted)


@pytest.mark.slow
def test_files_in_other_names_are_read(family: str, tmp_path: Path) -> None:
    """diffusers' own, and kohya's with diffusers' names of UNet layers."""
    model = model_of(family)
    network = network_of(model)
    with network.attached():
        wanted = ours(model)
    save_lora(tmp_path / "ours.safetensors", network.state_dict(), {})
    paths = {key: t.path for key, t in network.targets.items() if t.part == "unet"}
    renamed = {}
    for name, tensor in load_file(tmp_path / "ours.safetensors").items():
        key, _, rest = name.partition(".")
        path = f"lora_unet_{paths[key]}".replace(".", "_") if key in paths else key
        renamed[f"{path}.{rest}"] = tensor
    assert (renamed.keys() != network.state_dict().keys()) == (family == "sdxl")
    save_file(renamed, tmp_path / "renamed.safetensors")
    pipeline = pipeline_of(model_of(family))
    pipeline.load_lora_weights(tmp_path, weight_name="ours.safetensors", adapter_name="default")
    parts = {
        name: getattr(pipeline, name)
        for name in ("unet", "text_encoder", "text_encoder_2")
        if getattr(pipeline, name, None) is not None
    }
    pipeline.save_lora_weights(
        tmp_path,
        **{f"{name}_lora_layers": get_peft_model_state_dict(part) for name, part in parts.items()},
        **_collate_lora_metadata(parts),
    )
    for name in ("renamed.safetensors", "pytorch_lora_weights.safetensors"):
        again = AdapterNetwork.load(load_lora(tmp_path / name).tensors, model.adapter_roots())
        assert again.report.unmatched == ()
        assert again.adapters.keys() == network.adapters.keys()
        with again.attached():
            assert_same(ours(model), wanted)
