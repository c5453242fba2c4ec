from __future__ import annotations

import io

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests.tiny_models import tiny_checkpoint

from lorasmith.core.errors import Stopped, UserError
from lorasmith.core.events import Controls, Progress
from lorasmith.lora_tools.convert.convert import convert
from lorasmith.lora_tools.inspect.thumbnail import read_preview


@pytest.fixture
def weights(tmp_path):
    state = load_file(tiny_checkpoint(tmp_path / "model.safetensors"))
    state["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(77)[
        None
    ]
    state["model_ema.decay"] = torch.tensor(0.99, dtype=torch.float64)
    state["half"] = torch.ones(3, 4, dtype=torch.float16).t()  # strides that are not row by row
    return state


@pytest.mark.parametrize("old", [False, True], ids=["zip", "before 1.6"])
def test_a_ckpt_keeps_every_tensor(tmp_path, weights, old) -> None:
    path = tmp_path / "model.ckpt"
    content = {"state_dict": weights, "epoch": 3}
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    seen = []
    done = convert(path, tmp_path / "out.safetensors", observer=seen.append)
    found = load_file(done.out)
    assert found.keys() == weights.keys()
    for name, tensor in weights.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)
    assert (done.kind, done.before, done.after) == ("checkpoint", "pickle", "safetensors")
    assert seen[-1] == Progress("converting", len(weights), len(weights))


def test_precision_rounds_weights_alone(tmp_path, weights) -> None:
    torch.save({"state_dict": weights}, tmp_path / "model.ckpt")
    convert(tmp_path / "model.ckpt", tmp_path / "out.safetensors", precision="bf16")
    found = load_file(tmp_path / "out.safetensors")
    for name, tensor in weights.items():
        floats = tensor.is_floating_point()
        assert torch.equal(found[name], tensor.to(torch.bfloat16) if floats else tensor)
    weights["half"] = torch.full((2,), 1e6)
    save_file({k: v.contiguous() for k, v in weights.items()}, tmp_path / "large.safetensors")
    with pytest.raises(UserError, match=r"half: 1e\+06 is beyond float16"):
        convert(tmp_path / "large.safetensors", tmp_path / "b.safetensors", precision="fp16")
    assert [path.name for path in tmp_path.glob("*b.safetensors*")] == []


def test_a_preview_is_embedded_small_and_read_back(tmp_path) -> None:
    path = tiny_checkpoint(tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"is a \.safetensors checkpoint already"):
        convert(path, tmp_path / "same.safetensors")
    Image.new("RGBA", (1200, 600), "#d29922").save(tmp_path / "preview.png")
    out = tmp_path / "out.safetensors"
    convert(path, out, preview=tmp_path / "preview.png")
    with safe_open(out, "pt") as file:
        found = read_preview(file.metadata())
    assert found is not None
    kind, data = found
    with Image.open(io.BytesIO(data)) as image:
        assert (kind, image.format, image.size) == ("image/jpeg", "JPEG", (512, 256))
        assert image.getpixel((9, 9)) == pytest.approx((0xD2, 0x99, 0x22), abs=6)
    before, after = load_file(path), load_file(out)
    assert all(torch.equal(before[name], after[name]) for name in before)
    (tmp_path / "not.png").write_text("no picture")
    with pytest.raises(UserError, match="cannot be read as a picture"):
        convert(path, tmp_path / "b.safetensors", preview=tmp_path / "not.png")


@pytest.mark.parametrize(
    "thumbnail",
    ["", "data:image/png;base64,!!", "https://example.org/a.png", "data:image/png;base64,a"],
)
def test_a_damaged_preview_is_no_preview(thumbnail) -> None:
    assert read_preview({"modelspec.thumbnail": thumbnail}) is None


@pytest.mark.slow
def test_a_checkpoint_has_no_style_of_names(tmp_path) -> None:
    path = tiny_checkpoint(tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="is a checkpoint; comfy is a way to name"):
        convert(path, tmp_path / "out.safetensors", to="comfy")


@pytest.mark.slow
def test_stopped_in_the_middle(tmp_path, weights) -> None:
    torch.save({"state_dict": weights}, tmp_path / "model.ckpt")
    controls = Controls()
    with pytest.raises(Stopped):
        convert(
            tmp_path / "model.ckpt",
            tmp_path / "out.safetensors",
            observer=lambda _: controls.stop(),
            controls=controls,
        )
    assert not [path for path in tmp_path.iterdir() if "out.safetensors" in path.name]
