"""Who reads a file; of diffusers, what it does when it is tried."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lycoris.kohya import create_network_from_weights
from safetensors.torch import save_file
from tests.pipelines import pipeline_of
from tests.tiny_models import tiny_model
from tests.unit.lora_tools.changes import made_by
from torch import nn

from lorasmith.adapters.base import AdapterOptions
from lorasmith.adapters.file import save_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.lora_tools.convert.convert import convert
from lorasmith.lora_tools.inspect.compatibility import FORMS as TITLES
from lorasmith.lora_tools.inspect.compatibility import READERS, VERDICTS, form_of, readers
from lorasmith.lora_tools.inspect.inspect import inspect_lora
from lorasmith.lora_tools.inspect.report import LoraReport
from lorasmith.lora_tools.lora_file import as_module

LINEAR, CONV = (64, 48), (64, 48, 3, 3)


def read_by(style: str, forms: tuple[str, ...] = ("lora",)) -> dict[str, str]:
    return {each.program: each.reads for each in readers(style, forms)}


def test_kohyas_names_are_read_everywhere_and_others_are_not() -> None:
    assert set(read_by("kohya").values()) == {"yes"}
    assert read_by("comfy")["ComfyUI"] == "yes"
    assert read_by("comfy")["AUTOMATIC1111"] == read_by("comfy")["diffusers"] == "no"
    assert read_by("diffusers")["diffusers"] == "yes"
    assert set(read_by("cloneofsimo").values()) == set(read_by("peft").values()) == {"no"}


def test_a_file_is_read_as_its_forms_are() -> None:
    """As ComfyUI a125cd84, Forge dfdcbab6 and AUTOMATIC1111 1.10.1 did with such files."""
    web_uis = ("AUTOMATIC1111", "Forge", "ComfyUI")
    wanted = {
        ("ia3 out",): ("yes", "no", "no"),
        ("lora dora in",): ("yes", "yes", "yes"),
        ("lora dora out",): ("wrong", "wrong", "wrong"),
        ("lokr tucker",): ("yes", "no", "no"),
        ("lora", "lokr tucker"): ("yes", "partly", "partly"),
        ("lora", "lora dora out"): ("wrong", "wrong", "wrong"),
        ("glora",): ("untried", "untried", "untried"),
    }
    for forms, reads in wanted.items():
        found = read_by("kohya", forms)
        assert tuple(found[program] for program in web_uis) == reads, forms
    assert read_by("kohya", ("lora", "loha"))["diffusers"] == "no"
    assert read_by("kohya", ("lora dora out",))["diffusers"] == "wrong"
    assert read_by("diffusers", ("lora dora out",))["diffusers"] == "yes"


def test_one_text_encoder_called_the_first_is_left_out_by_those_that_call_it_otherwise(
    tmp_path: Path,
) -> None:
    """lycoris-lora is run; sd-scripts 48d368f has the same two beginnings for its modules."""
    key = "text_model_encoder_layers_0_self_attn_q_proj"
    shapes = {"lora_down.weight": (4, 768), "lora_up.weight": (768, 4)}
    unet = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
    tensors = {f"lora_te1_{key}.{name}": torch.ones(shape) for name, shape in shapes.items()}
    tensors |= {
        f"{unet}.lora_down.weight": torch.ones(4, 768),
        f"{unet}.lora_up.weight": torch.ones(640, 4),
        f"lora_te1_{key}.alpha": torch.tensor(4.0),
    }
    said = {each.program: each.reads for each in inspected(tmp_path, tensors).read_by}
    partly = {program for program, reads in said.items() if reads != "yes"}
    assert partly == {"sd-scripts", "lycoris-lora"}

    encoder = nn.Module()
    encoder.text_model = nn.Module()
    encoder.text_model.encoder = nn.Module()
    layer = nn.Module()
    layer.self_attn = nn.Module()
    layer.self_attn.q_proj = nn.Linear(768, 768)
    encoder.text_model.encoder.layers = nn.ModuleList([layer])
    one = {name.replace("lora_te1_", "lora_te_"): tensor for name, tensor in tensors.items()}
    for file, count in ((tensors, 0), (one, 1)):
        network, _ = create_network_from_weights(
            1.0, None, None, encoder, nn.Module(), weights_sd=dict(file)
        )
        assert len(network.text_encoder_loras) == count
    assert {each.reads for each in inspected(tmp_path, one).read_by} == {"yes"}


def inspected(folder: Path, tensors: dict[str, torch.Tensor]) -> LoraReport:
    path = folder / "a.safetensors"
    save_file(tensors, path)
    return inspect_lora(path)


FORMS = {
    "lora": ("lora", LINEAR, {}),
    "lora tucker": ("locon", CONV, {"tucker": True}),
    "lora dora in": ("dora", LINEAR, {}),
    "lora dora out": ("dora", CONV, {"decompose_on_output": True}),
    "loha tucker": ("loha", CONV, {"tucker": True}),
    "loha dora in": ("loha", CONV, {"weight_decompose": True}),
    "lokr": ("lokr", LINEAR, {}),
    "lokr full": ("lokr", LINEAR, {"full_matrix": True}),
    "lokr both": ("lokr", LINEAR, {"decompose_both": True}),
    "lokr tucker": ("lokr", CONV, {"tucker": True}),
    "ia3 in": ("ia3", LINEAR, {"train_on_input": True}),
    "ia3 out": ("ia3", CONV, {"train_on_input": False}),
    "oft": ("oft", LINEAR, {}),
    "oft loose rescaled": ("oft", CONV, {"constraint": 1000.0, "rescaled": True}),
    "oft bound": ("oft", CONV, {"constraint": 1e-4}),
    "boft bound rescaled": ("boft", LINEAR, {"constraint": 1e-4, "rescaled": True}),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_form_of_a_module_is_told_by_its_tensors(form: str) -> None:
    algorithm, shape, options = FORMS[form]
    tensors = made_by(algorithm, shape, 2, **options)
    module = as_module("lora_unet_mid_block_attentions_0_proj_in", tensors)
    assert form_of(module.algorithm, module.tensors) == form
    assert form in VERDICTS


def test_the_table_knows_every_form_and_every_program() -> None:
    assert VERDICTS.keys() == TITLES.keys()
    for verdicts in VERDICTS.values():
        assert verdicts.keys() == READERS.keys()
        assert set(verdicts.values()) <= {"exact", "wrong", "partly", "refused"}


@pytest.mark.slow_but_first
@pytest.mark.parametrize("kind", ["loha", "tucker", "dora", "words", "renamed words", "comfy"])
def test_diffusers_does_what_is_said_of_it(tmp_path, kind) -> None:
    model = tiny_model()
    algorithm = {"loha": "loha", "dora": "dora", "tucker": "locon"}.get(kind, "lora")
    options = AdapterOptions(tucker=True) if kind == "tucker" else AdapterOptions()
    network = AdapterNetwork.create(
        model.adapter_roots(), algorithm=algorithm, rank=2, conv_rank=2, options=options
    )
    tensors = network.state_dict()
    if kind.endswith("words"):
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
    if kind == "renamed words":
        path = convert(path, tmp_path / "renamed.safetensors", to="diffusers").out
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
        assert (said.reads == "wrong") == (kind == "dora" and not config.use_dora)
