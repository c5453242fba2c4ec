"""LoRA files of every style and every fault."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.lora_tools.changes import LAYERS, lora_module, lora_tensors, made_by, write

from lorasmith.core.errors import LoraFileError
from lorasmith.lora_tools.linalg.factorize import low_rank_part
from lorasmith.lora_tools.lora_file import DOWN, UP, as_module, read_modules

KEY = "lora_unet_mid_block_attentions_0_proj_in"


def test_ranks_and_alphas(tmp_path: Path) -> None:
    tensors = lora_tensors(LAYERS, 4, alpha=2.0)
    del tensors[f"{next(iter(LAYERS))}.alpha"]
    tensors["bundle_emb.cat.string_to_param.*"] = torch.zeros(3)
    found = read_modules(write(tmp_path / "a.safetensors", tensors, {"ss_network_dim": "4"}))
    assert found.unmatched == ()
    assert found.words.keys() == {"cat"}
    assert found.words["cat"].keys() == {"bundle_emb.cat.string_to_param.*"}
    assert found.metadata == {"ss_network_dim": "4"}
    assert {module.key for module in found.modules.values()} == set(LAYERS)
    alphas = {key: module.alpha for key, module in found.modules.items()}
    assert alphas == dict.fromkeys(LAYERS, 2.0) | {next(iter(LAYERS)): 4.0}
    assert {module.block for module in found.modules.values()} == {"IN01", "M00", "OUT09", "BASE"}


@pytest.mark.parametrize(
    ("kind", "rank", "scale"),
    [("lora", 4, 0.5), ("dora", 4, 0.5), ("loha", 4, 0.5), ("lokr", 4, 0.5), ("ia3", 1, 1.0)],
)
def test_types(tmp_path: Path, kind: str, rank: int, scale: float) -> None:
    tensors = {f"{KEY}.{n}": t for n, t in made_by(kind, (48, 40), factor=2).items()}
    module = read_modules(write(tmp_path / "a.safetensors", tensors)).modules[KEY]
    assert (module.algorithm, module.rank, module.scale) == (kind, rank, scale)
    assert module.decomposed == (kind == "dora")


def test_lengths_of_peft_are_of_outputs_whatever_their_shape(tmp_path: Path) -> None:
    """(1, O, 1, 1) of a square convolution would be a length for each input elsewhere."""
    path = "unet.down_blocks.0.resnets.0.conv1"
    tensors = {
        f"{path}.lora_A.weight": torch.ones(2, 320, 3, 3),
        f"{path}.lora_B.weight": torch.ones(320, 2, 1, 1),
        f"{path}.lora_magnitude_vector": torch.arange(320.0).view(1, 320, 1, 1),
    }
    ((_, module),) = read_modules(write(tmp_path / "a.safetensors", tensors)).modules.items()
    assert module.tensors["dora_scale"].shape == (320, 1, 1, 1)
    assert not module.decomposed_by_input
    inputs = {f"{KEY}.{n}": t for n, t in made_by("dora", (48, 48)).items()}
    assert read_modules(write(tmp_path / "b.safetensors", inputs)).modules[KEY].decomposed_by_input


LONG = {
    "unet.down_blocks.1.attentions.0.proj_in.lora_A.weight":
        "lora_unet_down_blocks_1_attentions_0_proj_in",
    "unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora.down.weight":
        "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_out_0",
    "text_encoder.text_model.encoder.layers.0.mlp.fc1.lora_linear_layer.down.weight":
        "lora_te_text_model_encoder_layers_0_mlp_fc1",
    "text_encoder.encoder.layers.0.mlp.fc1.lora_A.weight":
        "lora_te_text_model_encoder_layers_0_mlp_fc1",
    "diffusion_model.input_blocks.1.1.proj_in.lora_down.weight":
        "lora_unet_down_blocks_0_attentions_0_proj_in",
    "diffusion_model.output_blocks.11.0.in_layers.2.lora_down.weight":
        "lora_unet_up_blocks_3_resnets_2_conv1",
    "lycoris_mid_block_attentions_0_proj_out.lora_down.weight":
        "lora_unet_mid_block_attentions_0_proj_out",
}  # fmt: skip
SDXL_LONG = {
    "unet.up_blocks.0.attentions.1.transformer_blocks.7.ff.net.2.lora_A.weight":
        "lora_unet_output_blocks_1_1_transformer_blocks_7_ff_net_2",
    "unet.down_blocks.2.attentions.0.proj_in.lora_A.weight":
        "lora_unet_input_blocks_7_1_proj_in",
    "text_encoder.text_model.encoder.layers.0.mlp.fc1.lora_A.weight":
        "lora_te1_text_model_encoder_layers_0_mlp_fc1",
    "text_encoder_2.text_model.encoder.layers.31.mlp.fc1.lora_A.weight":
        "lora_te2_text_model_encoder_layers_31_mlp_fc1",
    "diffusion_model.middle_block.1.proj_in.lora_A.weight":
        "lora_unet_middle_block_1_proj_in",
}  # fmt: skip


@pytest.mark.parametrize(("names", "sdxl"), [(LONG, False), (SDXL_LONG, True)])
def test_names_of_other_styles(tmp_path: Path, names: dict[str, str], sdxl: bool) -> None:
    pairs = dict(zip(names.values(), names, strict=True))  # one name for each layer
    tensors = {}
    for down in pairs.values():
        up = down.replace("lora_A", "lora_B").replace("down.weight", "up.weight")
        tensors |= {down: torch.ones(2, 5), up: torch.ones(6, 2)}
    found = read_modules(write(tmp_path / "a.safetensors", tensors))
    assert set(found.modules) == set(pairs)
    assert found.sdxl == sdxl


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({f"{KEY}.{UP}": None}, "lora_down.weight without lora_up.weight"),
        ({f"{KEY}.{DOWN}": None}, "lora_up.weight without lora_down.weight"),
        ({f"{KEY}.{UP}": torch.ones(9, 3)}, "do not fit each other"),
        ({f"{KEY}.{UP}": torch.ones(9)}, "do not fit each other"),
        ({f"{KEY}.alpha": torch.ones(3)}, "alpha is"),
        ({f"{KEY}.lora_mid.weight": torch.ones(3, 4, 3, 3)}, "do not fit each other"),
    ],
)
def test_malformed_modules(
    tmp_path: Path, change: dict[str, torch.Tensor | None], said: str
) -> None:
    own = lora_module((8, 6), 4, 0)
    tensors = {**lora_tensors(LAYERS, 2), **{f"{KEY}.{n}": t for n, t in own.items()}, **change}
    path = write(tmp_path / "a.safetensors", {n: t for n, t in tensors.items() if t is not None})
    with pytest.raises(LoraFileError, match=said) as caught:
        read_modules(path)
    assert KEY in str(caught.value)
    lenient = read_modules(path, strict=False)
    assert set(lenient.modules) == set(LAYERS)
    assert len(lenient.problems) == 1


@settings(max_examples=60, deadline=None)
@given(
    algorithm=st.sampled_from(["lora", "dora", "loha", "lokr", "ia3", "oft"]),
    conv=st.booleans(),
    tucker=st.booleans(),
    data=st.data(),
)
def test_any_shape_is_read_or_refused(
    algorithm: str, conv: bool, tucker: bool, data: st.DataObject
) -> None:
    """A tensor of another shape than it should have is a ValueError, or does no harm."""
    shape = (12, 8, 3, 3) if conv else (12, 8)
    tensors = made_by(algorithm, shape, 2, tucker=tucker, factor=2)
    name = data.draw(st.sampled_from(sorted(tensors)))
    tensors[name] = torch.ones(data.draw(st.lists(st.integers(0, 4), max_size=4)))
    try:
        change = low_rank_part(as_module(KEY, tensors))
        up, down = change.decompose().factors(1)
    except ValueError:
        return
    assert (up.shape[0], down.shape[1]) == change.shape


def header(entries: dict[str, object], data: bytes = b"") -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(shape: list[int], begin: int, end: int) -> dict[str, object]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}


DAMAGED = {
    "cut short": lambda whole: whole[: len(whole) // 2],
    "header cut": lambda whole: whole[:40],
    "claims more": lambda _: header({f"{KEY}.{UP}": entry([10**9], 0, 4 * 10**9)}, b"x" * 64),
    "overlap": lambda _: header(
        {f"{KEY}.{UP}": entry([4, 4], 0, 64), f"{KEY}.{DOWN}": entry([4, 4], 32, 96)}, b"x" * 96
    ),
    "negative": lambda _: header({f"{KEY}.{UP}": entry([4, 4], -64, 0)}, b"x" * 64),
    "not json": lambda _: struct.pack("<Q", 4) + b"{]]}" + b"x" * 64,
    "empty": lambda _: b"",
}


@pytest.mark.parametrize("how", DAMAGED)
def test_damaged_files(tmp_path: Path, how: str) -> None:
    path = write(tmp_path / "a.safetensors", lora_tensors(LAYERS, 2))
    path.write_bytes(DAMAGED[how](path.read_bytes()))
    with pytest.raises(LoraFileError):
        read_modules(path)
