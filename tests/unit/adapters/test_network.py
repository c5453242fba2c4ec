"""A network of adapters on real architectures: attached, trained, written, removed."""

from __future__ import annotations

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.training_utils import _collate_lora_metadata
from peft import LoraConfig, get_peft_model_state_dict
from tests.tolerances import NETWORK, assert_near

from lorasmith.adapters.base import AdaptedLayer
from lorasmith.adapters.file import load_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.core.errors import LoraFileError


def modules_of(model):
    return {name: id(module) for name, module in model.named_modules()}


def test_attach_and_detach_restore_the_very_modules(tiny, randomised):
    before = modules_of(tiny.unet), modules_of(tiny.text_encoder)
    clean = tiny.predict(), tiny.encode()
    network = tiny.network(conv_rank=2)
    randomised(network)
    with network.attached():
        assert any(isinstance(m, AdaptedLayer) for m in tiny.unet.modules())
        assert not torch.equal(tiny.predict(), clean[0])
        assert not torch.equal(tiny.encode(), clean[1])
    assert (modules_of(tiny.unet), modules_of(tiny.text_encoder)) == before
    assert torch.equal(tiny.predict(), clean[0])
    assert torch.equal(tiny.encode(), clean[1])


def test_new_network_is_identity(tiny):
    clean = tiny.predict(), tiny.encode()
    with tiny.network(conv_rank=2).attached():
        assert torch.equal(tiny.predict(), clean[0])
        assert torch.equal(tiny.encode(), clean[1])


def test_an_optimizer_step_leaves_the_base_as_it_was(tiny):
    base = {name: p.clone() for name, p in tiny.unet.named_parameters()}
    network = tiny.network()
    network.attach()
    parameters = [p for group in network.parameter_groups() for p in group.parameters]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    for _ in range(2):
        (tiny.predict().square().mean() + tiny.encode().square().mean()).backward()
        assert all(p.grad is not None for p in parameters)
        optimizer.step()
    assert not torch.equal(tiny.predict(), network_free(tiny, network))
    assert all(torch.equal(p, base[name]) for name, p in tiny.unet.named_parameters())
    assert all(p.grad is None and not p.requires_grad for p in tiny.unet.parameters())


def network_free(tiny, network):
    network.detach()
    return tiny.predict()


def test_parts_have_their_own_groups_and_strengths(tiny, randomised):
    clean = tiny.predict(), tiny.encode()
    network = tiny.network()
    randomised(network)
    assert [group.name for group in network.parameter_groups()] == ["unet", "text_encoder"]
    with network.attached():
        full = tiny.predict(), tiny.encode()
        network.set_strength(unet=0.0, text_encoder=1.0)
        assert torch.equal(tiny.predict(), clean[0])
        assert torch.equal(tiny.encode(), full[1])
        network.set_strength(unet=1.0, text_encoder=0.0)
        assert torch.equal(tiny.predict(), full[0])
        assert torch.equal(tiny.encode(), clean[1])


def test_one_part_alone(tiny):
    assert tiny.network(text_encoder=False).parts() == {"unet": 4 * 12}
    assert tiny.network(unet=False).parts() == {"text_encoder": 12}


def test_first_weights_depend_on_seed_and_key_alone(tiny):
    full, unet = tiny.network(seed=1), tiny.network(seed=1, text_encoder=False)
    other = tiny.network(seed=2)
    for key, adapter in unet.adapters.items():
        assert torch.equal(adapter.lora_down.weight, full.adapters[key].lora_down.weight)
        assert not torch.equal(adapter.lora_down.weight, other.adapters[key].lora_down.weight)
    state = torch.random.get_rng_state()
    tiny.network()
    assert torch.equal(torch.random.get_rng_state(), state), "the global generator was used"


@pytest.mark.parametrize("conv_rank", [0, 2])
def test_written_and_read_again_is_bit_equal(tiny, randomised, conv_rank):
    network = tiny.network(alpha=3.0, conv_rank=conv_rank, conv_alpha=0.1)
    randomised(network)
    tensors = network.state_dict()
    loaded = AdapterNetwork.load(tensors, tiny.roots)
    assert not loaded.report.unmatched
    assert not loaded.report.missing
    assert list(loaded.adapters) == list(network.adapters)
    for key, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, tensors[key])
    with network.attached():
        expected = tiny.predict()
    with loaded.attached():
        assert torch.equal(tiny.predict(), expected)


def test_names_and_shapes_are_kohyas(tiny):
    tensors = tiny.network(alpha=2.0, conv_rank=2).state_dict()
    key = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    assert tensors[f"{key}.lora_down.weight"].shape == (4, 32)
    assert tensors[f"{key}.lora_up.weight"].shape == (32, 4)
    assert tensors[f"{key}.alpha"].shape == ()
    conv = "lora_unet_down_blocks_0_resnets_0_conv1"
    assert tensors[f"{conv}.lora_down.weight"].shape == (2, 32, 3, 3)
    assert tensors[f"{conv}.lora_up.weight"].shape == (32, 2, 1, 1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounding_never_changes_the_scale(tiny, dtype):
    tensors = tiny.network(alpha=0.1).state_dict(dtype)
    loaded = AdapterNetwork.load(tensors, tiny.roots)
    assert all(a.scale == pytest.approx(0.025, rel=1e-6) for a in loaded.adapters.values())
    kept = tiny.network(alpha=2.0).state_dict(dtype)
    assert {t.dtype for t in kept.values()} == {dtype}


def test_state_comes_back_in_place(tiny, randomised):
    network = tiny.network()
    randomised(network)
    saved = network.state_dict()
    parameters = [p for group in network.parameter_groups() for p in group.parameters]
    with torch.no_grad():
        for parameter in parameters:
            parameter.zero_()
    network.load_state_dict(saved)
    assert all(torch.equal(t, saved[key]) for key, t in network.state_dict().items())
    now = [p for group in network.parameter_groups() for p in group.parameters]
    assert all(a is b for a, b in zip(parameters, now, strict=True))


def long_names(network: AdapterNetwork, style: str) -> dict[str, torch.Tensor]:
    suffixes = {
        "peft": ("lora_A.weight", "lora_B.weight"),
        "diffusers": ("lora.down.weight", "lora.up.weight"),
    }
    tensors = {}
    for key, adapter in network.adapters.items():
        target = network.targets[key]
        name = target.root.long_names(target.path)[0]
        for suffix, factor in zip(
            suffixes[style], (adapter.lora_down, adapter.lora_up), strict=True
        ):
            tensors[f"{name}.{suffix}"] = factor.weight.detach()
    return tensors


@pytest.mark.parametrize("style", ["peft", "diffusers"])
def test_long_names_are_read(tiny, randomised, style):
    network = tiny.network()
    randomised(network)
    tensors = long_names(network, style)
    q_proj = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
    assert any(name.startswith(q_proj) for name in tensors)
    loaded = AdapterNetwork.load(tensors, tiny.roots)
    expected = network.state_dict()
    assert all(torch.equal(t, expected[key]) for key, t in loaded.state_dict().items())


def test_attention_processor_names_are_read(tiny, randomised):
    network = tiny.network(text_encoder=False)
    randomised(network)
    attention = "down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_"
    adapters = {
        which: network.adapters[f"lora_unet_{attention}{which}"] for which in ("q", "out_0")
    }
    prefix = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_"
    tensors = {}
    for which, adapter in adapters.items():
        short = which.removesuffix("_0")
        tensors[f"{prefix}{short}_lora.down.weight"] = adapter.lora_down.weight.detach()
        tensors[f"{prefix}{short}_lora.up.weight"] = adapter.lora_up.weight.detach()
    loaded = AdapterNetwork.load(tensors, tiny.roots)
    assert set(loaded.adapters) == {f"lora_unet_{attention}{which}" for which in adapters}


@pytest.mark.parametrize("rslora", [False, True])
def test_a_file_written_by_diffusers_means_the_same_here(tiny, tmp_path, rslora):
    config = LoraConfig(
        r=4,
        lora_alpha=3,
        use_rslora=rslora,
        init_lora_weights=False,
        target_modules=["to_q", "to_out.0", "proj_in", "ff.net.0.proj", "conv1"],
        alpha_pattern={} if rslora else {"attn2.to_q": 7},
    )
    tiny.unet.add_adapter(config)
    theirs = tiny.predict()
    StableDiffusionPipeline.save_lora_weights(
        tmp_path,
        unet_lora_layers=get_peft_model_state_dict(tiny.unet),
        **_collate_lora_metadata({"unet": tiny.unet}),
    )
    clean = type(tiny)()
    assert not torch.equal(clean.predict(), theirs)
    file = load_lora(tmp_path / "pytorch_lora_weights.safetensors")
    network = AdapterNetwork.load(file.tensors, clean.roots)
    assert not network.report.unmatched
    with network.attached():
        assert_near(clean.predict(), theirs, NETWORK)


def test_what_does_not_fit_is_named(tiny, randomised):
    network = tiny.network()
    randomised(network)
    tensors = network.state_dict()
    gone = "lora_te_text_model_encoder_layers_1_mlp_fc2"
    tensors = {name: t for name, t in tensors.items() if not name.startswith(gone)}
    tensors["lora_unet_elsewhere.lora_up.weight"] = torch.zeros(2, 2)
    report = AdapterNetwork.load(tensors, tiny.roots).report
    assert report.missing == (gone,)
    assert report.unmatched == ("lora_unet_elsewhere.lora_up.weight",)


def test_any_rank_per_module_and_layers_outside_the_usual(tiny):
    key = "lora_unet_conv_in"
    tensors = {
        f"{key}.lora_down.weight": torch.ones(7, 4, 3, 3),
        f"{key}.lora_up.weight": torch.ones(32, 7, 1, 1),
        "lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": torch.ones(1, 64, 1, 1),
        "lora_unet_mid_block_attentions_0_proj_in.lora_up.weight": torch.ones(64, 1, 1, 1),
    }
    network = AdapterNetwork.load(tensors, tiny.roots)
    assert [adapter.rank for adapter in network.adapters.values()] == [7, 1]


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"some.weight": torch.zeros(1)}, r"none of its tensors \(1\) belongs"),
        (
            {
                "lora_unet_conv_in.lora_down.weight": torch.zeros(4, 9, 3, 3),
                "lora_unet_conv_in.lora_up.weight": torch.zeros(32, 4, 1, 1),
            },
            r"down is \(4, 9, 3, 3\), but the layer takes \(4, 4, 3, 3\)",
        ),
        ({"lora_unet_conv_in.mystery": torch.zeros(1)}, "is of no known type"),
    ],
)
def test_files_that_cannot_be_used_say_why(tiny, tensors, message):
    with pytest.raises(LoraFileError, match=message):
        AdapterNetwork.load(tensors, tiny.roots, where="x.safetensors")


@pytest.mark.slow
def test_two_networks_at_once(tiny, randomised):
    first, second = tiny.network(seed=1), tiny.network(seed=2, rank=2)
    for network in (first, second):
        randomised(network)
    clean = tiny.predict()
    with first.attached():
        alone = tiny.predict()
        with second.attached():
            assert not torch.equal(tiny.predict(), alone)
            second.set_strength(0.0, 0.0)
            assert torch.equal(tiny.predict(), alone)
        assert torch.equal(tiny.predict(), alone)
    first.attach()
    second.attach()
    first.detach()
    second.detach()
    assert torch.equal(tiny.predict(), clean)


def test_detached_for_a_while(tiny, randomised):
    network = tiny.network()
    randomised(network)
    clean = tiny.predict()
    network.attach()
    trained = tiny.predict()
    with network.detached():
        assert torch.equal(tiny.predict(), clean)
    assert torch.equal(tiny.predict(), trained)


def test_scale_weight_norms_against_dense_norms(tiny, randomised):
    network = tiny.network(alpha=3.0, conv_rank=2)
    randomised(network)
    before = {k: a.double().added().detach() for k, a in network.adapters.items()}
    dense = torch.stack([w.norm() for w in before.values()])
    limit = dense.median().item()
    report = network.scale_weight_norms(limit)
    assert int(report.scaled) == int((dense > limit).sum())
    limited = dense.clamp(max=limit)
    assert_near(report.mean, limited.mean(), NETWORK)
    assert_near(report.max, limited.max(), NETWORK)
    for key, adapter in network.adapters.items():
        wanted = before[key] * min(1.0, limit / before[key].norm().item())
        assert_near(adapter.added(), wanted, NETWORK)


def test_scale_weight_norms_leaves_a_new_network_alone(tiny):
    network = tiny.network()
    before = network.state_dict()
    report = network.scale_weight_norms(1.0)
    assert (int(report.scaled), float(report.max)) == (0, 0.0)
    assert all(torch.equal(t, before[key]) for key, t in network.state_dict().items())


def test_disabled_for_a_while_gives_the_base_to_the_last_bit(tiny, randomised):
    clean = tiny.predict(), tiny.encode()
    network = tiny.network(conv_rank=2)
    randomised(network)
    with network.attached():
        network.set_strength(unet=0.7, text_encoder=0.5)
        adapted, modules = (tiny.predict(), tiny.encode()), modules_of(tiny.unet)
        with network.disabled():
            assert torch.equal(tiny.predict(), clean[0])
            assert torch.equal(tiny.encode(), clean[1])
            assert modules_of(tiny.unet) == modules
        assert torch.equal(tiny.predict(), adapted[0])
        assert torch.equal(tiny.encode(), adapted[1])
