"""Who reads a file; of diffusers, what it does when it is tried."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from tests.pipelines import pipeline_of
from tests.tiny_models import tiny_model

from lorasmith.adapters.file import save_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.adapters.options import AdapterOptions
from lorasmith.lora_tools.inspect import inspect_lora
from lorasmith.lora_tools.readers import readers


def read_by(style: str, types: tuple[str, ...] = ("lora",)) -> dict[str, str]:
    return {each.program: each.reads for each in readers(style, types)}


def test_kohyas_names_are_read_everywhere_and_others_are_not() -> None:
    assert set(read_by("kohya").values()) == {"yes"}
    assert read_by("comfy")["ComfyUI"] == "yes"
    assert read_by("comfy")["AUTOMATIC1111"] == read_by("comfy")["diffusers"] == "no"
    assert read_by("diffusers")["diffusers"] == "yes"
    assert set(read_by("cloneofsimo").values()) == set(read_by("peft").values()) == {"no"}


def test_types_are_read_where_they_are_known() -> None:
    assert read_by("kohya", ("ia3",)) == {
        "AUTOMATIC1111": "yes", "Forge": "no", "ComfyUI": "no", "diffusers": "no",
    }  # fmt: skip
    assert read_by("kohya", ("lora", "loha"))["diffusers"] == "partly"
    boft = {each.program: each.why for each in readers("kohya", ("boft",))}
    assert boft["AUTOMATIC1111"] == "boft since 1.9"


@pytest.mark.parametrize("kind", ["loha", "tucker", "dora", "unknown name", "comfy"])
def test_diffusers_does_what_is_said_of_it(tmp_path, kind) -> None:
    model = tiny_model()
    algorithm = {"loha": "loha", "dora": "dora", "tucker": "locon"}.get(kind, "lora")
    options = AdapterOptions(tucker=True) if kind == "tucker" else AdapterOptions()
    network = AdapterNetwork.create(
        model.adapter_roots(), algorithm=algorithm, rank=2, conv_rank=2, options=options
    )
    tensors = network.state_dict()
    if kind == "unknown name":
        tensors["bundle_emb.zorp.string_to_param.*"] = torch.ones(2)
    if kind == "comfy":
        tensors = {
            name.replace("lora_unet_", "diffusion_model."): tensor
            for name, tensor in tensors.items()
            if name.startswith("lora_unet_mid_block_attentions_0_proj_in.")
        }
        tensors = {name.replace("mid_block_attentions_0_", "middle_block.1."): tensor
                   for name, tensor in tensors.items()}  # fmt: skip
    path = tmp_path / "lora.safetensors"
    if kind == "comfy":
        save_file(tensors, path)
    else:
        save_lora(path, tensors, {})
    said = next(each for each in inspect_lora(path).read_by if each.program == "diffusers")
    pipeline = pipeline_of(model)
    failed = False
    try:
        pipeline.load_lora_weights(tmp_path, weight_name=path.name)
    except (ValueError, KeyError):
        failed = True
    adapted = dict(getattr(pipeline.unet, "peft_config", {}))
    pipeline.unload_lora_weights()
    if said.reads == "no":
        assert failed or not adapted
    else:
        assert adapted
        # DoRA's lengths are left out: an ordinary LoRA is what it makes of the file.
        (config,) = adapted.values()
        assert (said.reads == "partly") == (kind == "dora" and not config.use_dora)
