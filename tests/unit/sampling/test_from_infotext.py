"""Texts as the web UI of several ages writes them, and what becomes of them."""

from __future__ import annotations

import hashlib
import shutil
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save_file

from lorasmith.core.errors import PromptError
from lorasmith.formats.hashes import autov3, shorthash
from lorasmith.models.embedding_names import EmbeddingNames
from lorasmith.models.reference import ModelReference
from lorasmith.prompts.infotext import parse_infotext
from lorasmith.sampling.from_infotext import find_embeddings, find_loras, find_model, request_of
from lorasmith.sampling.infotext import describe, read_infotext, require_infotext, save_image
from lorasmith.sampling.lora_library import LoraLibrary
from lorasmith.sampling.request import Hires, ImageRequest, Inpaint

NEW = """masterpiece, (girl:1.2), <lora:miku:0.5:0.8>
looking at viewer
Negative prompt: lowres,
bad hands
Steps: 28, Sampler: DPM++ 2M SDE, Schedule type: Karras, CFG scale: 6.5, Seed: 4242, \
Size: 512x768, Model hash: 84d76a0328, Model: some-model_v1.5, VAE hash: f921fb3f29, \
VAE: kl-f8.safetensors, Denoising strength: 0.45, Clip skip: 2, RNG: CPU, Hires upscale: 1.5, \
Hires steps: 12, Hires upscaler: Latent (antialiased), Lora hashes: "miku: aabbccddeeff, \
other: 0011", Version: v1.9.4"""

OLD = """girl
Negative prompt: lowres
Steps: 20, Sampler: DPM++ 2M, CFG scale: 7, Seed: 1, Size: 1024x1536, Model hash: 925997e9, \
Clip skip: 2, ENSD: 31337, Denoising strength: 0.6, First pass size: 512x768"""


def read(text: str):
    return request_of(parse_infotext(text), "a.png")


def test_a_image_of_now() -> None:
    found = read(NEW)
    assert found.request == ImageRequest(
        "masterpiece, (girl:1.2), <lora:miku:unet=0.8:te=0.5>\nlooking at viewer",
        "lowres,\nbad hands",
        seed=4242, steps=28, cfg=6.5, sampler="DPM++ 2M SDE", schedule="Karras",
        width=512, height=768, denoise=0.45,
        hires=Hires(1.5, 0.45, 12, "latent_antialiased"),
    )  # fmt: skip
    assert (found.model, found.model_hash, found.vae, found.clip_skip) == (
        "some-model_v1.5", "84d76a0328", "kl-f8.safetensors", 2,
    )  # fmt: skip
    assert found.lora_hashes["miku"] == "aabbccddeeff"
    assert found.notes == ()


def test_a_schedule_of_the_same_name_that_is_another_is_told() -> None:
    found = read(NEW.replace("Schedule type: Karras", "Schedule type: Beta"))
    assert found.request.schedule == "Beta"
    (note,) = found.notes
    assert "its schedule Beta spreads noise levels in A1111" in note


def test_a_image_of_once() -> None:
    found = read(OLD)
    request = found.request
    # When each schedule was a sampler of its own, the plain name was that without one.
    assert (request.sampler, request.schedule) == ("DPM++ 2M", "uniform")
    assert (request.width, request.height) == (512, 768)
    assert request.hires == Hires(2.0, 0.6, 0, "latent")
    assert found.notes[-1] == "not followed: ENSD: 31337"
    assert "GPU" in found.notes[0]


@pytest.mark.parametrize(
    ("line", "sampler", "schedule"),
    [
        ("Sampler: DPM++ 2M Karras", "DPM++ 2M Karras", "automatic"),
        ("Sampler: Euler a", "Euler a", "automatic"),
        ("Sampler: DPM++ 2M, Schedule type: Automatic", "DPM++ 2M", "automatic"),
        ("Sampler: DPM++ SDE, Schedule type: Exponential", "DPM++ SDE", "Exponential"),
        ("Sampler: DDIM, Schedule type: Karras", "DDIM", "automatic"),
        ("Sampler: DPM++ 2M, Version: v1.10.1", "DPM++ 2M", "automatic"),
        ("Sampler: DPM++ 2M, Version: v1.8.0", "DPM++ 2M", "uniform"),
        ("Sampler: DPM++ 2M, Version: f2.0.1v1.10.1", "DPM++ 2M", "automatic"),
    ],
)
def test_samplers(line, sampler, schedule) -> None:
    found = read(f"a\nSteps: 20, {line}, CFG scale: 7, Seed: 1").request
    assert (found.sampler, found.schedule) == (sampler, schedule)


def test_ours_comes_back_whole() -> None:
    request = ImageRequest(
        "a cat, <lora:x:unet=0.5:te=0.8>", "two\nlines", 9, 11, 3.5, "DPM++ 2M",
        schedule="exponential", width=64, height=32, cfg_rescale=0.7, hires=Hires(1.5, 0.4, 6),
        denoise=0.4,
    )  # fmt: skip
    found = request_of(describe(request, ModelReference("demo", clip_skip=2)), "a.png")
    assert found.request == ImageRequest(
        **{name: getattr(request, name) for name in request.__slots__} | {"schedule": "Exponential"}
    )
    assert (found.model, found.clip_skip, found.notes) == ("demo", 2, ())
    # Written so that the web UI reads it as it was meant.
    assert describe(replace(request, prompt="<lora:x:0.5:0.8>"), ModelReference("")).prompt == (
        "<lora:x:unet=0.5:te=0.8>"
    )
    eta = ImageRequest("a", eta=0.5, width=64, height=64)
    assert request_of(describe(eta, ModelReference("demo")), "").request.eta == 0.5


def test_what_cannot_be_followed_is_told() -> None:
    notes = read(
        "a\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512, Hires upscale: 2, "
        "Hires upscaler: R-ESRGAN 4x+, Denoising strength: 0.3, RNG: CPU, "
        "ADetailer model: face.pt, Variation seed: 3, Version: v1.9.0"
    ).notes
    assert notes == (
        'the upscaler "R-ESRGAN 4x+" is not among those here: Lanczos stands in',
        "not followed: ADetailer model: face.pt, Variation seed: 3",
    )
    (note,) = read(
        "a\nSteps: 2, Sampler: Euler, CFG scale: 1, Denoising strength: 0.3, RNG: CPU"
    ).notes
    assert "--init" in note
    with pytest.raises(PromptError, match='"CFG scale" is "high", not a number'):
        read("a\nSteps: 20, Sampler: Euler, CFG scale: high, Seed: 1")


PLAIN = "a\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 1, RNG: CPU, "


def test_a_mask_and_its_settings() -> None:
    inpaint = Inpaint(Path("m.png"), "noise", 9, 16)
    request = ImageRequest("a", init=Path("a.png"), inpaint=inpaint, width=64, height=64)
    found = request_of(describe(request, ModelReference("demo")), "")
    assert found.masked == {"content": "noise", "blur": 9, "padding": 16}
    assert ["--init" in note for note in found.notes] == [True, False]
    assert "--mask" in found.notes[1]
    assert request_of(describe(request, ModelReference("demo")), "", {"init", "mask"}).notes == ()
    found = read(PLAIN + "Mask blur: 2, Inpaint area: Whole picture, Masked content: fill")
    assert found.masked == {"content": "original", "blur": 2, "padding": None}
    assert found.notes[-1] == "not followed: Masked content: fill"


def test_a_second_pass_over_a_image_has_a_denoise_of_its_own() -> None:
    request = ImageRequest("a", init=Path("a.png"), denoise=0.3, hires=Hires(denoise=0.8))
    found = request_of(describe(replace(request, width=64, height=64), ModelReference("demo")), "")
    assert (found.request.denoise, found.request.hires) == (0.3, request.hires)
    (note,) = found.notes
    assert "--init" in note


def test_the_word_on_the_model_comes_back() -> None:
    request = ImageRequest("a", width=64, height=64)
    info = describe(request, ModelReference("demo", prediction="v", zero_terminal_snr=True))
    found = request_of(info, "")
    assert (found.prediction, found.zero_terminal_snr, found.notes) == ("v", True, ())
    found = request_of(describe(request, ModelReference("demo")), "")
    assert (found.prediction, found.zero_terminal_snr, found.notes) == ("auto", False, ())


def test_a_number_that_is_given_does_not_matter() -> None:
    text = "a\nSteps: twenty, Sampler: Euler, CFG scale: 3, Clip skip: x, RNG: CPU"
    with pytest.raises(PromptError, match=r'"twenty", not a number \(give --steps[^$]*"Clip skip"'):
        read(text)
    found = request_of(parse_infotext(text), "", {"steps", "clip_skip"})
    assert (found.request.cfg, found.notes) == (3.0, ())


def test_another_shape_after_enlarging_is_told() -> None:
    text = PLAIN + "Size: 64x64, Denoising strength: 0.5, Hires resize: 128x192"
    (note,) = read(text).notes
    assert "128x192" in note
    assert "192x192" in note
    assert read(text.replace("x192", "x128")).notes == ()


def test_a_lora_is_found_by_its_hash(lora_folder, tmp_path) -> None:
    shutil.copy(lora_folder / "cat.safetensors", tmp_path / "renamed.safetensors")
    library = LoraLibrary(tmp_path)
    hashes = {"feline": autov3(lora_folder / "cat.safetensors"), "gone": "0" * 12}
    found = find_loras("a <lora:feline:0.7>, <lora:gone:1>", hashes, library)
    assert found == "a <lora:renamed:0.7>, <lora:gone:1>"
    assert find_loras("a <lora:renamed:0.7>", hashes, library) == "a <lora:renamed:0.7>"


def test_embeddings_are_found_by_name_or_content_and_what_is_missing_is_said(tmp_path) -> None:
    for name, value in (("murk", 1.0), ("zorp", 2.0)):
        save_file({"emb_params": torch.full((1, 8), value)}, tmp_path / f"{name}.safetensors")
    murk, zorp = (shorthash(tmp_path / f"{name}.safetensors") for name in ("murk", "zorp"))
    hashes = f"MURK: {murk}, blorp: {zorp}, gone: {'0' * 12}, zorp: {'1' * 12}"
    words = "a murk, (Blorp:1.2), gone\nNegative prompt: blorp"
    text = f'{words}\nSteps: 20, Sampler: DDIM, RNG: CPU, TI hashes: "{hashes}"'
    found = find_embeddings(read(text), EmbeddingNames(tmp_path))
    assert found.request.prompt == "a murk, (zorp:1.2), gone"
    assert found.request.negative == "zorp"
    notes = [note for note in found.notes if "embedding" in note]
    assert [note.split(":")[0] for note in notes] == [
        "its embedding blorp is called zorp here",
        "its embedding gone is missing, so that its name is read as words",
        f"its embedding zorp was another than the one in {tmp_path / 'zorp.safetensors'}",
    ]
    assert f"{tmp_path} has none of that name" in notes[1]
    assert "--embedding-dir" in notes[1]
    (note,) = [
        note for note in find_embeddings(read(text), EmbeddingNames()).notes if "gone" in note
    ]
    assert "no folder was searched" in note


def test_a_model_is_found_by_name_and_by_hash(tmp_path) -> None:
    (tmp_path / "sub").mkdir()
    one = tmp_path / "one.safetensors"
    content = bytes(0x110000 - 1) + b"x"
    one.write_bytes(content)
    (tmp_path / "sub" / "v1.5.ckpt").write_bytes(b"x")
    whole = hashlib.sha256(content).hexdigest()[:10]
    old = hashlib.sha256(content[0x100000:]).hexdigest()[:8]
    assert find_model("v1.5", "", tmp_path) == tmp_path / "sub" / "v1.5.ckpt"
    assert find_model("renamed", whole.upper(), tmp_path) == one
    assert find_model("", old, tmp_path) == one
    assert find_model("renamed", "ffffffffff", tmp_path) is None


def exif_comment(path, text: str, form: str) -> None:
    image = Image.new("RGB", (8, 8))
    exif = image.getexif()
    head = {"utf-16-be": b"UNICODE\0", "utf-16-le": b"UNICODE\0", "ascii": b"ASCII\0\0\0"}[form]
    exif.get_ifd(0x8769)[0x9286] = head + text.encode(form)
    image.save(path, exif=exif)


@pytest.mark.parametrize("form", ["utf-16-be", "utf-16-le", "ascii"])
@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_jpeg_and_webp_carry_it_in_exif(tmp_path, suffix, form) -> None:
    texts = [OLD] if form == "ascii" else [OLD, "猫, red star\n" + OLD, "猫, a", "a cat"]
    for text in texts:
        exif_comment(tmp_path / f"a.{suffix}", text, form)
        assert read_infotext(tmp_path / f"a.{suffix}") == parse_infotext(text)


def test_a_image_that_says_it_is_huge_cannot_be_read(tmp_path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[16:24] = struct.pack(">II", 60000, 60000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(PromptError, match="cannot be read"):
        require_infotext(tmp_path / "a.png")


def test_images_that_say_nothing_of_use_are_named(tmp_path) -> None:
    chunks = PngInfo()
    chunks.add_text("workflow", "{}")
    chunks.add_text("prompt", "{}")
    Image.new("RGB", (8, 8)).save(tmp_path / "comfy.png", pnginfo=chunks)
    novel = PngInfo()
    novel.add_text("Software", "NovelAI")
    Image.new("RGB", (8, 8)).save(tmp_path / "novel.png", pnginfo=novel)
    Image.new("RGB", (8, 8)).save(tmp_path / "bare.png")
    (tmp_path / "text.png").write_text("hello")
    for name, message in (
        ("comfy", "it comes from ComfyUI"),
        ("novel", "it comes from NovelAI"),
        ("bare", "does not say how it was made"),
        ("text", "cannot be read"),
        ("none", "is not a file"),
    ):
        with pytest.raises(PromptError, match=message):
            require_infotext(tmp_path / f"{name}.png")


def test_what_we_write_stands_in_the_web_uis_order(tmp_path) -> None:
    request = ImageRequest(
        "a", sampler="dpmpp_2m", width=64, height=64, hires=Hires(2.0, 0.5, 8, "lanczos")
    )
    info = describe(
        request, ModelReference("m", vae="folder/v.pt", clip_skip=2), model_hash="0123456789",
        lora_hashes={"x": "ab"},
    )  # fmt: skip
    save_image(tmp_path / "a.png", Image.new("RGB", (8, 8)), info)
    with Image.open(tmp_path / "a.png") as image:
        last = image.info["parameters"].split("\n")[-1]
    assert last.rpartition(", Version")[0] == (
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 0, Size: 64x64, "
        "Model hash: 0123456789, Model: m, VAE: v.pt, Denoising strength: 0.5, Clip skip: 2, "
        'RNG: CPU, Hires upscale: 2, Hires steps: 8, Hires upscaler: Lanczos, Lora hashes: "x: ab"'
    )
