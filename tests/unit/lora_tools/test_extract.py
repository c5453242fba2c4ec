"""What is extracted from two checkpoints, against float64 decompositions of their differences."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.pipelines import pipeline_of
from tests.tolerances import LAYER, assert_near
from tests.unit.lora_tools.tuned_models import (
    NAMES,
    base_file,
    changed,
    deltas,
    loaded,
    metadata_of,
    random_lora,
    tuned,
    weights_of,
)
from torch import Tensor

from lorasmith.core.errors import CheckpointError, Stopped, UserError
from lorasmith.core.events import Controls
from lorasmith.lora_tools.bake.bake import bake
from lorasmith.lora_tools.extract import (
    KINDS,
    extract,
)
from lorasmith.lora_tools.inputs import LoraSource
from lorasmith.lora_tools.linalg.randomized_svd import TOLERANCE, RankLimit, clamped, low_rank
from lorasmith.tensors.rng import generator, normal

RANK_4: dict[str, Any] = {"rank": 4, "min_diff": 0.0, "precision": "fp32"}


def differences(base: Path, other: Path) -> dict[str, Tensor]:
    before, after = weights_of(base), weights_of(other)
    return {name: after[name].double() - before[name].double() for name in before}


def least_error(change: Tensor, rank: int) -> float:
    return float(torch.linalg.svdvals(change.flatten(1))[rank:].square().sum().sqrt())


@pytest.mark.slow
@pytest.mark.parametrize("family", NAMES)
def test_every_family_at_nearly_the_least_error(family: str, tmp_path: Path) -> None:
    base = base_file(family)
    other = tuned(tmp_path / "tuned.safetensors", base)
    out = tmp_path / "lora.safetensors"
    report = extract(base, other, out, **RANK_4)
    wanted, found = differences(base, other), deltas(out, base)
    assert len(found) == len(report.modules) > 40
    total = 0.0
    said = {module.error for module in report.modules}
    for name, delta in found.items():
        error = float((wanted[name] - delta).norm())
        total += error**2
        assert error <= (1 + TOLERANCE) * least_error(wanted[name], 4) + 1e-6, name
        assert min(abs(error - own) for own in said) < 1e-3 * error
    norm = sum(float(wanted[name].square().sum()) for name in found)
    assert report.error == pytest.approx(math.sqrt(total / norm), rel=1e-4)
    said_by_file = metadata_of(out)
    assert said_by_file["ss_network_module"] == "networks.lora"
    assert said_by_file["ss_network_dim"] == "4"
    assert said_by_file["modelspec.architecture"].endswith("/lora")
    assert set(report.outside) >= {"convolutions", "embeddings"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "dtype"),
    [("sd1", torch.float32), ("sd1", torch.float16), ("sd2", torch.float16),
     ("sdxl", torch.float32)],
)  # fmt: skip
def test_a_lora_that_was_baked_is_found_again(
    family: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    base = base_file(family, dtype)
    lora = random_lora(tmp_path / "a.safetensors", base, rank=4, conv_rank=4)
    baked, out = tmp_path / "baked.safetensors", tmp_path / "found.safetensors"
    bake(base, [LoraSource(lora, 0.5, 0.5)], baked)
    report = extract(base, baked, out, **RANK_4, conv_rank=4)
    wanted, found = deltas(lora, base), deltas(out, base)
    assert found.keys() == wanted.keys()
    assert not report.unchanged
    assert not report.outside
    # The checkpoint's own rounding is all that is lost.
    close = 1e-5 if dtype == torch.float32 else 0.03
    for name, delta in found.items():
        assert float((delta - 0.5 * wanted[name]).norm()) <= close * float(delta.norm()), name
    assert report.error < close


@pytest.mark.slow
def test_into_folders_and_half_precision(tmp_path: Path) -> None:
    base, half = base_file("sdxl"), base_file("sdxl", torch.float16)
    other = tuned(tmp_path / "tuned.safetensors", base)
    folder = tmp_path / "folder"
    pipeline_of(loaded(other)).save_pretrained(folder)
    single, both, mixed = (tmp_path / f"{n}.safetensors" for n in ("single", "both", "mixed"))
    extract(base, other, single, **RANK_4)
    extract(base, folder, both, **RANK_4)
    ours, theirs = load_file(single), load_file(both)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    # A base of half precision: the difference is exact all the same.
    extract(half, other, mixed, **RANK_4)
    wanted, found = differences(half, other), deltas(mixed, base)
    for name, delta in found.items():
        error = float((wanted[name] - delta).norm())
        assert error <= (1 + TOLERANCE) * least_error(wanted[name], 4)


def test_the_difference_may_be_taken_in_half_precision(tmp_path: Path) -> None:
    base = base_file("sd1")
    other = tuned(tmp_path / "tuned.safetensors", base)
    out = tmp_path / "lora.safetensors"
    most = RANK_4 | {"rank": 10_000}
    extract(base, other, out, **most, load_precision="bf16")
    before, after = weights_of(base), weights_of(other)
    for name, delta in deltas(out, base).items():
        rounded = (after[name].bfloat16() - before[name].bfloat16()).float()
        assert_near(delta, rounded, LAYER)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_types(kind: str, tmp_path: Path) -> None:
    base = base_file("sd1")
    other = tuned(tmp_path / "tuned.safetensors", base)
    out = tmp_path / "lora.safetensors"
    factor = 4 if kind == "lokr" else None
    options = RANK_4 | {"rank": 2, "type": kind, "factor": factor}
    report = extract(base, other, out, **options)
    wanted, found = differences(base, other), deltas(out, base)
    convolutions = [name for name in found if ".resnets." in name]
    assert bool(convolutions) == (kind != "lora")
    error = sum(float((wanted[name] - delta).square().sum()) for name, delta in found.items())
    norm = sum(float(wanted[name].square().sum()) for name in found)
    assert report.error == pytest.approx(math.sqrt(error / norm), rel=1e-4)
    assert report.error < 1.0
    said = metadata_of(out)
    assert ("lokr" in said.get("ss_network_args", "")) == (kind == "lokr")
    planned = extract(base, other, tmp_path / "no.safetensors", **options, dry_run=True)
    alphas = len(found)
    assert planned.numbers == report.numbers - alphas
    assert report.size == out.stat().st_size <= planned.size <= report.size + 100
    assert not (tmp_path / "no.safetensors").exists()


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_a_share_is_retained_in_every_layer(share: float, tmp_path: Path) -> None:
    base = base_file("sd1")
    other = tuned(tmp_path / "tuned.safetensors", base)
    out = tmp_path / "lora.safetensors"
    report = extract(base, other, out, retain=share, min_diff=0.0, precision="fp32")
    wanted = differences(base, other)
    for name, delta in deltas(out, base).items():
        assert float(delta.norm()) >= share * float(wanted[name].norm()) * (1 - 1e-5)
    assert len({module.rank for module in report.modules}) > 1
    assert metadata_of(out)["ss_network_dim"] == "Dynamic"
    for module in report.modules:
        assert module.error <= math.sqrt(1 - share**2) * module.norm * (1 + 1e-4)


def test_ranks_that_layers_cannot_have_are_told(tmp_path: Path) -> None:
    base = base_file("sd1")
    other = tuned(tmp_path / "tuned.safetensors", base)
    out = tmp_path / "lora.safetensors"
    report = extract(base, other, out, type="locon", rank=1000, min_diff=0.0)
    assert len({module.rank for module in report.modules}) > 1
    said = metadata_of(out)
    assert {said["ss_network_dim"], said["ss_network_alpha"]} == {"Dynamic"}
    args = json.loads(said["ss_network_args"])
    assert {args["conv_dim"], args["conv_alpha"]} == {"Dynamic"}


@pytest.mark.slow
def test_a_text_encoder_that_hardly_differs_is_left_out(tmp_path: Path) -> None:
    base = base_file("sdxl")

    def change(name: str, tensor: Tensor) -> Tensor:
        scale = {"conditioner.embedders.0": 1e-4, "conditioner.embedders.1": 0.1}
        own = next((s for start, s in scale.items() if name.startswith(start)), 0.1)
        return tensor + own * normal(tensor.shape, 0, name) if tensor.ndim > 1 else tensor

    other = changed(tmp_path / "tuned.safetensors", base, change)
    out = tmp_path / "lora.safetensors"
    report = extract(base, other, out, rank=2)
    prefixes = {name.partition("_text_model")[0] for name in load_file(out) if "_te" in name[:8]}
    assert prefixes == {"lora_te2"}
    assert 1e-5 < report.left_out["text_encoder"] < 1e-3
    texts: dict[str, Any] = {"rank": 2, "parts": "text-encoder", "min_diff": 9.0}
    with pytest.raises(CheckpointError, match=r"that hardly differ .*say --min-diff 0"):
        extract(base, other, tmp_path / "none.safetensors", **texts)
    only = tmp_path / "only.safetensors"
    extract(base, other, only, rank=2, parts="unet")
    assert all(name.startswith("lora_unet_") for name in load_file(only))


def test_layers_that_are_equal_get_no_module(tmp_path: Path) -> None:
    base = base_file("sd1")

    def change(name: str, tensor: Tensor) -> Tensor:
        return tensor + 0.1 if name.endswith("attn1.to_q.weight") else tensor

    other = changed(tmp_path / "tuned.safetensors", base, change)
    out = tmp_path / "lora.safetensors"
    report = extract(base, other, out, rank=2)
    assert all(module.key.endswith("attn1_to_q") for module in report.modules)
    assert len(report.unchanged) + len(report.modules) == len(report.unchanged) * 12 / 11
    assert not any(key.endswith("attn1_to_q") for key in report.unchanged)
    assert report.outside == {}


@pytest.mark.parametrize("quantile", [0.9, 0.99, 1.0])
def test_clamping_is_that_of_sd_scripts(quantile: float) -> None:
    change = normal((40, 60), 0, "change")
    found = low_rank(change.clone(), RankLimit(rank=8), generator(0, "test"))
    up, down = clamped(found, quantile)
    S = torch.linalg.svdvals(change)[:8]
    U, Vh = found.up * S.sqrt(), found.down / S.sqrt()[:, None]
    assert_near(Vh @ Vh.T, torch.eye(8), LAYER)
    assert_near(U.norm(dim=0), S, LAYER)
    limit = float(torch.quantile(torch.cat([U.flatten(), Vh.flatten()]), quantile))
    torch.testing.assert_close(up, U.clamp(-limit, limit), rtol=1e-2, atol=1e-4)
    torch.testing.assert_close(down, Vh.clamp(-limit, limit), rtol=1e-2, atol=1e-4)


def test_the_error_of_clamped_factors_is_their_own(tmp_path: Path) -> None:
    base = base_file("sd1")
    other = tuned(tmp_path / "tuned.safetensors", base)
    out = tmp_path / "lora.safetensors"
    report = extract(base, other, out, **RANK_4, clamp_quantile=0.9)
    wanted = differences(base, other)
    found = deltas(out, base)
    error = sum(float((wanted[name] - delta).square().sum()) for name, delta in found.items())
    norm = sum(float(wanted[name].square().sum()) for name in found)
    assert report.error == pytest.approx(math.sqrt(error / norm), rel=1e-4)


def test_the_same_seed_gives_the_same_file(tmp_path: Path) -> None:
    base = base_file("sd1")
    other = tuned(tmp_path / "tuned.safetensors", base)
    files = []
    for folder in ("a", "b"):
        out = tmp_path / folder / "lora.safetensors"
        extract(base, other, out, **RANK_4)
        files.append(out.read_bytes())
    assert files[0] == files[1]


def test_refusals_name_what_is_wrong(tmp_path: Path) -> None:
    base, xl = base_file("sd1"), base_file("sdxl")
    out = tmp_path / "out.safetensors"
    there = tmp_path / "there.safetensors"
    there.write_bytes(b"mine")
    bad = ("attn1.to_q.weight", "ff.net.2.weight", "q_proj.weight")
    sick = changed(
        tmp_path / "sick.safetensors", base,
        lambda name, t: t * float("nan") if name.endswith(bad) else t,
    )  # fmt: skip
    for other, message in (
        (base, "the base model itself"),
        (xl, "Stable Diffusion XL, the base model of Stable Diffusion 1"),
        (tmp_path / "nothing", "no such file"),
    ):
        with pytest.raises(CheckpointError, match=message):
            extract(base, other, out, **RANK_4)
    with pytest.raises(CheckpointError) as caught:
        extract(base, sick, out, **RANK_4)
    assert len(caught.value.problems) > 5
    assert any("text_model" in str(problem) for problem in caught.value.problems)
    assert all("NaN or infinity" in str(problem) for problem in caught.value.problems)
    copy = changed(tmp_path / "copy.safetensors", base, lambda name, t: t)
    with pytest.raises(CheckpointError, match="has the base model's weights"):
        extract(base, copy, out, rank=2, parts="unet")
    with pytest.raises(UserError, match="exists already"):
        extract(base, sick, there, **RANK_4)
    with pytest.raises(UserError) as bad_options:
        extract(base, sick, out, rank=0, retain=1.5, clamp_quantile=2.0, factor=0)
    assert len(bad_options.value.problems) == 4
    wrong: dict[str, Any]
    for wrong in ({"min_diff": math.nan}, {"min_diff": -1.0}, {"factor": 4}, {"seed": 1 << 70}):
        with pytest.raises(UserError, match=r"no difference|does nothing with lora|too large"):
            extract(base, sick, out, rank=2, **wrong)
    with pytest.raises(UserError, match="neither a rank"):
        extract(base, sick, out)
    controls = Controls()
    controls.stop()
    with pytest.raises(Stopped):
        extract(base, sick, out, **RANK_4, controls=controls)
    assert not out.exists()
    assert there.read_bytes() == b"mine"
