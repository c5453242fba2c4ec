"""LoRA files: bytes against the format library, hashes against sd-scripts' procedure, bad files."""

from __future__ import annotations

import hashlib
import json

import pytest
import safetensors.torch
import torch

from lorasmith.adapters.file import load_lora, save_lora
from lorasmith.core.errors import LoraFileError

METADATA = {"ss_network_dim": "4", "ss_output_name": "größe", "modelspec.title": "a", "other": "b"}


def tensors(size: int = 6) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return {
        "lora_unet_conv_in.lora_down.weight": torch.randn(size, 40, generator=g),
        "lora_unet_conv_in.lora_up.weight": torch.randn(50, size, generator=g),
        "lora_unet_conv_in.alpha": torch.tensor(4.0),
    }


def test_what_is_saved_is_read_bit_for_bit(tmp_path):
    save_lora(tmp_path / "a.safetensors", tensors(), METADATA)
    file = load_lora(tmp_path / "a.safetensors")
    assert file.metadata.items() >= METADATA.items()
    assert all(torch.equal(file.tensors[name], t) for name, t in tensors().items())
    theirs = safetensors.torch.load_file(tmp_path / "a.safetensors")
    assert all(torch.equal(theirs[name], t) for name, t in tensors().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_precision_is_the_one_asked_for(tmp_path, dtype):
    save_lora(tmp_path / "a.safetensors", tensors(), {}, dtype=dtype)
    file = load_lora(tmp_path / "a.safetensors")
    assert {t.dtype for t in file.tensors.values()} == {dtype}
    assert all(torch.equal(file.tensors[name], t.to(dtype)) for name, t in tensors().items())


def test_no_length_of_the_header_is_taken_for_a_pickle(tmp_path):
    """One in 32 headers has a length that begins with a pickle's first byte."""
    lengths = set()
    for count in range(0, 264, 8):
        path = tmp_path / f"{count}.safetensors"
        safetensors.torch.save_file(tensors(), path, {"note": "x" * count})
        lengths.add(path.read_bytes()[0])
        assert load_lora(path).metadata["note"] == "x" * count
    assert 0x80 in lengths


def test_same_content_same_bytes(tmp_path):
    backwards = dict(reversed(tensors().items()))
    save_lora(tmp_path / "a.safetensors", tensors(), METADATA)
    save_lora(tmp_path / "b.safetensors", backwards, dict(reversed(METADATA.items())))
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_hashes_are_those_of_sd_scripts(tmp_path):
    # More than 1 MiB, so that the legacy hash has something to read.
    content = tensors(size=6000)
    save_lora(tmp_path / "a.safetensors", content, METADATA)
    written = load_lora(tmp_path / "a.safetensors").metadata
    # library/train_util.py, precalculate_safetensors_hashes: a file with the ss_ metadata alone.
    training = {key: value for key, value in METADATA.items() if key.startswith("ss_")}
    theirs = safetensors.torch.save(content, training)
    header = int.from_bytes(theirs[:8], "little")
    assert written["sshs_model_hash"] == hashlib.sha256(theirs[8 + header :]).hexdigest()
    legacy = hashlib.sha256(theirs[0x100000:0x110000]).hexdigest()[:8]
    assert written["sshs_legacy_hash"] == legacy
    assert legacy != hashlib.sha256(b"").hexdigest()[:8]
    assert written["modelspec.hash_sha256"] == "0x" + written["sshs_model_hash"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_is_never_written(tmp_path, bad):
    broken = tensors()
    broken["lora_unet_conv_in.lora_up.weight"][3, 2] = bad
    with pytest.raises(LoraFileError, match=r"lora_unet_conv_in.*diverged"):
        save_lora(tmp_path / "a.safetensors", broken, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float8_e5m2])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_file_with_nan_is_refused_and_its_layers_named(tmp_path, bad, dtype):
    path = tmp_path / "ruined.safetensors"
    broken = {name: tensor.clone() for name, tensor in tensors().items()}
    broken["lora_unet_conv_in.lora_up.weight"][3, 2] = bad
    safetensors.torch.save_file({name: t.to(dtype) for name, t in broken.items()}, path)
    with pytest.raises(LoraFileError) as refused:
        load_lora(path)
    (problem,) = refused.value.problems
    assert problem.where == str(path)
    assert problem.what == "lora_unet_conv_in: holds NaN or infinity (lora_up.weight)"
    assert "earlier snapshot" in problem.hint
    assert load_lora(path, finite=False).tensors.keys() == broken.keys()


def test_of_many_ruined_layers_a_few_are_named(tmp_path):
    path = tmp_path / "ruined.safetensors"
    names = [
        f"lora_unet_{number}.lora_{side}.weight" for number in range(9) for side in ("down", "up")
    ]
    safetensors.torch.save_file({name: torch.full((4, 4), torch.nan) for name in names}, path)
    with pytest.raises(LoraFileError) as refused:
        load_lora(path)
    assert len(refused.value.problems) == 6
    assert refused.value.problems[-1].what == "4 more layers are so"


def test_overflow_of_fp16_is_not_written(tmp_path):
    large = tensors()
    large["lora_unet_conv_in.lora_up.weight"][3, 2] = 1e5
    with pytest.raises(LoraFileError, match=r"1e\+05 is beyond float16.*bf16 or fp32"):
        save_lora(tmp_path / "a.safetensors", large, {}, dtype=torch.float16)
    save_lora(tmp_path / "a.safetensors", large, {}, dtype=torch.bfloat16)


@pytest.mark.parametrize("suffix", [".pt", ".ckpt"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_pickled_tensors_are_read(tmp_path, suffix, wrapped):
    path = tmp_path / f"a{suffix}"
    torch.save({"state_dict": tensors()} if wrapped else tensors(), path)
    assert load_lora(path).tensors.keys() == tensors().keys()


def test_what_was_trained_is_read_as_plain_numbers(tmp_path):
    torch.save({name: torch.nn.Parameter(t) for name, t in tensors().items()}, tmp_path / "a.pt")
    found = load_lora(tmp_path / "a.pt").tensors
    assert not any(tensor.requires_grad for tensor in found.values())


@pytest.mark.parametrize(
    "settings",
    [
        [1],
        [],
        {"unet.lora_alpha": [1]},
        {"unet.lora_alpha": 4, "unet.alpha_pattern": {"(": 3}},
        {"unet.lora_alpha": 4, "unet.alpha_pattern": [1]},
        {"unet.lora_alpha": 4, "unet.alpha_pattern": {"mid": [3]}},
    ],
)
def test_settings_of_another_shape_than_peft_s(tmp_path, settings):
    names = [f"unet.mid.lora_{side}.weight" for side in "AB"]
    metadata = {"lora_adapter_metadata": json.dumps(settings)}
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file({name: torch.zeros(2, 2) for name in names}, path, metadata)
    with pytest.raises(LoraFileError, match=r"is damaged: .*(alpha|metadata)"):
        load_lora(path)


def test_settings_that_are_nested_too_deeply(tmp_path):
    metadata = {"lora_adapter_metadata": "[" * 100_000}
    safetensors.torch.save_file(tensors(), tmp_path / "a.safetensors", metadata)
    with pytest.raises(LoraFileError, match=r"is damaged: .*nested too deeply"):
        load_lora(tmp_path / "a.safetensors")


class Evil:
    def __reduce__(self):
        return print, ("run",)


def _bytes(content: bytes):
    return lambda path: path.write_bytes(content)


def _saved(**names: str):
    content = {name: torch.zeros(2) for name in names.values()}
    return lambda path: safetensors.torch.save_file(content, path)


def _cut(path):
    save_lora(path, tensors(), {})
    path.write_bytes(path.read_bytes()[:-100])


def _cut_pickle(**options: bool):
    def make(path):
        torch.save(tensors(), path, **options)
        path.write_bytes(path.read_bytes()[:-400])

    return make


def _odd(tensor: torch.Tensor):
    content = {"lora_unet_conv_in.alpha": tensor}
    return lambda path: torch.save(tensors() | content, path)


BAD_FILES = {
    "missing": (lambda path: None, "cannot be read: No such file"),
    "folder": (lambda path: path.mkdir(), "cannot be read: Is a directory"),
    "empty": (_bytes(b""), "is empty"),
    "short": (_bytes(b"abc"), "of a format that is not known"),
    "web page": (_bytes(b"<!DOCTYPE html><html>" + b" " * 600), "is a web page"),
    "git-lfs": (_bytes(b"version https://git-lfs.github.com/spec/v1\noid"), "git-lfs pointer"),
    "picture": (_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 600), "is a picture"),
    "cut": (_cut, "is damaged: cut short"),
    "garbled": (_bytes(b"\x40" + b"\0" * 7 + b"{" + b"x" * 90), "is damaged: the header"),
    "checkpoint": (
        _saved(a="model.diffusion_model.input_blocks.0.0.weight", b="first_stage_model.x"),
        "a whole base model",
    ),
    "VAE": (_saved(a="decoder.conv_in.weight"), "is a VAE"),
    "text encoder": (_saved(a="text_model.encoder.layers.0.mlp.fc1.weight"), "a text encoder"),
    "embedding": (_saved(a="emb_params"), "a textual inversion"),
    "unknown": (_saved(a="layers.7.weight"), r"unknown tensors \(layers.7.weight"),
    "code": (lambda path: torch.save({"a": Evil()}, path), "more than tensors"),
    "list": (lambda path: torch.save([1, 2], path), "holds a list"),
    "cut pickle": (_bytes(b"PK\x03\x04" + b"1" * 300), "is damaged"),
    "a text in a pickle": (_bytes(b"\x80\x02(X\x03\x00\x00\x00abc" + b"\xff" * 600), "is damaged"),
    "no pickle": (_bytes(b"\x80\x02junk"), "is damaged"),
    "cut in a pickle": (_cut_pickle(), "is damaged"),
    "cut in an old pickle": (_cut_pickle(_use_new_zipfile_serialization=False), "is damaged"),
    "odd numbers": (_odd(torch.ones(2, dtype=torch.uint16)), r"conv_in.alpha is uint16, which"),
    "complex": (_odd(torch.ones(2, dtype=torch.complex64)), r"conv_in.alpha is complex64, which"),
    "sparse": (_odd(torch.ones(2).to_sparse()), r"conv_in.alpha is a sparse tensor of float32"),
    "meta": (_odd(torch.ones(2, device="meta")), r"conv_in.alpha is float32 without its numbers"),
}


@pytest.mark.parametrize("kind", list(BAD_FILES))
def test_bad_files_say_what_they_are(tmp_path, kind, capsys):
    make, message = BAD_FILES[kind]
    path = tmp_path / "x.safetensors"
    make(path)
    with pytest.raises(LoraFileError, match=message) as caught:
        load_lora(path)
    assert str(path) in str(caught.value)
    assert capsys.readouterr().out == ""
