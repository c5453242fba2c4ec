"""Prompts inside images, as the programs put them there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lorasmith.curation.sidecars.generation import (
    comfy_prompt,
    parse_prompt,
    prompt_in,
    read_generation,
)

A1111 = (
    "1girl, (red hat:1.2), <lora:zorp:0.8>, zorp \\(dog\\)\nNegative prompt: bad\n"
    "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 8x8"
)
GRAPH: dict[str, Any] = {
    "3": {
        "class_type": "KSampler",
        "inputs": {"seed": 1, "positive": ["12", 0], "negative": ["7", 0], "model": ["4", 0]},
    },
    "12": {"class_type": "ControlNetApply", "inputs": {"conditioning": ["6", 0], "strength": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": ["9", 0], "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "bad", "clip": ["4", 1]}},
    "9": {"class_type": "PrimitiveString", "inputs": {"value": "1girl, red hat"}},
}


def png(path: Path, **texts: str) -> Path:
    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    return path


@pytest.mark.parametrize("ending", ["jpg", "webp"])
def test_a1111_in_exif(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + A1111.encode("utf-16-be")
    Image.new("RGB", (8, 8)).save(path, exif=exif.tobytes())
    names = [tag.name for tag in read_generation(path).tags]
    assert names == ["1girl", "red hat", "zorp (dog)"]


def test_a1111_in_a_chunk(tmp_path: Path) -> None:
    assert prompt_in(png(tmp_path / "a.png", parameters=A1111)) == A1111.partition("\n")[0]
    with open(tmp_path / "a.png", "rb") as file:
        assert prompt_in(file) == A1111.partition("\n")[0]


def test_comfyui(tmp_path: Path) -> None:
    text = json.dumps(GRAPH)
    assert prompt_in(png(tmp_path / "a.png", prompt=text, workflow="{}")) == "1girl, red hat"
    exif = Image.Exif()
    exif[0x0110] = f"prompt:{text}"
    Image.new("RGB", (8, 8)).save(tmp_path / "a.webp", exif=exif.tobytes())
    assert prompt_in(tmp_path / "a.webp") == "1girl, red hat"


def test_other_nodes_of_comfyui() -> None:
    flux: dict[str, Any] = {
        "13": {"class_type": "SamplerCustomAdvanced", "inputs": {"guider": ["22", 0]}},
        "22": {"class_type": "BasicGuider", "inputs": {"conditioning": ["26", 0]}},
        "26": {"class_type": "FluxGuidance", "inputs": {"conditioning": ["6", 0], "guidance": 3.5}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "1girl, red hat"}},
    }
    assert comfy_prompt(json.dumps(flux)) == "1girl, red hat"
    loader: dict[str, Any] = {
        "1": {"class_type": "KSampler (Efficient)", "inputs": {"positive": ["2", 1]}},
        "2": {"inputs": {"positive": ["3", 0], "negative": "bad", "text_negative": "bad"}},
        "3": {"class_type": "StringConcat", "inputs": {"string_a": "1girl", "string_b": ["4", 0]}},
        "4": {"inputs": {"populated_text": "red hat", "seed": 3}},
    }
    assert comfy_prompt(json.dumps(loader)) == "1girl, red hat"
    sdxl: dict[str, Any] = {
        "1": {"class_type": "KSampler", "inputs": {"positive": ["2", 0], "negative": ["3", 0]}},
        "2": {"inputs": {"text_g": "1girl, red hat", "text_l": "1girl, red hat", "width": 8}},
        "3": {"inputs": {"text_g": "bad", "text_l": "bad"}},
    }
    assert comfy_prompt(json.dumps(sdxl)) == "1girl, red hat"


def test_a_graph_that_goes_in_circles() -> None:
    graph = {**GRAPH, "9": {"inputs": {"text": ["6", 0]}}}
    assert comfy_prompt(json.dumps(graph)) == ""
    assert comfy_prompt("[" * 9999) == ""


@pytest.mark.parametrize(
    "chunks",
    [
        {"Comment": json.dumps({"prompt": "1girl, red hat", "steps": 28}), "Software": "NovelAI"},
        {"invokeai_metadata": json.dumps({"positive_prompt": "1girl, red hat"})},
        {"sd-metadata": json.dumps({"image": {"prompt": [{"prompt": "1girl, red hat"}]}})},
        {"parameters": json.dumps({"prompt": "1girl, red hat"})},
    ],
    ids=["NovelAI", "InvokeAI", "InvokeAI of old", "Fooocus"],
)
def test_others(tmp_path: Path, chunks: dict[str, str]) -> None:
    assert prompt_in(png(tmp_path / "a.png", **chunks)) == "1girl, red hat"


def test_images_that_say_nothing(tmp_path: Path) -> None:
    assert not read_generation(png(tmp_path / "a.png", Title="a girl", Comment="made by hand"))
    (tmp_path / "b.png").write_bytes(b"no image")
    assert not read_generation(tmp_path / "b.png")
    assert not read_generation(tmp_path / "gone.png")


def test_a_prompt_that_tells() -> None:
    car = parse_prompt("a photo of a ((dog)) that is standing in the rain, [night]\nBREAK\nhd")
    assert car.text == "a photo of a dog that is standing in the rain, night, hd"


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from('ab ,:.()[]{}<>\\\n"|1lora_') | st.characters(), max_size=60))
def test_no_prompt_breaks_the_reader(text: str) -> None:
    for tag in parse_prompt(text).tags:
        assert tag.name.strip()
    comfy_prompt("{" + text)
