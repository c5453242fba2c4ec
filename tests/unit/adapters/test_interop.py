"""Whole files at SD1.5's size: what lycoris, diffusers and peft make of ours, and we of theirs.

Every key of the model is there; weights are compared on one layer of each size.
"""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from lycoris import kohya
from lycoris.modules import get_module, make_module
from lycoris.modules.base import LycorisBaseModule
from lycoris.modules.ia3 import IA3Module
from lycoris.modules.loha import LohaModule
from lycoris.modules.lokr import LokrModule
from peft import IA3Config, LoHaConfig, LoKrConfig, LoraConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file
from tests.tolerances import NETWORK, assert_near
from tests.unit.adapters.conftest import roots_of, sd15
from torch import Tensor, nn

from lorasmith.adapters.base import Adapter, AdapterOptions
from lorasmith.adapters.file import load_lora, save_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.adapters.targets import Target
from lorasmith.config.adapter_types import ADAPTERS
from lorasmith.core.errors import LoraFileError

# Convolutions beyond this are as the smaller ones, and slow.
LARGEST = 640 * 640 * 9

OPTIONS = {
    # Their loader takes no others; of theirs below, the lengths are of inputs.
    "dora": AdapterOptions(decompose_on_output=True),
    "locon": AdapterOptions(tucker=True),
    "lokr": AdapterOptions(factor=8),
    "oft": AdapterOptions(rescaled=True),
}
# Our names and lycoris' arguments for the same.
THEIRS = {
    "lora": {"algo": "lora"},
    "c3lier": {"algo": "lora", "conv_dim": "2", "conv_alpha": "1"},
    "locon": {"algo": "locon", "conv_dim": "2", "use_tucker": "True"},
    "loha": {"algo": "loha", "conv_dim": "2"},
    "lokr": {"algo": "lokr", "conv_dim": "2", "factor": "8"},
    "dora": {"algo": "locon", "dora_wd": "True", "wd_on_output": "False"},
    "oft": {"algo": "diag-oft", "conv_dim": "2", "rescaled": "True"},
    "boft": {"algo": "boft", "conv_dim": "10"},
}
RANKS = {"boft": 10}


def materialise(module: nn.Module) -> None:
    """Random weights, one tensor for all layers of a size: a fraction of the model's memory."""
    table = torch.randn(2**20, generator=torch.Generator().manual_seed(0))
    weights: dict[tuple[int, ...], nn.Parameter] = {}
    for part in module.modules():
        for name, p in list(part.named_parameters(recurse=False)):
            shape = tuple(p.shape)
            if shape not in weights:
                values = table.repeat(math.ceil(p.numel() / len(table)))[: p.numel()].view(shape)
                scale = 1.0 if p.ndim == 1 else math.sqrt(p[0].numel())
                weights[shape] = nn.Parameter(values / scale, requires_grad=False)
            setattr(part, name, weights[shape])
        for name, buffer in list(part.named_buffers(recurse=False)):
            part.register_buffer(name, torch.arange(buffer.shape[-1]).expand(buffer.shape))


class OldPaths(nn.Module):
    """A text encoder at the path that it had in transformers 4, which kohya's keys spell out."""

    def __init__(self, text_model: nn.Module) -> None:
        super().__init__()
        self.text_model = text_model


class Full:
    def __init__(self) -> None:
        with torch.device("meta"):
            self.unet, self.text_encoder = sd15()
        for module in (self.unet, self.text_encoder):
            materialise(module)
            module.eval()
        self.roots = roots_of(self.unet, self.text_encoder)

    def network(self, algorithm: str) -> AdapterNetwork:
        rank = RANKS.get(algorithm, 4)
        conv = ADAPTERS[algorithm].conv
        network = AdapterNetwork.create(
            self.roots,
            algorithm=algorithm,
            rank=rank,
            alpha=3.0,
            conv_rank=max(2, rank) if conv else 0,
            options=OPTIONS.get(algorithm),
        )
        for adapter in network.adapters.values():
            randomise(adapter)
        return network


@pytest.fixture(scope="module")
def full() -> Full:
    return Full()


@torch.no_grad()
def randomise(adapter: nn.Module) -> None:
    g = torch.Generator().manual_seed(2)
    for name, p in adapter.named_parameters():
        change = torch.randn(p.shape, generator=g)
        if name == "dora_scale":
            p.mul_(1 + 0.1 * change)
        elif name == "rescale":
            p.add_(0.1 * change)
        else:
            p.copy_(change / math.sqrt(p.shape[-1]))


def sizes(network: AdapterNetwork) -> list[tuple[str, Adapter, Target]]:
    """One layer of each size and kind of name."""
    found: dict[object, tuple[str, Adapter, Target]] = {}
    for key, adapter in network.adapters.items():
        target = network.targets[key]
        if target.layer.weight.numel() <= LARGEST:
            found.setdefault(tuple(target.layer.weight.shape), (key, adapter, target))
    assert len(found) > 5
    return list(found.values())


def their_change(module: LycorisBaseModule, layer: nn.Module) -> Tensor:
    """The change of the weight that lycoris' forward acts with.

    Not its ``get_merged_weight`` of LoHa and LoKr, which in 4.1 applies the scale twice.
    """
    if isinstance(module, LohaModule | LokrModule):
        merged = layer.weight + module.get_weight(layer.weight.shape)
        return (module.apply_weight_decompose(merged) if module.wd else merged) - layer.weight
    return module.get_merged_weight()[0] - layer.weight


def relative(a: Tensor, b: Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


def load_into_lycoris(tensors: dict[str, Tensor], key: str, layer: nn.Module) -> LycorisBaseModule:
    kind, parameters = get_module(tensors, key)
    if kind is IA3Module:  # Their own loader of it passes one argument too many.
        made = IA3Module(key, layer, train_on_input=bool(tensors[f"{key}.on_input"]))
        made.weight.data.copy_(tensors[f"{key}.weight"])
        return made
    made = make_module(kind, parameters, key, layer)
    assert made is not None
    return made.eval()


@pytest.mark.slow_but_first
@pytest.mark.parametrize("algorithm", list(ADAPTERS))
@torch.no_grad()
def test_lycoris_merges_what_we_merge(full, tmp_path, algorithm):
    network = full.network(algorithm)
    path = tmp_path / "ours.safetensors"
    save_lora(path, network.state_dict(), {})
    tensors = load_file(path)
    again = AdapterNetwork.load(load_lora(path).tensors, full.roots)
    assert again.report.unmatched == ()
    assert again.adapters.keys() == network.adapters.keys()
    for key in again.adapters:
        assert get_module(tensors, key)[0] is not None, key
    for key, adapter, target in sizes(again):
        theirs = their_change(load_into_lycoris(tensors, key, target.layer), target.layer)
        assert relative(adapter.delta_weight(target.layer), theirs) < 1e-5, key


# Not lycoris' preset "full", which in 4.1 finds SD1.5's time embedding twice and stops.
@pytest.mark.broad_beyond(9)
@pytest.mark.slow_but_first
@pytest.mark.parametrize("preset", ["attn-mlp", "unet-convblock-only"])
@pytest.mark.parametrize("algorithm", list(THEIRS))
@torch.no_grad()
@pytest.mark.usefixtures("lycoris_settings")
def test_a_file_of_lycoris_merges_as_lycoris_does(full, tmp_path, algorithm, preset):
    made = kohya.create_network(
        1.0,
        RANKS.get(algorithm, 4),
        3.0,
        None,
        OldPaths(full.text_encoder),
        full.unet,
        preset=preset,
        **THEIRS[algorithm],
    )
    modules = {module.lora_name: module.eval() for module in made.loras}
    tensors = {}
    for key, module in modules.items():
        randomise(module)
        tensors.update({f"{key}.{n}": t.contiguous() for n, t in module.state_dict().items()})
    path = tmp_path / "theirs.safetensors"
    save_file(tensors, path)
    network = AdapterNetwork.load(load_lora(path).tensors, full.roots)
    assert network.report.unmatched == ()
    assert network.adapters.keys() == modules.keys()
    for key, adapter, target in sizes(network):
        theirs = their_change(modules[key], target.layer)
        assert relative(adapter.delta_weight(target.layer), theirs) < 1e-5, key


# Not DoRA: diffusers 0.42 says that it leaves dora_scale out under kohya's names.
@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["c3lier", "dylora", "tlora"])
@torch.no_grad()
def test_diffusers_computes_what_we_compute(full, tmp_path, algorithm):
    network = full.network(algorithm)
    path = tmp_path / "ours.safetensors"
    save_lora(path, network.state_dict(), {})
    compared = sizes(network)
    inputs = {}
    ours = {}
    for key, adapter, target in compared:
        weight = target.layer.weight
        size = (1, weight.shape[1], 4, 4) if weight.ndim == 4 else (1, 3, weight.shape[1])
        inputs[key] = torch.randn(size, generator=torch.Generator().manual_seed(1))
        ours[key] = adapter.forward_with_base(inputs[key], target.layer) - target.layer(inputs[key])
    pipeline = StableDiffusionPipeline(
        vae=None,
        text_encoder=full.text_encoder,
        tokenizer=None,
        unet=full.unet,
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.load_lora_weights(path.parent, weight_name=path.name)
    try:
        for key, _, target in compared:
            layer = target.root.module.get_submodule(target.path)
            assert isinstance(layer, BaseTunerLayer), f"diffusers leaves out {key}"
            theirs = layer(inputs[key]) - layer.get_base_layer()(inputs[key])
            assert relative(ours[key], theirs) < 1e-4, key
    finally:
        pipeline.unload_lora_weights()


PEFT = {
    "LoRA": LoraConfig(
        r=3,
        lora_alpha=5,
        use_rslora=True,
        target_modules=["to_k", "to_out.0", "conv1", "conv_shortcut"],
        rank_pattern={"conv1": 2},
        alpha_pattern={"conv1": 7},
    ),
    "DoRA": LoraConfig(r=3, lora_alpha=5, use_dora=True, target_modules=["to_k", "conv1", "conv2"]),
    "LoHa": LoHaConfig(r=3, alpha=5, target_modules=["to_k", "conv1", "proj_in"]),
    "LoHa, Tucker": LoHaConfig(r=3, alpha=5, target_modules=["conv1"], use_effective_conv2d=True),
    "LoKr": LoKrConfig(r=3, alpha=5, target_modules=["to_k", "conv1"], rank_pattern={"to_k": 2}),
    "LoKr, full": LoKrConfig(r=99, alpha=5, target_modules=["to_k"]),
    "IA3": IA3Config(target_modules=["to_k", "ff.net.2"], feedforward_modules=["ff.net.2"]),
}


@pytest.mark.slow_but_first
@pytest.mark.parametrize("name", list(PEFT))
@torch.no_grad()
def test_a_file_of_peft_computes_what_peft_computes(tiny, tmp_path, name):
    base = tiny.predict()
    model = get_peft_model(tiny.unet, PEFT[name])
    g = torch.Generator().manual_seed(4)
    for p in model.parameters():
        if p.requires_grad:
            p.add_(0.2 * torch.randn(p.shape, generator=g))
    model.eval()
    theirs = tiny.predict()
    assert relative(theirs, base) > 1e-3
    model.save_pretrained(tmp_path)
    model.unload()
    file = load_lora(tmp_path / "adapter_model.safetensors")
    network = AdapterNetwork.load(file.tensors, tiny.roots)
    assert network.report.unmatched == ()
    with network.attached():
        assert_near(tiny.predict(), theirs, NETWORK)


def test_a_file_of_peft_without_its_settings_is_refused(tmp_path):
    path = tmp_path / "adapter_model.safetensors"
    save_file({"base_model.model.conv_in.lora_A.weight": torch.zeros(2, 4, 3, 3)}, path)
    with pytest.raises(LoraFileError, match=r"adapter_config\.json.*not beside it"):
        load_lora(path)
    path.with_name("adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(LoraFileError, match="no 'lora_alpha'"):
        load_lora(path)


UNREAD = {
    "bm.weight": "GLoRA with a core",
    "oft_diag": "before 3.0",
    "oft_R.weight": "OFT of peft",
    "boft_R": "BOFT of peft",
    "made_up": "no known type",
}


@pytest.mark.parametrize("name", list(UNREAD))
def test_types_that_are_not_read_are_named(tiny, name):
    key = "lora_unet_conv_in" if "_R" not in name else "base_model.model.conv_in"
    with pytest.raises(LoraFileError, match=UNREAD[name]) as caught:
        AdapterNetwork.load({f"{key}.{name}": torch.zeros(4, 4)}, tiny.roots, where="x")
    assert "read are lora" in str(caught.value)


def test_a_file_may_mix_types_ranks_and_alphas(tiny):
    """Each module is what its own tensors say."""
    paths = [target.key for target in tiny.network().targets.values()]
    mixed = {}
    kinds = ["lora", "loha", "lokr", "ia3", "dora", "oft", "boft"]
    for number, (kind, key) in enumerate(zip(kinds, paths, strict=False)):
        made = AdapterNetwork.create(
            tiny.roots, algorithm="locon" if kind == "lora" else kind, rank=2 + number, alpha=1.5
        )
        own = made.adapters if key in made.adapters else {}
        if key not in own:
            continue
        mixed.update({f"{key}.{n}": t for n, t in made.adapters[key].state_dict().items()})
    network = AdapterNetwork.load(mixed, tiny.roots)
    assert len({type(adapter) for adapter in network.adapters.values()}) >= 4
    assert network.state_dict().keys() == mixed.keys()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, mixed[name])


def test_lycoris_own_prefix_and_paths_are_read(tiny):
    """``create_lycoris`` on one network, and kohya's names under transformers 5."""
    tensors = tiny.network().state_dict()
    renamed = {
        name.replace("lora_unet_", "lycoris_").replace("lora_te_text_model_", "lora_te_"): tensor
        for name, tensor in tensors.items()
    }
    network = AdapterNetwork.load(renamed, tiny.roots)
    assert network.report.unmatched == ()
    assert network.state_dict().keys() == tensors.keys()
