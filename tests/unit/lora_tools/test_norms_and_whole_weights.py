"""Norms, biases, whole differences, GLoRA: baked, attached and merged, by lycoris' arithmetic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lycoris.modules.diag_oft import DiagOFTModule
from lycoris.modules.full import FullModule
from lycoris.modules.glora import GLoRAModule
from lycoris.modules.norms import NormModule
from safetensors.torch import load_file, save_file
from tests.unit.lora_tools.tuned_models import base_file, loaded, random_lora, weights_of
from torch import Tensor, nn

from lorasmith.adapters.network import AdapterNetwork
from lorasmith.cli.inspect_view import lora_lines
from lorasmith.core.errors import LoraFileError
from lorasmith.lora_tools.bake.bake import bake
from lorasmith.lora_tools.convert.convert import convert
from lorasmith.lora_tools.extract import extract
from lorasmith.lora_tools.inputs import LoraSource, parse_source
from lorasmith.lora_tools.inspect.inspect import inspect, inspect_lora
from lorasmith.lora_tools.merge import merge
from lorasmith.lora_tools.resize import resize
from lorasmith.models.load import load_model

# (kohya's key in SD1, part, path) of what lycoris' train_norm adapts.
NORMS = {
    "lora_unet_down_blocks_0_resnets_0_norm1": ("unet", "down_blocks.0.resnets.0.norm1"),
    "lora_unet_mid_block_attentions_0_norm": ("unet", "mid_block.attentions.0.norm"),
    "lora_unet_mid_block_attentions_0_transformer_blocks_0_norm2": (
        "unet", "mid_block.attentions.0.transformer_blocks.0.norm2"
    ),
    "lora_unet_conv_norm_out": ("unet", "conv_norm_out"),
    "lora_te_text_model_encoder_layers_1_layer_norm1": (
        "text_encoder", "encoder.layers.1.layer_norm1"
    ),
    "lora_te_text_model_final_layer_norm": ("text_encoder", "final_layer_norm"),
}  # fmt: skip
# sd-scripts' SDXL has LDM's names.
SDXL_NORMS = {
    "lora_unet_input_blocks_1_0_in_layers_0": ("unet", "down_blocks.0.resnets.0.norm1"),
    "lora_unet_out_0": ("unet", "conv_norm_out"),
    "lora_te2_text_model_final_layer_norm": ("text_encoder_2", "final_layer_norm"),
}
QUERY = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
QUERY_PATH = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
FEED = "lora_unet_mid_block_attentions_0_transformer_blocks_0_ff_net_2"
FEED_PATH = "mid_block.attentions.0.transformer_blocks.0.ff.net.2"
CONV = "lora_unet_down_blocks_0_resnets_0_conv1"
CONV_PATH = "down_blocks.0.resnets.0.conv1"


def module_at(base: Path, part: str, path: str) -> nn.Module:
    model = loaded(base)
    root: nn.Module = model.denoiser if part == "unet" else model.text_encoders[part]
    return root.get_submodule(path)


def shaken(module: nn.Module, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.3, generator=generator)
    return module


def norms_file(path: Path, base: Path, norms: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """A file of lycoris' own modules; returns those, by key."""
    modules: dict[str, Any] = {}
    tensors: dict[str, Tensor] = {}
    for number, (key, place) in enumerate(norms.items()):
        modules[key] = shaken(NormModule(key, module_at(base, *place)), number)
        tensors |= {f"{key}.{name}": t.detach() for name, t in modules[key].state_dict().items()}
    assert len(tensors) == 2 * len(norms)
    save_file(tensors, path)
    return modules


@pytest.mark.slow
@pytest.mark.parametrize(("family", "norms"), [("sd1", NORMS), ("sdxl", SDXL_NORMS)])
def test_norms_are_baked_and_attached_as_lycoris_merges_them(
    tmp_path: Path, family: str, norms: dict[str, tuple[str, str]]
) -> None:
    base, lora, out = (
        base_file(family),
        tmp_path / "norms.safetensors",
        tmp_path / "out.safetensors",
    )
    theirs = norms_file(lora, base, norms)
    report = bake(base, [LoraSource(lora, 0.7, 0.4)], out)
    assert sum(report.loras[0].modules.values()) == len(norms)
    found, before = weights_of(out), weights_of(base)
    expected = dict(before)
    for key, (part, path) in norms.items():
        weight, bias = theirs[key].get_merged_weight(0.7 if part == "unet" else 0.4)
        expected |= {f"{part}.{path}.weight": weight, f"{part}.{path}.bias": bias}
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-6, atol=1e-6)
    assert sum(not torch.equal(found[name], before[name]) for name in found) == 2 * len(norms)

    model, baked = load_model(base), load_model(out)
    network = AdapterNetwork.load(load_file(lora), model.adapter_roots())
    assert network.report.unmatched == ()
    network.set_strength(0.7, 0.4)
    if family == "sdxl":
        return  # Its layers are found; what they do is the same code.
    captions = ["zorp, standing"]
    plain = model.encode_text(captions)
    with network.attached(), torch.no_grad():
        text = model.encode_text(captions)
        latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        steps = torch.tensor([500])
        drawn = model.denoise(latents, steps, text)
    with torch.no_grad():
        wanted_text = baked.encode_text(captions)
        wanted = baked.denoise(latents, steps, wanted_text)
        untouched = model.denoise(latents, steps, plain)
    torch.testing.assert_close(drawn, wanted, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(drawn, untouched, rtol=1e-2, atol=1e-2)


def test_norms_have_their_block_and_strength(tmp_path: Path) -> None:
    base, lora, out = base_file("sd1"), tmp_path / "norms.safetensors", tmp_path / "out.safetensors"
    theirs = norms_file(lora, base, NORMS)
    bake(base, [parse_source(f"{lora}:1:lbw=rest=0 M00=0.5")], out)
    found, before = weights_of(out), weights_of(base)
    changed = {name for name in found if not torch.equal(found[name], before[name])}
    middle = {place: key for key, place in NORMS.items() if "mid_block" in place[1]}
    assert changed == {f"{p}.{path}.{leaf}" for p, path in middle for leaf in ("weight", "bias")}
    for (part, path), key in middle.items():
        weight, _ = theirs[key].get_merged_weight(0.5)
        torch.testing.assert_close(found[f"{part}.{path}.weight"], weight)


@pytest.mark.slow
def test_norms_and_biases_are_merged_carried_and_converted(tmp_path: Path) -> None:
    base = base_file("sd1")
    norms_file(tmp_path / "a.safetensors", base, NORMS)
    first = load_file(tmp_path / "a.safetensors")
    generator = torch.Generator().manual_seed(9)
    first |= {
        f"{FEED}.lora_down.weight": torch.randn(3, 64, generator=generator),
        f"{FEED}.lora_up.weight": torch.randn(16, 3, generator=generator),
        f"{FEED}.diff_b": torch.randn(16, generator=generator),
    }
    save_file(first, tmp_path / "a.safetensors")
    second = {name: torch.randn(t.shape, generator=generator) for name, t in first.items()}
    save_file(second, tmp_path / "b.safetensors")
    sources = [
        LoraSource(tmp_path / "a.safetensors", 0.5, 0.25),
        LoraSource(tmp_path / "b.safetensors", -2.0, 1.0),
    ]
    vectors = {name for name in first if first[name].ndim == 1}
    report = merge(sources, tmp_path / "sum.safetensors")
    merged = load_file(tmp_path / "sum.safetensors")
    assert report.vectors == len(vectors) == 13
    for name in vectors:
        one, other = (0.25, 1.0) if name.startswith("lora_te") else (0.5, -2.0)
        torch.testing.assert_close(merged[name], one * first[name] + other * second[name])
    # What is baked of the sum is what is baked of both.
    bake(base, sources, tmp_path / "both.safetensors")
    bake(base, [LoraSource(tmp_path / "sum.safetensors")], tmp_path / "one.safetensors")
    both, one_by_one = (
        weights_of(tmp_path / "both.safetensors"),
        weights_of(tmp_path / "one.safetensors"),
    )
    for name, tensor in both.items():
        torch.testing.assert_close(one_by_one[name], tensor, rtol=1e-5, atol=1e-5)
    half = [LoraSource(s.path, 0.5) for s in sources]
    merge(half, tmp_path / "mean.safetensors", method="average")
    mean = load_file(tmp_path / "mean.safetensors")
    for name in vectors:
        torch.testing.assert_close(mean[name], (first[name] + second[name]) / 2)

    resized = resize(tmp_path / "a.safetensors", tmp_path / "r.safetensors", rank=1)
    small = load_file(tmp_path / "r.safetensors")
    assert resized.carried == len(vectors)
    assert resized.new_bytes == (tmp_path / "r.safetensors").stat().st_size
    assert all(torch.equal(small[name], first[name]) for name in vectors)
    assert small[f"{FEED}.lora_down.weight"].shape[0] == 1
    by_size = resize(tmp_path / "a.safetensors", tmp_path / "s.safetensors", size_mb=0.006)
    assert by_size.new_bytes == (tmp_path / "s.safetensors").stat().st_size <= 6000
    assert vectors < load_file(tmp_path / "s.safetensors").keys()

    convert(tmp_path / "a.safetensors", tmp_path / "c.safetensors", to="comfy")
    comfy = load_file(tmp_path / "c.safetensors")
    assert "diffusion_model.input_blocks.1.0.in_layers.0.w_norm" in comfy
    assert "text_encoders.clip_l.transformer.text_model.final_layer_norm.b_norm" in comfy
    bake(base, sources[:1], tmp_path / "ours.safetensors")
    bake(base, [LoraSource(tmp_path / "c.safetensors", 0.5, 0.25)], tmp_path / "comfys.safetensors")
    assert (tmp_path / "ours.safetensors").stat().st_size > 0
    ours, comfys = (
        weights_of(tmp_path / "ours.safetensors"),
        weights_of(tmp_path / "comfys.safetensors"),
    )
    assert all(torch.equal(ours[name], comfys[name]) for name in ours)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "path", "kind", "arguments"),
    [
        (QUERY, QUERY_PATH, GLoRAModule, {"lora_dim": 3, "alpha": 2.0}),
        (CONV, CONV_PATH, GLoRAModule, {"lora_dim": 3, "alpha": 2.0}),
        (QUERY, QUERY_PATH, FullModule, {}),
        (FEED, FEED_PATH, FullModule, {}),
        (CONV, CONV_PATH, FullModule, {}),
    ],
)
def test_types_that_are_only_read(
    tmp_path: Path, key: str, path: str, kind: type[Any], arguments: dict[str, Any]
) -> None:
    base = base_file("sd1")
    layer = load_model(base).denoiser.get_submodule(path)
    before = {name: p.detach().clone() for name, p in layer.named_parameters()}
    theirs = kind(key, layer, **arguments)
    if kind is FullModule:
        theirs.apply_to()
    shaken(theirs, 1)
    file = {
        f"{key}.{name}": tensor.detach().clone().contiguous()
        for name, tensor in theirs.custom_state_dict().items()
    }
    save_file(file, tmp_path / "a.safetensors")
    bake(base, [LoraSource(tmp_path / "a.safetensors", 0.6)], tmp_path / "out.safetensors")
    found = weights_of(tmp_path / "out.safetensors")
    change, bias = theirs.get_diff_weight(0.6)
    wanted = before["weight"] + change.detach()
    torch.testing.assert_close(found[f"unet.{path}.weight"], wanted, rtol=1e-5, atol=1e-5)
    if bias is not None:
        torch.testing.assert_close(found[f"unet.{path}.bias"], before["bias"] + bias.detach())
    model = load_model(base)
    network = AdapterNetwork.load(file, model.adapter_roots())
    network.set_strength(0.6)
    x = torch.randn(2, wanted.shape[1], *[5] * (wanted.ndim - 2))
    with torch.no_grad(), network.attached():
        got = model.denoiser.get_submodule(path)(x)
    with torch.no_grad():
        expected = load_model(tmp_path / "out.safetensors").denoiser.get_submodule(path)(x)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    if kind is GLoRAModule:
        with pytest.raises(LoraFileError, match="GLoRA multiplies"):
            merge([LoraSource(tmp_path / "a.safetensors")], tmp_path / "m.safetensors")


def test_glora_of_lycoris_first_versions(tmp_path: Path) -> None:
    """W' = W + b2 b1 + W a2 a1, told by the shapes."""
    base = base_file("sd1")
    weight = weights_of(base)[f"unet.{QUERY_PATH}.weight"].double()
    outputs, inputs = weight.shape
    draw = torch.Generator().manual_seed(0)
    shapes = {"a1": (2, inputs), "a2": (inputs, 2), "b1": (2, inputs), "b2": (outputs, 2)}
    own = {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}
    file = {f"{QUERY}.{name}.weight": tensor for name, tensor in own.items()}
    save_file({**file, f"{QUERY}.alpha": torch.tensor(1.0)}, tmp_path / "a.safetensors")
    bake(base, [LoraSource(tmp_path / "a.safetensors")], tmp_path / "out.safetensors")
    a1, a2, b1, b2 = (own[name].double() for name in ("a1", "a2", "b1", "b2"))
    wanted = weight + 0.5 * (b2 @ b1 + weight @ a2 @ a1)
    found = weights_of(tmp_path / "out.safetensors")[f"unet.{QUERY_PATH}.weight"]
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)


def test_oft_of_sd_scripts(tmp_path: Path) -> None:
    """Its names begin with ``oft_unet``, its constraint binds as lycoris' does."""
    base = base_file("sd1")
    layer = load_model(base).denoiser.get_submodule(QUERY_PATH)
    theirs = DiagOFTModule(QUERY, layer, lora_dim=4, constraint=0.01)
    shaken(theirs, 3)
    key = QUERY.replace("lora_unet", "oft_unet")
    file = {f"{key}.oft_blocks": theirs.oft_blocks.detach(), f"{key}.alpha": torch.tensor(0.01)}
    save_file(file, tmp_path / "a.safetensors")
    bake(base, [LoraSource(tmp_path / "a.safetensors", 0.5)], tmp_path / "out.safetensors")
    found = weights_of(tmp_path / "out.safetensors")[f"unet.{QUERY_PATH}.weight"]
    wanted, _ = theirs.get_merged_weight(0.5)
    torch.testing.assert_close(found, wanted.detach(), rtol=1e-5, atol=1e-6)
    convert(tmp_path / "a.safetensors", tmp_path / "k.safetensors")
    assert load_file(tmp_path / "k.safetensors").keys() == {f"{QUERY}.oft_blocks", f"{QUERY}.alpha"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("oft_R.weight", "OFT of peft and OneTrainer"),
        ("bias_values", "sparse biases"),
        ("set_weight", "a weight to be set"),
        ("scalar", "LyCORIS' first versions"),
        ("zorp.weight", "of no known type"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, said: str) -> None:
    save_file(
        {
            f"{QUERY}.{name}": torch.ones(2, 2),
            f"{QUERY}.alpha": torch.tensor(1.0),
            f"{FEED}.lora_up.weight": torch.ones(16, 1),
            f"{FEED}.lora_down.weight": torch.ones(1, 64),
        },
        tmp_path / "a.safetensors",
    )
    file, out = tmp_path / "a.safetensors", tmp_path / "o.safetensors"
    for tool in (
        lambda: bake(base_file("sd1"), [LoraSource(file)], out),
        lambda: merge([LoraSource(file)], out),
        lambda: resize(file, out, rank=1),
    ):
        with pytest.raises(LoraFileError, match=said):
            tool()
    report = inspect_lora(file)
    (unread,) = report.unread
    assert unread.startswith(QUERY)
    assert said in unread
    assert said in "\n".join(lora_lines(report))
    for reader in report.read_by:
        assert reader.reads != "yes"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("base_model.model.mid_block.attentions.0.proj_in.vera_lambda_b", "adapter of peft"),
        ("base_model.model.blocks.0.q.hra_u", "adapter of peft"),
    ],
)
def test_other_adapters_of_peft_are_no_checkpoints(tmp_path: Path, name: str, said: str) -> None:
    file = tmp_path / "a.safetensors"
    save_file({name: torch.ones(4)}, file)
    for tool in (
        lambda: inspect(file),
        lambda: bake(base_file("sd1"), [LoraSource(file)], tmp_path / "o.safetensors"),
        lambda: resize(file, tmp_path / "o.safetensors", rank=1),
    ):
        with pytest.raises(LoraFileError, match=said):
            tool()


def test_factors_of_peft_need_no_settings(tmp_path: Path) -> None:
    name = f"base_model.model.{QUERY_PATH}.ia3_l"
    save_file({name: torch.full((16, 1), 1.5)}, tmp_path / "a.safetensors")
    base = base_file("sd1")
    weight = weights_of(base)[f"unet.{QUERY_PATH}.weight"].float()
    bake(base, [LoraSource(tmp_path / "a.safetensors")], tmp_path / "o.safetensors")
    found = weights_of(tmp_path / "o.safetensors")[f"unet.{QUERY_PATH}.weight"]
    torch.testing.assert_close(found.float(), weight * 1.5)


@pytest.mark.slow
def test_norms_are_extracted(tmp_path: Path) -> None:
    """Base and LoRA with the norms are the tuned model's norms, to the file's precision."""
    base = base_file("sd1")
    norms_file(tmp_path / "norms.safetensors", base, NORMS)
    extra = random_lora(tmp_path / "lora.safetensors", base)
    tuned = tmp_path / "tuned.safetensors"
    bake(base, [LoraSource(tmp_path / "norms.safetensors"), LoraSource(extra)], tuned)
    out = tmp_path / "out.safetensors"
    report = extract(base, tuned, out, rank=3, precision="fp32", norms=True)
    assert report.norms == len(NORMS)
    assert "norms" not in report.outside
    assert "biases" not in report.outside
    assert (tmp_path / "out.safetensors").stat().st_size == report.size
    bake(base, [LoraSource(tmp_path / "out.safetensors")], tmp_path / "again.safetensors")
    found, wanted = weights_of(tmp_path / "again.safetensors"), weights_of(tuned)
    for part, path in NORMS.values():
        for leaf in ("weight", "bias"):
            name = f"{part}.{path}.{leaf}"
            torch.testing.assert_close(found[name], wanted[name], rtol=1e-6, atol=1e-6)
    out = tmp_path / "dry.safetensors"
    dry = extract(base, tuned, out, rank=3, precision="fp32", norms=True, dry_run=True)
    assert dry.size >= report.size
    without = extract(base, tuned, tmp_path / "no.safetensors", rank=3)
    assert without.outside["norms"] == len(NORMS)


@pytest.mark.parametrize(
    "tensors",
    [
        {"oft_blocks": torch.ones(2, 4, 4)},
        {"weight": torch.ones(8), "on_input": torch.tensor(0)},
        {"a1.weight": torch.ones(8, 2), "a2.weight": torch.ones(2, 8),
         "b1.weight": torch.ones(8, 2), "b2.weight": torch.ones(2, 8)},
    ],
)  # fmt: skip
def test_types_that_need_the_model_are_sent_to_bake(
    tmp_path: Path, tensors: dict[str, Tensor]
) -> None:
    file = tmp_path / "l.safetensors"
    save_file({f"{QUERY}.{name}": tensor for name, tensor in tensors.items()}, file)
    for tool in (
        lambda: resize(file, tmp_path / "r.safetensors", rank=1),
        lambda: merge([LoraSource(file)], tmp_path / "m.safetensors"),
    ):
        with pytest.raises(LoraFileError, match="or bake it into the model and extract a LoRA"):
            tool()
