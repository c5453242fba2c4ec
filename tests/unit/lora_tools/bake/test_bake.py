"""A checkpoint with LoRAs in it is what base model and LoRAs are together."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import get_args

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from tests.pipelines import pipeline_of
from tests.tolerances import LAYER, assert_near
from tests.unit.lora_tools.tuned_models import (
    NAMES,
    base_file,
    changed,
    expected_weights,
    metadata_of,
    plain_checkpoint,
    random_lora,
    weights_of,
)

from lorasmith.core.errors import CheckpointError, LoraFileError, Stopped, UserError
from lorasmith.core.events import Controls, Event, Notice
from lorasmith.core.files import PrecisionName, read_safetensors_header
from lorasmith.lora_tools.bake.bake import bake
from lorasmith.lora_tools.inputs import LoraSource, parse_source
from lorasmith.lora_tools.inspect.checkpoint import baked
from lorasmith.models.load import load_model
from lorasmith.tensors.files import PRECISIONS

TYPES = ("lora", "c3lier", "locon", "loha", "lokr", "ia3", "dylora", "tlora", "dora", "oft", "boft")


class Listener:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def warnings(self) -> str:
        return "\n".join(event.text for event in self.events if isinstance(event, Notice))


@pytest.mark.slow
@pytest.mark.parametrize("family", NAMES)
def test_every_family(family: str, tmp_path: Path) -> None:
    base = base_file(family)
    lora = random_lora(tmp_path / "a.safetensors", base, conv_rank=2)
    out = tmp_path / "baked.safetensors"
    report = bake(base, [LoraSource(lora, 0.7, 0.4)], out)
    expected, names = expected_weights(base, [(lora, 0.7, 0.4)])
    found, before = weights_of(out), weights_of(base)
    assert len(names) > 40
    assert sum(report.loras[0].modules.values()) == len(names)
    for name, weight in expected.items():
        assert_near(found[name], weight, LAYER)
        assert torch.equal(found[name], before[name]) == (name not in names), name


@pytest.mark.slow_but_first
@pytest.mark.parametrize("algorithm", TYPES)
def test_every_type(algorithm: str, tmp_path: Path) -> None:
    base = base_file("sd1")
    lora = random_lora(tmp_path / "a.safetensors", base, algorithm=algorithm, conv_rank=2)
    out = tmp_path / "baked.safetensors"
    bake(base, [LoraSource(lora, 0.6, 0.6)], out)
    expected, names = expected_weights(base, [(lora, 0.6, 0.6)])
    found = weights_of(out)
    assert names
    for name in names:
        assert_near(found[name], expected[name], LAYER)


@pytest.mark.slow
def test_several_add_up_each_as_it_changes_the_base(tmp_path: Path) -> None:
    base = base_file("sd1")
    one = random_lora(tmp_path / "one.safetensors", base, algorithm="dora")
    two = random_lora(tmp_path / "two.safetensors", base, rank=5, seed=1)
    out = tmp_path / "baked.safetensors"
    bake(base, [LoraSource(one), LoraSource(two, -0.5, 0.0)], out)
    expected, _ = expected_weights(base, [(one, 1.0, 1.0), (two, -0.5, 0.0)])
    found = weights_of(out)
    for name, weight in expected.items():
        assert_near(found[name], weight, LAYER)


def test_blocks_are_weighed(tmp_path: Path) -> None:
    base = base_file("sd1")
    lora = random_lora(tmp_path / "a.safetensors", base)
    out = tmp_path / "baked.safetensors"
    report = bake(base, [parse_source(f"{lora}:1:lbw=rest=0 M00=0.5")], out)
    expected, names = expected_weights(base, [(lora, 0.5, 0.0)])
    before, found = weights_of(base), weights_of(out)
    middle = {name for name in names if "mid_block" in name}
    assert report.loras[0].silent == len(names) - len(middle) > 0
    for name in names:
        wanted = expected[name] if name in middle else before[name]
        assert_near(found[name], wanted, LAYER)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_diffusers_has_the_same_weights_with_the_lora_fused(family: str, tmp_path: Path) -> None:
    base = base_file(family)
    lora = random_lora(tmp_path / "a.safetensors", base)
    out = tmp_path / "baked.safetensors"
    bake(base, [LoraSource(lora, 0.8, 0.8)], out)
    pipeline = pipeline_of(load_model(base))
    pipeline.load_lora_weights(tmp_path, weight_name=lora.name)
    pipeline.fuse_lora(lora_scale=0.8)
    pipeline.unload_lora_weights()
    found = dict(load_model(out).denoiser.named_parameters())
    fused = dict(pipeline.unet.named_parameters())
    assert len(fused) == len(found)
    for name, weight in fused.items():
        assert_near(found[name], weight, LAYER)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_types_order_and_untouched_bytes_stay(dtype: torch.dtype, tmp_path: Path) -> None:
    first = base_file("sd1", dtype)
    tensors = load_file(first)
    # In an order that is no alphabet's, with a type of its own among them.
    names = sorted(tensors, key=lambda name: sha256(name.encode()).digest())
    base = tmp_path / "base.safetensors"
    positions = torch.arange(77)[None]
    shuffled = {name: tensors[name] for name in names} | {"position_ids": positions}
    save_file(shuffled, base, metadata_of(first))
    lora = random_lora(tmp_path / "a.safetensors", first)
    out = tmp_path / "baked.safetensors"
    report = bake(base, [LoraSource(lora)], out)
    before, after = read_safetensors_header(base), read_safetensors_header(out)
    assert list(before.tensors) == list(after.tensors)
    shift = out.stat().st_size - base.stat().st_size
    old_bytes, new_bytes = base.read_bytes(), out.read_bytes()
    touched = set()
    for name, info in before.tensors.items():
        new = after.tensors[name]
        assert (new.dtype, new.shape) == (info.dtype, info.shape)
        assert (new.begin, new.end) == (info.begin + shift, info.end + shift)
        if old_bytes[info.begin : info.end] != new_bytes[new.begin : new.end]:
            touched.add(name)
    assert len(touched) == report.tensors > 40
    # Rounded once: to the neighbour of the exact sum.
    expected, changed_names = expected_weights(base, [(lora, 1.0, 1.0)])
    found = weights_of(out)
    for name in changed_names:
        assert torch.equal(found[name].to(dtype), expected[name].to(dtype)) or torch.allclose(
            found[name], expected[name], rtol=torch.finfo(dtype).eps, atol=1e-6
        )


def test_one_tensor_may_hold_three_layers(tmp_path: Path) -> None:
    """OpenCLIP's attention, and one of the three left alone."""
    base = base_file("sd2")
    lora = random_lora(tmp_path / "a.safetensors", base)
    kept = {name: t for name, t in load_file(lora).items() if "_self_attn_k_proj." in name}
    save_file(kept, lora)
    out = tmp_path / "baked.safetensors"
    report = bake(base, [LoraSource(lora)], out)
    name = "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight"
    before, after = load_file(base)[name], load_file(out)[name]
    same = [torch.equal(a, b) for a, b in zip(before.chunk(3), after.chunk(3), strict=True)]
    assert same == [True, False, True]
    assert report.tensors == 2


@pytest.mark.slow_but_first
@pytest.mark.parametrize("precision", get_args(PrecisionName))
def test_another_precision(precision: PrecisionName, tmp_path: Path) -> None:
    base = base_file("sd1")
    lora = random_lora(tmp_path / "a.safetensors", base)
    out = tmp_path / "baked.safetensors"
    bake(base, [LoraSource(lora)], out, precision=precision)
    before, after = load_file(base), load_file(out)
    assert {tensor.dtype for tensor in after.values()} == {PRECISIONS[precision]}
    vae = [name for name in before if name.startswith("first_stage_model.")]
    assert all(torch.equal(before[name].to(PRECISIONS[precision]), after[name]) for name in vae)


def test_metadata_says_what_was_baked(tmp_path: Path) -> None:
    first = base_file("sd1")
    base = tmp_path / "base.safetensors"
    own = {"modelspec.title": "Mine", "modelspec.hash_sha256": "0x12", "lorasmith.test": "kept"}
    save_file(load_file(first), base, {**metadata_of(first), **own})
    lora = random_lora(tmp_path / "style.safetensors", first)
    once, twice = tmp_path / "once.safetensors", tmp_path / "twice.safetensors"
    bake(base, [LoraSource(lora, 0.5, 0.25)], once, hash=True)
    bake(once, [LoraSource(lora, -0.5, -0.25)], twice)
    said = metadata_of(once)
    assert said["modelspec.title"] == "Mine"
    assert said["lorasmith.test"] == "kept"
    assert "modelspec.hash_sha256" not in said
    assert said["modelspec.merged_from"] == "base, style"
    digest = sha256(base.read_bytes()).hexdigest()
    recipe, models = (json.loads(said[f"sd_merge_{name}"]) for name in ("recipe", "models"))
    assert recipe["primary_model_hash"] == digest
    lora_hash = metadata_of(lora)["sshs_model_hash"]
    assert recipe["loras"] == [
        {"name": "style.safetensors", "hash": lora_hash, "unet": 0.5, "text_encoder": 0.25}
    ]
    assert models[digest]["name"] == "base.safetensors"
    assert models[lora_hash]["name"] == "style.safetensors"
    first_words, second_words = (f"style.safetensors (unet {n}" for n in (0.5, -0.5))
    told = baked(metadata_of(twice))
    assert [first_words in told[0], second_words in told[1]] == [True, True]
    again = json.loads(metadata_of(twice)["sd_merge_models"])
    assert models.keys() < again.keys()
    # Without its SHA-256, a model is known by the old hash: of 64 KiB from 1 MiB on.
    old = sha256(once.read_bytes()[0x100000:0x110000]).hexdigest()[:8]
    assert again[old]["sd_merge_recipe"] == recipe


@pytest.mark.slow
def test_a_folder_stays_a_folder_that_diffusers_reads(tmp_path: Path) -> None:
    base = base_file("sd1")
    lora = random_lora(tmp_path / "a.safetensors", base)
    folder, out = tmp_path / "model", tmp_path / "baked"
    pipeline_of(load_model(base)).save_pretrained(folder)
    unet = folder / "unet" / "diffusion_pytorch_model.safetensors"
    unet.with_name("diffusion_pytorch_model.fp16.safetensors").write_bytes(unet.read_bytes())
    wanted = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    for part in ("unet", "vae"):  # as people share parts between models
        (folder / part).rename(tmp_path / part)
        (folder / part).symlink_to(tmp_path / part)
    (tmp_path / "vae" / "circle").symlink_to(folder)
    listener = Listener()
    bake(folder, [LoraSource(lora)], out, observer=listener)
    wanted.remove(Path("unet/diffusion_pytorch_model.fp16.safetensors"))
    assert "diffusion_pytorch_model.fp16.safetensors" in listener.warnings
    assert {path.relative_to(out) for path in out.rglob("*") if path.is_file()} == wanted
    expected, names = expected_weights(base, [(lora, 1.0, 1.0)])
    read = StableDiffusionPipeline.from_pretrained(out, safety_checker=None)
    found = dict(read.unet.named_parameters())
    for name in names:
        part, _, own = name.partition(".")
        if part == "unet":
            assert_near(found[own], expected[name], LAYER)
    for below in wanted:
        same = (folder / below).read_bytes() == (out / below).read_bytes()
        assert same == (below.suffix != ".safetensors" or below.parts[0] == "vae"), below


@pytest.mark.slow
def test_shards_and_pickles_of_a_folder_become_safetensors(tmp_path: Path) -> None:
    base = base_file("sd1")
    lora = random_lora(tmp_path / "a.safetensors", base)
    folder, out = tmp_path / "model", tmp_path / "baked"
    pipeline_of(load_model(base)).save_pretrained(
        folder, safe_serialization=False, max_shard_size="200KB"
    )
    assert len(list((folder / "unet").glob("*.bin"))) > 1
    bake(folder, [LoraSource(lora)], out)
    assert not list(out.glob("unet/*.bin"))
    read = UNet2DConditionModel.from_pretrained(out, subfolder="unet")
    expected, _ = expected_weights(base, [(lora, 1.0, 1.0)])
    for name, weight in read.named_parameters():
        assert_near(weight, expected[f"unet.{name}"], LAYER)


@pytest.mark.slow
def test_a_ckpt_becomes_safetensors(tmp_path: Path) -> None:
    first = plain_checkpoint(tmp_path / "first.safetensors")
    lora = random_lora(tmp_path / "a.safetensors", first)
    base = tmp_path / "base.ckpt"
    torch.save({"state_dict": load_file(first), "global_step": 7}, base)
    out, other = tmp_path / "baked.safetensors", tmp_path / "other.safetensors"
    listener = Listener()
    bake(base, [LoraSource(lora)], out, observer=listener)
    bake(first, [LoraSource(lora)], other)
    assert "base.ckpt is a pickle" in listener.warnings
    ours, theirs = load_file(out), load_file(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_whole_differences_are_added(tmp_path: Path) -> None:
    base = base_file("sd1")
    key, path = "lora_unet_mid_block_resnets_0_conv1", "unet.mid_block.resnets.0.conv1"
    before = weights_of(base)
    diff, bias = (torch.randn_like(before[f"{path}.{leaf}"]) for leaf in ("weight", "bias"))
    lora = tmp_path / "full.safetensors"
    save_file({f"{key}.diff": diff, f"{key}.diff_b": bias}, lora)
    out = tmp_path / "baked.safetensors"
    bake(base, [LoraSource(lora, 0.5, 0.5)], out)
    after = weights_of(out)
    assert_near(after[f"{path}.weight"], before[f"{path}.weight"] + 0.5 * diff, LAYER)
    assert_near(after[f"{path}.bias"], before[f"{path}.bias"] + 0.5 * bias, LAYER)


def test_a_type_that_is_not_read_is_named_as_it_is(tmp_path: Path) -> None:
    key = "lora_unet_mid_block_attentions_0_proj_in"
    tensors = {name: torch.ones(2, 2) for name in ("lora_down.weight", "lora_up.weight", "zorp")}
    save_file({f"{key}.{n}": t for n, t in tensors.items()}, tmp_path / "a.safetensors")
    with pytest.raises(LoraFileError) as refused:
        bake(base_file("sd1"), [LoraSource(tmp_path / "a.safetensors")], tmp_path / "o.safetensors")
    assert "no known type (lora_down.weight, lora_up.weight, zorp)" in str(refused.value)
    assert "family" not in str(refused.value)


def test_what_finds_no_layer_is_said(tmp_path: Path) -> None:
    base = base_file("sd1")
    lora = random_lora(tmp_path / "a.safetensors", base)
    save_file({**load_file(lora), "lora_unet_nowhere.alpha": torch.tensor(1.0)}, lora)
    listener = Listener()
    report = bake(base, [LoraSource(lora)], tmp_path / "out.safetensors", observer=listener)
    assert report.loras[0].unmatched == ("lora_unet_nowhere.alpha",)
    assert "1 of its tensors belong to no layer" in listener.warnings


def test_words_that_no_checkpoint_holds_are_said(tmp_path: Path) -> None:
    base = base_file("sd1")
    lora = random_lora(tmp_path / "a.safetensors", base)
    save_file({**load_file(lora), "bundle_emb.zorp.string_to_param.*": torch.ones(2, 32)}, lora)
    listener = Listener()
    report = bake(base, [LoraSource(lora)], tmp_path / "out.safetensors", observer=listener)
    assert report.loras[0].words == ("zorp",)
    assert "a.safetensors: its word zorp cannot be in a checkpoint" in listener.warnings
    assert f"--embedding-dir {tmp_path}" in listener.warnings


def test_a_dry_run_writes_nothing_and_says_the_size(tmp_path: Path) -> None:
    base = base_file("sd1")
    lora = random_lora(tmp_path / "a.safetensors", base)
    out = tmp_path / "baked.safetensors"
    planned = bake(base, [LoraSource(lora)], out, dry_run=True)
    assert not out.exists()
    assert planned.written is None
    assert bake(base, [LoraSource(lora)], out).size == out.stat().st_size
    assert out.stat().st_size == pytest.approx(planned.size, abs=2000)


@pytest.mark.slow
def test_refusals_leave_nothing_behind(tmp_path: Path) -> None:
    base, other = base_file("sd1", torch.float16), base_file("sdxl")
    lora = random_lora(tmp_path / "a.safetensors", base)
    strange = random_lora(tmp_path / "xl.safetensors", other)
    there = tmp_path / "there.safetensors"
    there.write_bytes(b"mine")
    out = tmp_path / "out.safetensors"
    broken = changed(tmp_path / "nan.safetensors", lora, lambda name, t: t * float("nan"))
    strong = changed(tmp_path / "strong.safetensors", lora, lambda name, t: t.float() * 1e25)
    sick = changed(
        tmp_path / "sick.safetensors",
        base,
        lambda name, t: t * float("inf") if name.endswith("proj_in.weight") else t,
    )
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match="exists already"):
        bake(base, [LoraSource(lora)], there)
    with pytest.raises(UserError, match="one of the inputs"):
        bake(base, [LoraSource(lora)], base)
    with pytest.raises(UserError, match="one of the inputs"):
        bake(base, [LoraSource(lora)], lora)
    with pytest.raises(UserError, match=r"does not end in \.safetensors"):
        bake(base, [LoraSource(lora)], tmp_path / "out.ckpt")
    with pytest.raises(LoraFileError, match=r"xl\.safetensors"):
        bake(base, [LoraSource(strange)], out)
    with pytest.raises(LoraFileError, match="whole base model"):
        bake(base, [LoraSource(base)], out)
    with pytest.raises(LoraFileError, match=r"nan\.safetensors: lora_.* holds NaN"):
        bake(base, [LoraSource(lora), LoraSource(broken)], out)
    for dry_run in (False, True):
        with pytest.raises(UserError, match="every strength is 0"):
            bake(base, [LoraSource(lora, 0.0, 0.0)], out, dry_run=dry_run)
    with pytest.raises(CheckpointError, match="by what is added to it"):
        bake(base, [LoraSource(strong)], out)
    with pytest.raises(CheckpointError, match="holds NaN or infinity"):
        bake(sick, [LoraSource(lora)], out)
    with pytest.raises(CheckpointError, match="is beyond float16"):
        bake(base, [LoraSource(lora, 1e6, 1e6)], out)
    controls = Controls()
    controls.stop()
    with pytest.raises(Stopped):
        bake(base, [LoraSource(lora)], out, controls=controls)
    assert {path.name for path in tmp_path.iterdir()} == before
    assert there.read_bytes() == b"mine"


@pytest.mark.slow
def test_a_folder_is_refused_inside_of_itself(tmp_path: Path) -> None:
    base = base_file("sd1")
    lora = random_lora(tmp_path / "a.safetensors", base)
    folder = tmp_path / "model"
    pipeline_of(load_model(base)).save_pretrained(folder)
    with pytest.raises(UserError, match="which is read"):
        bake(folder, [LoraSource(lora)], folder / "baked")
    with pytest.raises(UserError, match="name a folder"):
        bake(folder, [LoraSource(lora)], tmp_path / "out.safetensors")
