"""``lorasmith inspect`` and ``convert`` from the outside."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import save_file
from tests.unit.lora_tools.made_files import METADATA, kohya_file, kohya_tensors

from lorasmith.cli.inspect_view import bars
from lorasmith.cli.main import cli
from lorasmith.core.text import bytes_text


def run(*args: object) -> Result:
    result = CliRunner().invoke(cli, [str(arg) for arg in args])
    assert "Traceback" not in result.output, result.output
    return result


def test_inspect_tells_what_people_ask(tmp_path) -> None:
    tags = {"ss_tag_frequency": json.dumps({"10_zorp": {"zorp": 9, "hat": 2}})}
    path = tmp_path / "lora.safetensors"
    save_file(kohya_tensors(), path, {**METADATA, **tags, "ss_min_snr_gamma": "5.0"})
    result = run("inspect", path, "--modules", "--chart", tmp_path / "chart.png")
    assert result.exit_code == 0
    for words in (
        "a LoRA for Stable Diffusion 1", "264 (lora 264), in kohya's names",
        "2 (alpha 1): 264", "attention 128 of 128", "IN01 ", "OUT11", "min-SNR gamma",
        "10_zorp: zorp 9, hat 2", "AUTOMATIC1111    yes", "AutoV3",
        "lora_unet_mid_block_attentions_0_proj_in",
    ):  # fmt: skip
        assert words in result.output
    with Image.open(tmp_path / "chart.png") as chart:
        colours = {colour for _, colour in chart.convert("RGB").getcolors(1 << 20) or []}
    assert {(0x1F, 0x6F, 0xEB), (0x2D, 0xA4, 0x4E), (0x8A, 0x63, 0xD2)} <= colours


def test_bars_are_as_long_as_their_numbers() -> None:
    lines = list(bars({"BASE": 0.0, "IN01": 1.0, "OUT03": 4.0}))
    assert [line.count("█") for line in lines] == [0, 10, 40]
    assert list(bars({})) == []
    assert list(bars({"M00": 0.0})) == [f"  {'M00':<6} {'':<40} 0"]


def test_convert_says_what_it_did_and_a_dry_run_writes_nothing(tmp_path) -> None:
    path = kohya_file(tmp_path / "lora.safetensors", blocks="mid_block")
    out, back = tmp_path / "comfy.safetensors", tmp_path / "back.safetensors"
    dry = run("convert", path, out, "--to", "comfy", "--dry-run")
    assert dry.exit_code == 0
    assert "not written" in dry.output
    assert not out.exists()
    done = run("convert", path, out, "--to", "comfy")
    assert f"{out}: 36 tensors, kohya to comfy" in done.output
    size = bytes_text(out.stat().st_size)
    assert size in done.output
    assert size in dry.output
    assert "byte for byte" in run("convert", out, back).output
    assert run("convert", path, out).exit_code == 2


def test_the_image_comes_out_again(tmp_path) -> None:
    path = kohya_file(tmp_path / "lora.safetensors", blocks="mid_block")
    Image.new("RGB", (40, 30), "red").save(tmp_path / "in.png")
    out = tmp_path / "out.safetensors"
    assert run("convert", path, out, "--preview", tmp_path / "in.png").exit_code == 0
    assert run("inspect", out, "--preview", tmp_path / "out.jpg").exit_code == 0
    with Image.open(tmp_path / "out.jpg") as image:
        assert image.size == (40, 30)
    result = run("inspect", path, "--preview", tmp_path / "none.jpg")
    assert (result.exit_code, "has no preview" in result.output) == (2, True)
    assert not Path(tmp_path / "none.jpg").exists()


def test_inspect_of_the_package_own_model() -> None:
    from lorasmith.models.open import DEMO

    result = run("inspect", DEMO)
    assert result.exit_code == 0
    assert "a checkpoint of Stable Diffusion 1, predicts the noise" in result.output
    assert run("inspect", "demo").output == result.output
    assert run("inspect", DEMO, "--chart", "x.png").exit_code == 2
    refused = run("inspect", "demo", "--modules")
    assert (refused.exit_code, "does nothing with a checkpoint" in refused.output) == (2, True)


def test_a_image_takes_no_other_file_s_place(tmp_path) -> None:
    path = kohya_file(tmp_path / "lora.safetensors", blocks="mid_block")
    before = path.read_bytes()
    (tmp_path / "there.png").write_bytes(b"mine")
    for option, name, said in (
        ("--chart", path, "does not end in .png"),
        ("--preview", path, "does not end in .png or .jpg"),
        ("--chart", tmp_path / "there.png", "exists already"),
        ("--chart", tmp_path / ("x" * 300 + ".png"), "cannot be written: File name too long"),
    ):
        result = run("inspect", path, option, name)
        assert (result.exit_code, said in result.output.replace("\n", " ")) == (2, True)
        assert "modules" not in result.output
    assert path.read_bytes() == before
    assert (tmp_path / "there.png").read_bytes() == b"mine"


def test_a_name_that_no_file_can_have(tmp_path) -> None:
    path = kohya_file(tmp_path / "lora.safetensors", blocks="mid_block")
    long = tmp_path / ("x" * 300 + ".safetensors")
    out = tmp_path / "out.safetensors"
    for arguments in (
        ("inspect", long), ("convert", long, out), ("convert", path, long),
        ("resize", long, out, "--rank", 1), ("resize", path, long, "--rank", 1),
        ("merge", long, "--out", out), ("merge", path, "--out", long),
        ("bake", "--model", "demo", "--lora", long, "--out", out),
        ("bake", "--model", "demo", "--lora", path, "--out", long),
    ):  # fmt: skip
        result = run(*arguments)
        assert result.exit_code == 2, arguments
        assert "File name too long" in result.output, arguments


def test_guessed_blocks_are_told(tmp_path) -> None:
    path = kohya_file(tmp_path / "lora.safetensors", blocks="mid_block")
    assert "numbered as in SD1" not in run("inspect", path).output
    narrow = {
        name: t[:, :32] if "attn2_to_k.lora_down" in name or "attn2_to_v.lora_down" in name else t
        for name, t in kohya_tensors(blocks="mid_block").items()
    }
    save_file({name: t.contiguous() for name, t in narrow.items()}, tmp_path / "b.safetensors")
    assert "numbered as in SD1" in run("inspect", tmp_path / "b.safetensors").output


def test_inspect_of_a_image_says_what_reads_it(tmp_path) -> None:
    for name in ("a.png", "a.jpg", "a.webp", "a.gif"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
        result = run("inspect", tmp_path / name)
        assert result.exit_code == 2
        text = " ".join(result.output.split())
        assert "a picture" in text
        assert "give a LoRA or a checkpoint; `lorasmith generate --from-png" in text


def test_inspect_names_the_base_of_a_lora_of_other_sizes(tmp_path) -> None:
    key = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
    sides = {"lora_down.weight": (2, 64), "lora_up.weight": (9, 2)}
    tensors = {f"{key}.{name}": torch.ones(shape) for name, shape in sides.items()}
    said = {"ss_base_model_version": "sd_v1", "ss_sd_model_name": "demo"}
    save_file(tensors, tmp_path / "a.safetensors", said)
    text = " ".join(run("inspect", tmp_path / "a.safetensors").output.split())
    assert "a LoRA for Stable Diffusion 1 at other sizes" in text
    assert "its metadata names the base model demo" in text
    assert "its blocks are numbered as in SD1" in text
