"""``convert`` of LoRA files: there and back, and what diffusers makes of the result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.training_utils import _collate_lora_metadata
from peft import LoraConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests.pipelines import pipeline_of
from tests.tiny_models import tiny_architecture, tiny_model
from tests.unit.lora_tools.changes import made_by
from tests.unit.lora_tools.made_files import METADATA, kohya_file, kohya_tensors
from torch import Tensor

from lorasmith.adapters.base import AdapterOptions
from lorasmith.adapters.file import file_hashes, load_lora, save_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.core.errors import LoraFileError, Stopped, UserError
from lorasmith.core.events import Controls
from lorasmith.formats.key_styles import style_of
from lorasmith.lora_tools.convert.convert import convert
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.tensors.files import as_bytes

FAMILIES = ("sd1", "sd2", "sdxl")


def header_of(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return dict(file.metadata() or {})


@pytest.mark.slow_but_first
@pytest.mark.parametrize("to", ["comfy", "diffusers", "kohya-diffusers"])
@pytest.mark.parametrize("family", FAMILIES)
def test_there_and_back_is_the_same_file(tmp_path, family, to) -> None:
    groups = ("feed-forward", "projections", "convolutions")
    first = kohya_file(tmp_path / "first.safetensors", family, groups=groups)
    there, back = tmp_path / "there.safetensors", tmp_path / "back.safetensors"
    assert convert(first, there, to=to).before == "kohya"
    same_names = to == "kohya-diffusers" and family != "sdxl"
    assert style_of(load_file(there)) == ("kohya" if same_names else to)
    assert convert(there, back, to="kohya").exact
    assert back.read_bytes() == first.read_bytes()


def test_a_long_way_round_is_the_same_file_too(tmp_path) -> None:
    first = kohya_file(tmp_path / "0.safetensors", "sdxl", blocks="block_1")
    for number, to in enumerate(("comfy", "diffusers", "kohya-diffusers", "kohya")):
        convert(tmp_path / f"{number}.safetensors", tmp_path / f"{number + 1}.safetensors", to=to)
    assert (tmp_path / "4.safetensors").read_bytes() == first.read_bytes()


def test_what_was_edited_on_the_way_is_kept(tmp_path) -> None:
    first = kohya_file(tmp_path / "first.safetensors", blocks="mid_block")
    there = tmp_path / "there.safetensors"
    convert(first, there, to="comfy")
    edited = {**header_of(there), "modelspec.title": "another"}
    save_file(load_file(there), there, edited)
    done = convert(there, tmp_path / "back.safetensors", to="kohya")
    assert not done.exact
    assert header_of(done.out)["modelspec.title"] == "another"
    tensors = load_file(there)
    tensors[next(iter(tensors))] += 1
    save_file(tensors, there, edited)
    convert(there, tmp_path / "changed.safetensors", to="kohya")
    changed, before = load_file(tmp_path / "changed.safetensors"), load_file(first)
    assert changed.keys() == before.keys()
    assert sum(not torch.equal(changed[name], before[name]) for name in before) == 1


def test_numbers_names_and_metadata_of_a_conversion(tmp_path) -> None:
    first = kohya_file(tmp_path / "first.safetensors", blocks="mid_block_attentions_0_proj")
    convert(first, tmp_path / "comfy.safetensors", to="comfy")
    old, new = load_file(first), load_file(tmp_path / "comfy.safetensors")
    module = "lora_unet_mid_block_attentions_0_proj_in"
    for tensor in ("lora_down.weight", "lora_up.weight", "alpha"):
        there = new[f"diffusion_model.middle_block.1.proj_in.{tensor}"]
        assert torch.equal(there, old[f"{module}.{tensor}"])
    metadata = header_of(tmp_path / "comfy.safetensors")
    assert METADATA.items() <= metadata.items()
    # kohya's hashes are of the tensors as they now lie in the file.
    assert file_hashes(as_bytes(new), metadata).items() <= metadata.items()


@pytest.mark.parametrize("suffix", [".pt", ".ckpt"])
def test_a_pickle_becomes_safetensors(tmp_path, suffix) -> None:
    tensors = kohya_tensors(blocks="mid_block")
    torch.save({"state_dict": tensors}, tmp_path / f"lora{suffix}")
    done = convert(tmp_path / f"lora{suffix}", tmp_path / "out.safetensors")
    assert (done.after, done.exact) == ("kohya", False)
    found = load_file(done.out)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


def test_precision_spares_what_the_strength_hangs_on(tmp_path) -> None:
    tensors = kohya_tensors(blocks="mid_block", dtype=torch.float32, alpha=0.3)
    save_file(tensors, tmp_path / "a.safetensors")
    convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", precision="bf16")
    for name, tensor in load_file(tmp_path / "b.safetensors").items():
        wanted = torch.float32 if name.endswith("alpha") else torch.bfloat16
        assert torch.equal(tensor, tensors[name].to(wanted))
        assert tensor.dtype == wanted
    name = next(name for name in tensors if "lora_up" in name)
    tensors[name][0] = 1e6
    save_file(tensors, tmp_path / "large.safetensors")
    with pytest.raises(UserError, match=r"1e\+06 is beyond float16.*choose bf16"):
        convert(tmp_path / "large.safetensors", tmp_path / "c.safetensors", precision="fp16")
    assert not (tmp_path / "c.safetensors").exists()


def test_lycoris_types_keep_their_tensors_in_comfys_names(tmp_path) -> None:
    tensors = {}
    key = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
    for name, shape in {
        "hada_w1_a": (8, 2), "hada_w1_b": (2, 768), "hada_w2_a": (8, 2), "hada_w2_b": (2, 768),
        "alpha": (),
    }.items():  # fmt: skip
        tensors[f"{key}.{name}"] = torch.randn(shape)
    save_file(tensors, tmp_path / "loha.safetensors")
    convert(tmp_path / "loha.safetensors", tmp_path / "comfy.safetensors", to="comfy")
    path = "diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k"
    found = load_file(tmp_path / "comfy.safetensors")
    assert found.keys() == {name.replace(key, path) for name in tensors}
    rotated = {"lora_unet_mid_block_attentions_0_proj_in.oft_blocks": torch.ones(2, 5, 5)}
    save_file(rotated, tmp_path / "oft.safetensors")
    with pytest.raises(UserError, match=r"diffusers has no name .*\(oft\) \(choose kohya or comfy"):
        convert(tmp_path / "oft.safetensors", tmp_path / "no.safetensors", to="diffusers")
    with pytest.raises(UserError, match=r"diffusers has no name for .*hada_w1_a.*loha"):
        convert(tmp_path / "loha.safetensors", tmp_path / "d.safetensors", to="diffusers")


def test_other_families_and_unknown_names_are_told(tmp_path) -> None:
    flux = {
        "lora_unet_double_blocks_0_img_attn_proj.lora_down.weight": torch.ones(2, 8),
        "lora_unet_double_blocks_0_img_attn_proj.lora_up.weight": torch.ones(8, 2),
    }
    save_file(flux, tmp_path / "flux.safetensors")
    with pytest.raises(UserError, match="is for Flux"):
        convert(tmp_path / "flux.safetensors", tmp_path / "a.safetensors", to="comfy")
    bundled = {**kohya_tensors(blocks="mid_block"), "bundle_emb.zorp.string_to_param.*": flux[
        "lora_unet_double_blocks_0_img_attn_proj.lora_up.weight"
    ]}  # fmt: skip
    save_file(bundled, tmp_path / "bundle.safetensors")
    done = convert(tmp_path / "bundle.safetensors", tmp_path / "b.safetensors", to="comfy")
    assert "1 tensors belong to no layer and keep their names: bundle_emb" in done.notes[0]
    assert "bundle_emb.zorp.string_to_param.*" in load_file(done.out)
    convert(done.out, tmp_path / "back.safetensors", to="kohya")
    assert (tmp_path / "back.safetensors").read_bytes() == (
        tmp_path / "bundle.safetensors"
    ).read_bytes()


def sized_model(family: str) -> DiffusionModel:
    """Of the family's own levels and blocks, so that files name its layers as the family's."""
    return tiny_model(
        architecture=tiny_architecture(family=family, layers=2 if family == "sdxl" else 1)
    )


def trained(model: DiffusionModel, **options: Any) -> AdapterNetwork:
    network = AdapterNetwork.create(
        model.adapter_roots(), rank=3, alpha=2.0, conv_rank=2, conv_alpha=5.0, **options
    )
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for adapter in network.adapters.values():
            for name, p in adapter.named_parameters():
                noise = torch.randn(p.shape, generator=generator)
                p.copy_(p * (1 + 0.1 * noise) if name == "dora_scale" else 0.2 * noise)
    return network


def merged_by_diffusers(model: DiffusionModel, network: AdapterNetwork, path: Path) -> None:
    """Load ``path`` into diffusers' pipeline; every layer is adapted, and of a fifth of them, the
    merged weights are compared."""
    ours = {
        key: network.adapters[key].merged_weight(network.targets[key].layer).detach()
        for key in list(network.adapters)[::5]
    }
    pipeline = pipeline_of(model)
    pipeline.load_lora_weights(path.parent, weight_name=path.name)
    encoders = {"unet": pipeline.unet, "text_encoder": pipeline.text_encoder}
    encoders["text_encoder_2"] = getattr(pipeline, "text_encoder_2", None)
    try:
        layers = {
            (part, name.removeprefix("text_model.")): layer
            for part, module in encoders.items()
            if module is not None
            for name, layer in module.named_modules()
        }
        for key, target in network.targets.items():
            layer = layers[target.root.folder or target.part, target.path]
            assert isinstance(layer, BaseTunerLayer), f"diffusers leaves out {key}"
            if key not in ours:
                continue
            layer.merge()
            merged: Tensor = layer.get_base_layer().weight
            assert torch.allclose(merged, ours[key], atol=2e-5), key
            layer.unmerge()
    finally:
        pipeline.unload_lora_weights()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "algorithm"), [("sd1", "c3lier"), ("sd1", "dora"), ("sdxl", "lora")]
)
def test_diffusers_merges_what_we_merge(tmp_path, family, algorithm) -> None:
    """Ranks and alphas differ between the layers, and alpha is not the rank."""
    model = sized_model(family)
    options = AdapterOptions(decompose_on_output=True, weight_decompose=algorithm == "dora")
    network = trained(model, algorithm=algorithm, options=options)
    kohya = tmp_path / "kohya.safetensors"
    save_lora(kohya, network.state_dict(), {})
    path = tmp_path / "diffusers.safetensors"
    convert(kohya, path, to="diffusers")
    merged_by_diffusers(model, network, path)
    # Without the first file to go back to.
    stripped = {k: v for k, v in header_of(path).items() if k != "lorasmith.original"}
    save_file(load_file(path), path, stripped)
    done = convert(path, tmp_path / "again.safetensors", to="kohya")
    assert not done.exact
    again = load_lora(done.out).tensors
    before = network.state_dict()
    assert again.keys() == before.keys()
    for name, tensor in before.items():
        assert again[name].shape == tensor.shape, name
        assert torch.equal(again[name].float(), tensor.float()), name


@pytest.mark.slow
def test_names_are_those_that_diffusers_itself_writes(tmp_path) -> None:
    model = sized_model("sd1")
    network = trained(model)
    kohya = tmp_path / "kohya.safetensors"
    save_lora(kohya, network.state_dict(), {})
    convert(kohya, tmp_path / "ours.safetensors", to="diffusers")
    pipeline = pipeline_of(model)
    pipeline.load_lora_weights(tmp_path, weight_name="ours.safetensors", adapter_name="default")
    pipeline.save_lora_weights(
        tmp_path,
        unet_lora_layers=get_peft_model_state_dict(pipeline.unet),
        weight_name="theirs.safetensors",
        **_collate_lora_metadata({"unet": pipeline.unet}),
    )
    pipeline.unload_lora_weights()
    ours, theirs = (load_file(tmp_path / f"{name}.safetensors") for name in ("ours", "theirs"))
    unet = {name: tensor for name, tensor in ours.items() if name.startswith("unet.")}
    assert theirs.keys() == unet.keys()
    assert all(torch.equal(theirs[name], unet[name]) for name in unet)
    # And theirs becomes kohya's, alphas from the settings in its header.
    done = convert(tmp_path / "theirs.safetensors", tmp_path / "back.safetensors", to="kohya")
    back, before = load_file(done.out), load_file(kohya)
    assert back.keys() == {name for name in before if name.startswith("lora_unet")}
    assert all(torch.equal(back[name].float(), before[name].float()) for name in back)


def test_diffusers_oldest_names(tmp_path) -> None:
    key = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_"
    path = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.processor.to_"
    old, wanted = {}, {}
    for name, ours in {"q": "q", "k": "k", "v": "v", "out": "out_0"}.items():
        for side, shape in {"down": (2, 768), "up": (8, 2)}.items():
            tensor = torch.randn(shape)
            old[f"unet.{path}{name}_lora.{side}.weight"] = tensor
            wanted[f"{key}{ours}.lora_{side}.weight"] = tensor
    save_file(old, tmp_path / "old.safetensors")
    done = convert(tmp_path / "old.safetensors", tmp_path / "kohya.safetensors")
    found = load_file(done.out)
    assert (done.before, found.keys()) == ("diffusers-old", wanted.keys())
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    convert(done.out, tmp_path / "new.safetensors", to="diffusers")
    settings = json.loads(header_of(tmp_path / "new.safetensors")["lora_adapter_metadata"])
    assert (settings["unet.r"], settings["unet.lora_alpha"]) == (2, 2)


def test_pefts_own_files_take_their_scale_from_beside_them(tmp_path) -> None:
    """peft saves alphas nowhere but in ``adapter_config.json``."""
    unet = sized_model("sd1").denoiser
    config = LoraConfig(
        r=3, lora_alpha=5, use_rslora=True, target_modules=["to_k"], init_lora_weights=False
    )
    peft = get_peft_model(unet, config)
    layer = "mid_block.attentions.0.transformer_blocks.0.attn1.to_k"
    change = peft.base_model.model.get_submodule(layer).get_delta_weight("default").detach()
    peft.save_pretrained(tmp_path)
    done = convert(tmp_path / "adapter_model.safetensors", tmp_path / "kohya.safetensors")
    found = load_file(done.out)
    key = f"lora_unet_{layer.replace('.', '_')}"
    down, up, alpha = (found[f"{key}.{n}"] for n in ("lora_down.weight", "lora_up.weight", "alpha"))
    assert torch.allclose(up @ down * alpha / len(down), change, atol=1e-6)
    assert float(alpha) == pytest.approx(5 * 3**0.5)


@pytest.mark.slow
def test_a_dora_of_lycoris_keeps_its_lengths(tmp_path) -> None:
    model = sized_model("sd1")
    options = AdapterOptions(weight_decompose=True, decompose_on_output=True)
    network = trained(model, algorithm="locon", options=options)
    save_lora(tmp_path / "a.safetensors", network.state_dict(), {})
    convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", to="diffusers")
    lengths = [n for n in load_file(tmp_path / "b.safetensors") if "lora_magnitude_vector" in n]
    assert len(lengths) == len(network.adapters)


def test_lengths_of_inputs_stay_what_they_are_or_are_refused(tmp_path) -> None:
    """Of square layers too, where lengths of either side fit in number."""
    block = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0"
    shapes = {
        f"{block}_attn1_to_q": (320, 320),
        f"{block}_attn2_to_k": (320, 768),
        "lora_unet_down_blocks_0_resnets_0_conv1": (320, 320, 3, 3),
    }
    tensors = {
        f"{key}.{name}": tensor
        for key, shape in shapes.items()
        for name, tensor in made_by("dora", shape, 2).items()
    }
    save_lora(tmp_path / "a.safetensors", tensors, {})
    with pytest.raises(LoraFileError, match="lengths are of the layer's inputs"):
        convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", to="diffusers")
    comfy = convert(tmp_path / "a.safetensors", tmp_path / "comfy.safetensors", to="comfy").out
    stripped = {k: v for k, v in header_of(comfy).items() if k != "lorasmith.original"}
    save_file(load_file(comfy), comfy, stripped)
    again = load_file(convert(comfy, tmp_path / "again.safetensors", to="kohya").out)
    for key, (_, inputs, *kernel) in shapes.items():
        found = again[f"{key}.dora_scale"]
        assert found.shape == (1, inputs, *(1 for _ in kernel))
        assert torch.equal(found, tensors[f"{key}.dora_scale"])


def test_outputs_are_never_overwritten(tmp_path) -> None:
    first = kohya_file(tmp_path / "first.safetensors", blocks="mid_block")
    before = first.read_bytes()
    (tmp_path / "there.safetensors").write_bytes(b"mine")
    for out, said in {
        first: "is one of the inputs",
        tmp_path / "there.safetensors": "exists already",
        tmp_path / "there.pt": "does not end in .safetensors",
    }.items():
        with pytest.raises(UserError, match=said):
            convert(first, out, to="comfy")
    assert first.read_bytes() == before
    assert (tmp_path / "there.safetensors").read_bytes() == b"mine"


def test_stopped_before_it_is_written(tmp_path) -> None:
    path = kohya_file(tmp_path / "lora.safetensors", blocks="mid_block")
    controls = Controls()
    controls.stop()
    with pytest.raises(Stopped):
        convert(path, tmp_path / "out.safetensors", to="comfy", controls=controls)
    assert list(tmp_path.iterdir()) == [path]


def test_blocks_that_are_numbered_otherwise_than_sdxl_s_are_not_renamed(tmp_path) -> None:
    """With one layer a level, input_blocks_3 is a transformer, and not what SDXL's table says."""
    model = tiny_model(architecture=tiny_architecture(family="sdxl", layers=1))
    network = AdapterNetwork.create(model.adapter_roots(), rank=2)
    save_file(network.state_dict(), tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="no other names are known for it"):
        convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", to="diffusers")
