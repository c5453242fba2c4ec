"""Training chosen layers and blocks: the file holds these alone, all others stay as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.recipes.matrix import learns, result_of, run_with

from lorasmith.adapters.file import load_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.adapters.targets import layers_of
from lorasmith.formats.block_weights import block_of
from lorasmith.models.load import load_model

CASES: dict[str, Mapping[str, str]] = {
    "attention alone": {"adapter.targets": "attn"},
    "everything": {"adapter.targets": "full"},
    "the text encoder alone": {"adapter.targets": "te-only"},
    "patterns": {"adapter.targets": "unet-only", "adapter.exclude": "ff.net.*"},
    "OUT blocks": {"adapter.blocks": "OUTALL"},
    "a curve": {"adapter.blocks": "down=zeros up=sine+0.2"},
    "ranks by block": {"adapter.block_ranks": "rest=2 OUT=6 IN=0"},
    "LoRA+": {"optimizer.loraplus_ratio": "4"},
    "blocks and Prodigy": {
        "adapter.blocks": "rest=0.5 OUT=1",
        "optimizer.name": "Prodigy",
        "optimizer.lr": "1",
        "schedule.name": "constant",
    },
}


def blocks_of(names: list[str]) -> set[str]:
    """The UNet's blocks that a file of the demo model has weights of."""
    model = load_model("demo")
    unet = model.adapter_roots()[0]
    by_key = {target.key: target.path for target in layers_of(unet)}
    keys = {name.partition(".")[0] for name in names}
    return {block_of(by_key[key], 1, 3) for key in keys if key in by_key}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_trains(name: str, tmp_path: Path) -> None:
    learns(tmp_path, CASES[name], continued=True)


@pytest.mark.slow
def test_out_blocks_alone_leave_all_others_untouched(tmp_path: Path) -> None:
    changes = {"adapter.blocks": "OUTALL", "adapter.text_encoder": "false"}
    file = result_of(run_with(tmp_path, {**changes, "adapter.targets": "full"}))
    tensors = load_file(file)
    assert blocks_of(list(tensors)) == {f"OUT{n:02}" for n in range(6)}

    model = load_model("demo")
    inputs = torch.randn(2, 4, 8, 8), torch.tensor([50, 800])
    text = model.encode_text(["zorp", ""])
    seen: dict[str, list[torch.Tensor]] = {}

    def watch(name: str) -> None:
        def keep(_module: object, _inputs: object, output: object) -> None:
            first = output[0] if isinstance(output, tuple) else output
            assert isinstance(first, torch.Tensor)
            seen.setdefault(name, []).append(first)

        model.denoiser.get_submodule(name).register_forward_hook(keep)

    stages = ["down_blocks.0", "down_blocks.1", "down_blocks.2", "mid_block", "up_blocks.2"]
    for stage in stages:
        watch(stage)
    with torch.no_grad():
        model.denoise(*inputs, text)
        with AdapterNetwork.load(load_lora(file).tensors, model.adapter_roots()).attached():
            model.denoise(*inputs, text)
    same = {name: torch.equal(*outputs) for name, outputs in seen.items()}
    assert same == {name: not name.startswith("up") for name in stages}


@pytest.mark.slow
def test_blocks_of_a_file_that_is_gone_on_from(tmp_path: Path) -> None:
    plain = {"adapter.type": "lora"}
    first = run_with(tmp_path, plain)
    changes = plain | {"adapter.init_from": str(result_of(first)), "adapter.blocks": "OUTALL"}
    second = run_with(tmp_path, {**changes, "save.name": "more"})
    names = list(load_file(result_of(second)))
    assert blocks_of(names) == {"OUT02", "OUT03", "OUT04", "OUT05"}
    events = (second / "events.jsonl").read_text(encoding="utf-8").splitlines()
    assert any("does not train; left out" in json.loads(line).get("text", line) for line in events)


def test_weights_scale_what_is_learned(tmp_path: Path) -> None:
    """AdamW's first step moves every number by its learning rate."""
    changes = {"train.steps": "1", "adapter.blocks": "rest=1 OUT=0.25", "optimizer.lr": "1e-3"}
    changes |= {"schedule.name": "constant", "optimizer.args": "eps=1e-30"}
    changes |= {"optimizer.loraplus_ratio": "1"}
    tensors = load_file(result_of(run_with(tmp_path, changes)))
    for side, moved in (("down", 1e-3), ("mid", 1e-3), ("up", 0.25e-3)):
        ups = [t for n, t in tensors.items() if f"unet_{side}_block" in n and "lora_up" in n]
        values = torch.cat([tensor.flatten().abs() for tensor in ups])
        torch.testing.assert_close(values.median(), torch.tensor(moved), rtol=1e-3, atol=0.0)
