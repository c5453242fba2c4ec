"""Wrong, damaged and hostile checkpoints: each is refused for what it is, and nothing runs."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.tiny_models import tiny_checkpoint, tiny_model
from torch import Tensor

from lorasmith.core.errors import CheckpointError
from lorasmith.core.files import read_safetensors_header
from lorasmith.models.load import load_model
from lorasmith.models.reference import ModelReference
from lorasmith.models.weights import is_finite

UNET = "model.diffusion_model."
TEXT = "cond_stage_model.transformer.text_model."

State = dict[str, Tensor]
Bad = Callable[[Path, Path], Path | str]
CASES: dict[str, tuple[Bad, str]] = {}


def case(message: str) -> Callable[[Bad], Bad]:
    """``make(base, folder)`` writes the bad thing; loading it must say ``message``."""

    def add(make: Bad) -> Bad:
        CASES[make.__name__] = (make, message)
        return make

    return add


def changed(base: Path, folder: Path, change: Callable[[State], Any]) -> Path:
    state = load_file(base)
    change(state)
    path = folder / "bad.safetensors"
    save_file(state, path, read_safetensors_header(base).metadata)
    return path


def written(folder: Path, data: bytes, name: str = "bad.safetensors") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def names_only(folder: Path, **shapes: tuple[int, ...]) -> Path:
    path = folder / "bad.safetensors"
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, path)
    return path


@case(r"damaged: .*cut short")
def truncated(base: Path, folder: Path) -> Path:
    return written(folder, base.read_bytes()[:-1000])


@case(r"damaged: the header is longer than the file")
def truncated_in_the_header(base: Path, folder: Path) -> Path:
    return written(folder, base.read_bytes()[:5000])


@case(r"cannot be read as a torch file")
def truncated_ckpt(base: Path, folder: Path) -> Path:
    torch.save({"state_dict": load_file(base)}, folder / "whole.ckpt")
    return written(folder, (folder / "whole.ckpt").read_bytes()[:-50_000], "bad.ckpt")


@case(r"empty \(0 bytes\)")
def empty(base: Path, folder: Path) -> Path:
    return written(folder, b"")


@case(r"this is a text file, not a checkpoint")
def text_file(base: Path, folder: Path) -> Path:
    return written(folder, b"a photo of a cat\n" * 50)


@case(r"this is a web page.*download the file, not its page")
def web_page(base: Path, folder: Path) -> Path:
    return written(folder, b"<!DOCTYPE html><html>Sign in</html>")


@case(r"Git LFS pointer.*git lfs pull")
def lfs_pointer(base: Path, folder: Path) -> Path:
    return written(folder, b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n")


@case(r"neither safetensors nor a torch file")
def noise(base: Path, folder: Path) -> Path:
    return written(folder, bytes(range(255, 0, -1)) * 100)


@case(r"a picture")
def image(base: Path, folder: Path) -> Path:
    return written(folder, b"\x89PNG\r\n\x1a\n" + bytes(100))


@case(r"a zip archive, but not one that torch wrote")
def other_zip(base: Path, folder: Path) -> Path:
    with zipfile.ZipFile(folder / "bad.ckpt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    return folder / "bad.ckpt"


@case(r"a LoRA .*adapter\.init_from")
def lora(base: Path, folder: Path) -> Path:
    key = "lora_unet_down_blocks_0_attentions_0_proj_in"
    down, up = f"{key}.lora_down.weight", f"{key}.lora_up.weight"
    return names_only(folder, **{down: (4, 8), up: (8, 4)})


@case(r"a LoRA ")
def lora_of_peft(base: Path, folder: Path) -> Path:
    return names_only(folder, **{"unet.down_blocks.0.attentions.0.to_q.lora_A.weight": (4, 8)})


@case(r"a textual-inversion embedding")
def embedding(base: Path, folder: Path) -> Path:
    return names_only(folder, emb_params=(2, 768))


@case(r"the refiner of Stable Diffusion XL")
def refiner(base: Path, folder: Path) -> Path:
    return names_only(
        folder,
        **{
            f"{UNET}input_blocks.0.0.weight": (384, 4, 3, 3),
            f"{UNET}input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight": (768, 1280),
            "conditioner.embedders.0.model.ln_final.weight": (1280,),
        },
    )


@case(r"no text encoder 2 in it")
def sdxl_without_its_second_text_encoder(base: Path, folder: Path) -> Path:
    return names_only(
        folder,
        **{
            f"{UNET}input_blocks.0.0.weight": (320, 4, 3, 3),
            f"{UNET}input_blocks.1.0.in_layers.2.weight": (320, 320, 3, 3),
            f"{UNET}label_emb.0.0.weight": (8, 8),
            "conditioner.embedders.0.transformer.text_model.final_layer_norm.weight": (768,),
        },
    )


@case(r"a UNet alone, without text encoder")
def sd2_folder(base: Path, folder: Path) -> Path:
    for part in ("unet", "vae", "text_encoder"):
        (folder / part).mkdir()
    key = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    state = {"conv_in.weight": torch.zeros(8, 4, 3, 3), key: torch.zeros(8, 1024)}
    save_file(state, folder / "unet" / "diffusion_pytorch_model.safetensors")
    return folder


@case(r"a Flux model")
def flux(base: Path, folder: Path) -> Path:
    return names_only(folder, **{"double_blocks.0.img_attn.qkv.weight": (8, 8)})


@case(r"a Stable Diffusion 3 model")
def sd3(base: Path, folder: Path) -> Path:
    return names_only(folder, **{f"{UNET}joint_blocks.0.x_block.attn.qkv.weight": (8, 8)})


@case(r"folder of a FluxPipeline")
def flux_folder(base: Path, folder: Path) -> Path:
    (folder / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    return folder


@case(r"an inpainting model .*9 channels")
def inpainting(base: Path, folder: Path) -> Path:
    name = f"{UNET}input_blocks.0.0.weight"
    return changed(base, folder, lambda state: state.update({name: torch.zeros(8, 9, 3, 3)}))


@case(r"InstructPix2Pix")
def pix2pix(base: Path, folder: Path) -> Path:
    name = f"{UNET}input_blocks.0.0.weight"
    return changed(base, folder, lambda state: state.update({name: torch.zeros(8, 8, 3, 3)}))


@case(r"a ControlNet")
def controlnet(base: Path, folder: Path) -> Path:
    return names_only(folder, **{"control_model.input_hint_block.0.weight": (16, 3, 3, 3)})


@case(r"a VAE alone.*model\.vae")
def vae_alone(base: Path, folder: Path) -> Path:
    place_weights = "first_stage_model."
    state = {
        n.removeprefix(place_weights): t
        for n, t in load_file(base).items()
        if n.startswith(place_weights)
    }
    save_file(state, folder / "bad.safetensors")
    return folder / "bad.safetensors"


@case(r"a UNet alone")
def unet_alone(base: Path, folder: Path) -> Path:
    state = {n: t for n, t in load_file(base).items() if n.startswith(UNET)}
    save_file(state, folder / "bad.safetensors")
    return folder / "bad.safetensors"


@case(r"there is no vae in it.*model\.vae")
def without_vae(base: Path, folder: Path) -> Path:
    state = {n: t for n, t in load_file(base).items() if not n.startswith("first_stage")}
    save_file(state, folder / "bad.safetensors", read_safetensors_header(base).metadata)
    return folder / "bad.safetensors"


@case(r"not the weights of a diffusion model")
def language_model(base: Path, folder: Path) -> Path:
    return names_only(folder, **{"model.layers.0.self_attn.q_proj.weight": (8, 8)})


@case(r"3 weights are not usable numbers: .*out\.2\.weight \(NaN\)")
def nan(base: Path, folder: Path) -> Path:
    def change(state: State) -> None:
        state[f"{UNET}out.2.weight"][0, 0, 0, 0] = float("nan")
        state[f"{UNET}out.2.bias"][0] = float("inf")
        state[f"{UNET}middle_block.0.in_layers.2.weight"][-1] = float("-inf")

    return changed(base, folder, change)


@case(r"1 weight is missing: unet conv_norm_out\.bias\b(.|\n)*layers\.1\.mlp\.fc1\.bias")
def missing(base: Path, folder: Path) -> Path:
    def change(state: State) -> None:
        del state[f"{UNET}out.0.bias"]
        del state[f"{TEXT}encoder.layers.1.mlp.fc1.bias"]

    return changed(base, folder, change)


@case(r"its unet cannot be read: conv_out\.weight is missing")
def missing_what_decides_the_architecture(base: Path, folder: Path) -> Path:
    return changed(base, folder, lambda state: state.pop(f"{UNET}out.2.weight"))


@case(r"1 weight is too many: model\.diffusion_model\.extra\.weight")
def too_many(base: Path, folder: Path) -> Path:
    return changed(base, folder, lambda state: state.update({f"{UNET}extra.weight": torch.ones(1)}))


@case(r"1 weight is of the wrong shape: .*time_embed\.2\.bias is \[7\], not \[32\]")
def misshapen(base: Path, folder: Path) -> Path:
    return changed(
        base, folder, lambda state: state.update({f"{UNET}time_embed.2.bias": torch.ones(7)})
    )


@case(r"its UNet reads texts 16 wide, its text encoder writes 24")
def another_models_text_encoder(base: Path, folder: Path) -> Path:
    def change(state: State) -> None:
        state[f"{TEXT}embeddings.token_embedding.weight"] = torch.ones(49408, 24).half()

    return changed(base, folder, change)


@case(r"lorasmith\.model is damaged")
def damaged_header(base: Path, folder: Path) -> Path:
    save_file(load_file(base), folder / "bad.safetensors", {"lorasmith.model": "{"})
    return folder / "bad.safetensors"


@case(r"do not divide into 32 groups")
def header_lost(base: Path, folder: Path) -> Path:
    save_file(load_file(base), folder / "bad.safetensors")
    return folder / "bad.safetensors"


@case(r"stored as I8")
def quantised(base: Path, folder: Path) -> Path:
    name = f"{UNET}out.2.weight"
    return changed(base, folder, lambda state: state.update({name: state[name].to(torch.int8)}))


@case(r"no model in this folder")
def empty_folder(base: Path, folder: Path) -> Path:
    (folder / "inside").mkdir()
    return folder / "inside"


@case(r"name the file: .*base\.safetensors")
def folder_with_a_checkpoint(base: Path, folder: Path) -> Path:
    (folder / "base.safetensors").write_bytes(base.read_bytes())
    return folder


@case(r"no such file or folder \(did you mean .*mymodel\.safetensors")
def misspelt(base: Path, folder: Path) -> str:
    written(folder, b"x", "mymodel.safetensors")
    return str(folder / "mymodle.safetensors")


@case(r"no such file or folder")
def nowhere(base: Path, folder: Path) -> Path:
    return folder / "a" / "b" / "c.ckpt"


@case(r"a link that leads nowhere")
def symlink_loop(base: Path, folder: Path) -> Path:
    (folder / "loop.safetensors").symlink_to(folder / "loop.safetensors")
    return folder / "loop.safetensors"


@case(r"a link that leads nowhere")
def broken_link(base: Path, folder: Path) -> Path:
    (folder / "link.safetensors").symlink_to(folder / "moved.safetensors")
    return folder / "link.safetensors"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("base") / "base.safetensors")


@pytest.mark.slow_but_first
@pytest.mark.parametrize("name", CASES)
def test_refused_for_what_it_is(name: str, base: Path, tmp_path: Path) -> None:
    make, message = CASES[name]
    source = make(base, tmp_path)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_model(source)
    assert all(problem.where for problem in caught.value.problems)


def test_the_table_is_not_nearly_empty() -> None:
    assert len(CASES) >= 35


# ----- pickles that want to run something ----------------------------------------------------


class Bomb:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


class Sly:
    """Hides behind a name that a checkpoint may well have."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"__import__('os').system({self.command!r})",)


def as_torch(value: Any, path: Path) -> None:
    torch.save(value, path)


def as_legacy(value: Any, path: Path) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


def as_pickle(value: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(value, protocol=4))


@pytest.mark.slow_but_first
@pytest.mark.parametrize("write", [as_torch, as_legacy, as_pickle])
@pytest.mark.parametrize(("bomb", "wanted"), [(Bomb, r"(posix|nt)\.system"), (Sly, r"eval")])
@pytest.mark.parametrize("use", ["model", "vae"])
def test_a_pickle_that_wants_code_is_refused_and_does_not_run(
    write: Callable[[Any, Path], None], bomb: type, wanted: str, use: str,
    base: Path, tmp_path: Path,
) -> None:  # fmt: skip
    proof = tmp_path / "it_ran"
    path = tmp_path / "model.ckpt"
    state = dict(load_file(base))
    write({"state_dict": state, "extra": bomb(f"touch {proof}")}, path)
    with pytest.raises(CheckpointError, match=rf"wants to run code \(.*{wanted}"):
        load_model(path) if use == "model" else load_model(ModelReference(base, vae=path))
    assert not proof.exists()
    # The bomb is live: whoever unpickles it plainly sets it off.
    if write is as_pickle:
        pickle.loads(path.read_bytes())
        assert proof.exists()


# ----- no network ----------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["owner/model", "owner/model/file.safetensors"])
def test_a_hub_id_without_network(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", unreachable)
    with pytest.raises(CheckpointError, match="hub cannot be reached"):
        load_model(source)


# ----- other refusals ------------------------------------------------------------------------


def test_values_too_large_for_float16_are_told_from_nan(tmp_path: Path) -> None:
    path = tiny_checkpoint(tmp_path / "base.safetensors", dtype=torch.float32)
    bad = changed(path, tmp_path, lambda s: s[f"{UNET}out.2.bias"].fill_(1e6))
    load_model(bad)
    with pytest.raises(CheckpointError, match=r"up to 1e\+06, too large for float16"):
        load_model(bad, dtype=torch.float16)


def test_clip_skip_beyond_the_text_encoder(base: Path) -> None:
    with pytest.raises(CheckpointError, match=r"3 is no CLIP skip.* 2 layers"):
        load_model(ModelReference(base, clip_skip=3))


def test_a_vae_of_other_latents(base: Path, tmp_path: Path) -> None:
    model = tiny_model()
    config = dict(model.vae.config) | {"latent_channels": 16}
    type(model.vae).from_config(config).save_pretrained(tmp_path / "vae")
    with pytest.raises(CheckpointError, match="takes 4 channels, its VAE's latents have 16"):
        load_model(ModelReference(base, vae=tmp_path / "vae"))


def test_no_vae_in_the_vae_file(base: Path, tmp_path: Path) -> None:
    path = names_only(tmp_path, **{"some.weight": (2, 2)})
    with pytest.raises(CheckpointError, match="no VAE in this file"):
        load_model(ModelReference(base, vae=path))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("place", [0, 1, 500, 999, -1])
def test_one_bad_number_among_many_is_found(dtype: torch.dtype, value: str, place: int) -> None:
    tensor = torch.linspace(-1, 1, 12_347).to(dtype)
    assert is_finite(tensor)
    tensor[place] = float(value)
    assert not is_finite(tensor)
