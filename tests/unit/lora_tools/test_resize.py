"""Resized files against full singular value decompositions of every layer's change."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from hypothesis import given, settings
from hypothesis import strategies as st
from lycoris.modules.dylora import DyLoraModule
from safetensors import safe_open
from safetensors.torch import load_file
from tests.tolerances import LAYER, assert_near
from tests.unit.lora_tools.changes import (
    CONV,
    LAYERS,
    deltas,
    least_error,
    lora_tensors,
    made_by,
    write,
)
from torch import nn

from lorasmith.core.errors import LoraFileError, Stopped, UserError
from lorasmith.core.events import Controls, Progress
from lorasmith.lora_tools.resize import By, ResizeReport, fill, resize
from lorasmith.tensors.files import PRECISIONS

ALL = LAYERS | CONV
KEY = next(iter(LAYERS))
OURS = "modelspec.implementation_version"
SMALL = {key: (40 + 8 * n, 48) for n, key in enumerate(LAYERS)}


def rule(by: By, value: float) -> dict[str, Any]:
    return {"size_mb" if by == "size" else by: value}


def resized(
    folder: Path, layers: dict[str, tuple[int, ...]], by: By, value: float, **options: object
) -> tuple[Path, Path, ResizeReport]:
    source, out = folder / "in.safetensors", folder / "out.safetensors"
    if not source.exists():
        write(source, lora_tensors(layers, 16, alpha=8))
    report = resize(source, out, **rule(by, value), **options)  # type: ignore[arg-type]
    return source, out, report


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata()


def test_the_least_error_of_the_rank(tmp_path: Path) -> None:
    source, out, report = resized(tmp_path, ALL, "rank", 4)
    before, after = deltas(source, ALL), deltas(out, ALL)
    told = {module.key: module for module in report.modules}
    for key, weight in before.items():
        least = least_error(weight, 4)
        assert float((weight - after[key]).norm()) == pytest.approx(least, rel=1e-6)
        assert told[key].error == pytest.approx(least, rel=1e-6)
        energy = 1 - least**2 / float(weight.norm()) ** 2
        assert told[key].retained == pytest.approx(energy, rel=1e-6)
    tensors = load_file(out)
    assert tensors[f"{next(iter(CONV))}.lora_down.weight"].shape == (4, 320, 3, 3)
    assert tensors[f"{next(iter(CONV))}.lora_up.weight"].shape == (320, 4, 1, 1)
    assert {float(t) for name, t in tensors.items() if name.endswith("alpha")} == {4.0}
    assert report.new_bytes == out.stat().st_size


def test_ranks_by_the_singular_values(tmp_path: Path) -> None:
    """The four rules by their definitions, on full decompositions."""
    source = write(tmp_path / "in.safetensors", lora_tensors(SMALL, 16))
    for by, value in (("ratio", 5.0), ("retain", 0.9), ("cumulative", 0.7)):
        report = resize(source, tmp_path / "x.safetensors", **rule(by, value), dry_run=True)
        ranks = {module.key: module.rank for module in report.modules}
        for key, weight in deltas(source, SMALL).items():
            values = torch.linalg.svdvals(weight)[:16]
            parts = values if by == "cumulative" else values.square()
            goal = (value**2 if by == "retain" else value) * parts.sum()
            wanted = (
                int((values > values[0] / value).sum())
                if by == "ratio"
                else next(n for n in range(1, 17) if parts[:n].sum() >= goal)
            )
            assert ranks[key] == wanted, by
        assert len(set(ranks.values())) > 0
    assert not (tmp_path / "x.safetensors").exists()


@pytest.mark.slow_but_first
@pytest.mark.parametrize(("by", "value"), [("ratio", 1e6), ("retain", 0.99), ("cumulative", 0.95)])
def test_no_module_exceeds_the_most(tmp_path: Path, by: By, value: float) -> None:
    """And those below are as without it, at the least error of their rank."""
    _, _, free = resized(tmp_path, ALL, by, value, dry_run=True)
    source, out, report = resized(tmp_path, ALL, by, value, max_rank=5)
    assert [m.rank for m in report.modules] == [min(m.rank, 5) for m in free.modules]
    assert max(m.rank for m in free.modules) > 5
    before, after = deltas(source, ALL), deltas(out, ALL)
    for module in report.modules:
        error = float((before[module.key] - after[module.key]).norm())
        assert error == pytest.approx(least_error(before[module.key], module.rank), rel=1e-6)


@pytest.mark.parametrize(
    ("by", "value", "most"), [("rank", 4, 8), ("size", 1, 8), ("retain", 0.9, 0)]
)
def test_a_most_that_makes_no_sense(tmp_path: Path, by: By, value: float, most: int) -> None:
    with pytest.raises(UserError, match="--max-rank"):
        resized(tmp_path, SMALL, by, value, max_rank=most)
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_size_is_kept(tmp_path: Path, precision: str) -> None:
    dtype = PRECISIONS[precision]
    size = 0.012 if precision == "fp32" else 0.009
    _, out, report = resized(tmp_path, SMALL, "size", size, precision=precision)
    largest = max(sum(shape) for shape in SMALL.values()) * dtype.itemsize
    assert 0 <= size * 1e6 - out.stat().st_size < largest + 300
    assert report.new_bytes == out.stat().st_size
    assert load_file(out)[f"{next(iter(SMALL))}.lora_up.weight"].dtype == dtype


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_filling_is_the_best_of_its_size(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    numbers = st.floats(0.1, 9)
    values = {
        str(n): torch.tensor(sorted(data.draw(st.lists(numbers, min_size=k, max_size=k)))[::-1])
        for n, k in enumerate(lengths)
    }
    costs = {key: data.draw(st.integers(1, 3)) for key in values}
    ranks = fill(values, costs, data.draw(st.integers(0, 12)))
    used = sum(costs[key] * rank for key, rank in ranks.items())
    gain = sum(float(values[key][:rank].square().sum()) for key, rank in ranks.items())
    worth = [
        float(value) ** 2 / costs[key] for key, own in values.items() for value in own[ranks[key] :]
    ]
    # No choice of ranks of the same bytes beats it by more than what did not fit.
    best = max(
        sum(float(values[k][:n].square().sum()) for k, n in zip(values, choice, strict=True))
        for choice in torch.cartesian_prod(*[torch.arange(len(own) + 1) for own in values.values()])
        .reshape(-1, len(values))
        .tolist()
        if sum(costs[k] * n for k, n in zip(values, choice, strict=True)) <= used
    )
    assert gain >= best - max(worth, default=0.0) * max(costs.values()) - 1e-6


def test_what_has_the_rank_stays_as_it_is(tmp_path: Path) -> None:
    source, out, report = resized(tmp_path, SMALL, "rank", 16)
    before, after = load_file(source), load_file(out)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert {module.how for module in report.modules} == {"kept"}


@pytest.mark.parametrize("algorithm", ["loha", "lokr", "lora"])
def test_other_types_become_loras(tmp_path: Path, algorithm: str) -> None:
    tensors = {
        f"{key}.{name}": tensor
        for key, shape in (SMALL | {next(iter(CONV)): (16, 12, 3, 3)}).items()
        for name, tensor in made_by(algorithm, shape, 4, factor=4, tucker=True).items()
    }
    layers = SMALL | {next(iter(CONV)): (16, 12, 3, 3)}
    metadata = {"ss_network_module": "lycoris.kohya", "ss_network_args": '{"algo": "loha"}'}
    source = write(tmp_path / "in.safetensors", tensors, metadata)
    out = tmp_path / "out.safetensors"
    resize(source, out, rank=3)
    after = deltas(out, layers)
    for key, weight in deltas(source, layers).items():
        error = float((weight - after[key]).norm())
        assert error == pytest.approx(least_error(weight, 3), rel=1e-4)
    if algorithm != "lora":
        assert metadata_of(out)["ss_network_module"] == "networks.lora"
        assert "algo" not in json.loads(metadata_of(out)["ss_network_args"])


def test_a_dora_keeps_its_magnitudes(tmp_path: Path) -> None:
    key, shape = next(iter(SMALL.items()))
    tensors = {f"{key}.{name}": t for name, t in made_by("dora", shape, 8).items()}
    source = write(tmp_path / "in.safetensors", tensors)
    resize(source, tmp_path / "out.safetensors", rank=2, precision="fp16")
    after = load_file(tmp_path / "out.safetensors")
    assert torch.equal(after[f"{key}.dora_scale"], tensors[f"{key}.dora_scale"])
    assert after[f"{key}.lora_down.weight"].shape[0] == 2


@pytest.mark.parametrize(
    ("metadata", "scale"),
    [
        # Trained at alpha / 8 whatever the prefix.
        ({"ss_network_module": "networks.dylora", OURS: "lorasmith/0.1"}, 4 / 8),
        # sd-scripts' own tool leaves alpha as it is, and LyCORIS trains at alpha / length.
        ({"ss_network_module": "networks.dylora"}, 4 / 3),
        ({"ss_network_module": "lycoris.kohya", "ss_network_args": '{"algo": "dylora"}'}, 4 / 3),
    ],
)
def test_a_dylora_is_cut(metadata: dict[str, str], scale: float, tmp_path: Path) -> None:
    tensors = lora_tensors(SMALL, 8, alpha=4.0)
    source = write(tmp_path / "in.safetensors", tensors, metadata)
    report = resize(source, tmp_path / "out.safetensors", rank=3)
    after = deltas(tmp_path / "out.safetensors", SMALL)
    for module in report.modules:
        down = tensors[f"{module.key}.lora_down.weight"].double()
        up = tensors[f"{module.key}.lora_up.weight"].double()
        assert_near(after[module.key], up[:, :3] @ down[:3] * scale, LAYER)
        error = float((up @ down * 0.5 - up[:, :3] @ down[:3] * scale).norm())
        assert (module.how, module.error) == ("cut", pytest.approx(error, rel=1e-6))


def test_a_prefix_of_lycoris_keeps_the_strength_that_it_was_trained_at(tmp_path: Path) -> None:
    module = DyLoraModule("x", nn.Linear(6, 5, bias=False), lora_dim=4, alpha=2, block_size=1)
    for factor in module.parameters():
        nn.init.normal_(factor)
    state = {
        f"{KEY}.{name}": tensor.detach() for name, tensor in module.custom_state_dict().items()
    }
    metadata = {"ss_network_module": "lycoris.kohya", "ss_network_args": '{"algo": "dylora"}'}
    source = write(tmp_path / "in.safetensors", state, metadata)
    resize(source, tmp_path / "out.safetensors", rank=3, precision="fp32")
    after = deltas(tmp_path / "out.safetensors", {KEY: (5, 6)})
    theirs, _ = module.get_diff_weight(rank=2, shape=(5, 6))  # Blocks 0 to 2 are three ranks.
    assert_near(after[KEY].float(), theirs, LAYER)


def test_metadata(tmp_path: Path) -> None:
    old = {
        "ss_network_dim": "16",
        "ss_network_module": "networks.lora",
        "ss_training_comment": "mine",
        "ss_tag_frequency": "{}",
        "sshs_model_hash": "0" * 64,
    }
    source = write(tmp_path / "in.safetensors", lora_tensors(ALL, 16), old)
    resize(source, tmp_path / "a.safetensors", rank=4)
    found = metadata_of(tmp_path / "a.safetensors")
    assert (found["ss_network_dim"], found["ss_network_alpha"]) == ("4", "4.0")
    assert json.loads(found["ss_network_args"]) == {"conv_dim": "4", "conv_alpha": "4.0"}
    assert found["ss_training_comment"].startswith("dimension is resized from 16 to 4")
    assert found["ss_training_comment"].endswith("; mine")
    assert found["sshs_model_hash"] != old["sshs_model_hash"]
    steep = lora_tensors({next(iter(ALL)): ALL[next(iter(ALL))]}, 16, decades=4)
    source = write(tmp_path / "steep.safetensors", {**lora_tensors(ALL, 16), **steep}, old)
    resize(source, tmp_path / "b.safetensors", retain=0.99)
    assert metadata_of(tmp_path / "b.safetensors")["ss_network_dim"] == "Dynamic"


@pytest.mark.parametrize(
    ("by", "value"),
    [("rank", 0), ("ratio", 1.0), ("retain", 1.5), ("cumulative", 0), ("size", 1e-6)],
)
def test_values_that_make_no_sense(tmp_path: Path, by: By, value: float) -> None:
    with pytest.raises(UserError, match=f"--{by}"):
        resized(tmp_path, SMALL, by, value)
    assert not (tmp_path / "out.safetensors").exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    source = write(tmp_path / "in.safetensors", lora_tensors(SMALL, 4))
    before = source.read_bytes()
    with pytest.raises(UserError, match="one of the inputs"):
        resize(source, source, rank=2)
    (tmp_path / "there.safetensors").write_bytes(b"x")
    with pytest.raises(UserError, match="exists already"):
        resize(source, tmp_path / "there.safetensors", rank=2)
    assert source.read_bytes() == before


@pytest.mark.parametrize("module", ["networks.lora", "networks.dylora"])
def test_every_module_with_nan_is_named(tmp_path: Path, module: str) -> None:
    tensors = lora_tensors(SMALL, 4)
    keys = list(SMALL)
    tensors[f"{keys[0]}.lora_up.weight"][0, 0] = math.nan
    tensors[f"{keys[2]}.lora_down.weight"][1, 1] = math.inf
    source = write(tmp_path / "in.safetensors", tensors, {"ss_network_module": module})
    with pytest.raises(LoraFileError) as caught:
        resize(source, tmp_path / "out.safetensors", rank=2)
    assert [problem.what.partition(":")[0] for problem in caught.value.problems] == [
        keys[0],
        keys[2],
    ]
    assert not (tmp_path / "out.safetensors").exists()


def test_mixed_precisions_and_missing_alphas(tmp_path: Path) -> None:
    tensors = lora_tensors(SMALL, 4, alpha=2.0)
    keys = list(SMALL)
    tensors[f"{keys[0]}.lora_up.weight"] = tensors[f"{keys[0]}.lora_up.weight"].half()
    tensors[f"{keys[1]}.lora_down.weight"] = tensors[f"{keys[1]}.lora_down.weight"].bfloat16()
    del tensors[f"{keys[2]}.alpha"]
    source = write(tmp_path / "in.safetensors", tensors)
    resize(source, tmp_path / "out.safetensors", rank=2)
    after = deltas(tmp_path / "out.safetensors", SMALL)
    for key, weight in deltas(source, SMALL).items():
        error = float((weight - after[key]).norm())
        assert error == pytest.approx(least_error(weight, 2), rel=1e-5)


def test_stopped_in_the_middle(tmp_path: Path) -> None:
    controls, seen = Controls(), []

    def observe(event: object) -> None:
        seen.append(event)
        if len(seen) == 2:
            controls.stop()

    with pytest.raises(Stopped):
        resized(tmp_path, SMALL, "rank", 4, observer=observe, controls=controls)
    assert seen[1] == Progress("resizing", 2, 4)
    assert [path.name for path in tmp_path.iterdir()] == ["in.safetensors"]


def test_diffusers_gives_the_unet_the_resized_weights(tmp_path: Path) -> None:
    unet = UNet2DConditionModel(
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=32,
        attention_head_dim=8,
        norm_num_groups=8,
    )
    paths = {
        "lora_unet_mid_block_attentions_0_proj_in": "mid_block.attentions.0.proj_in",
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k":
            "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k",
        "lora_unet_up_blocks_0_resnets_0_conv1": "up_blocks.0.resnets.0.conv1",
    }  # fmt: skip
    layers = {key: tuple(unet.get_submodule(path).weight.shape) for key, path in paths.items()}
    source = write(tmp_path / "in.safetensors", lora_tensors(layers, 8, alpha=4))
    resize(source, tmp_path / "out.safetensors", rank=3)
    plain = {key: unet.get_submodule(path).weight.clone() for key, path in paths.items()}
    tensors, alphas = StableDiffusionPipeline.lora_state_dict(str(tmp_path / "out.safetensors"))
    StableDiffusionPipeline.load_lora_into_unet(tensors, alphas, unet)
    unet.fuse_lora()
    for key, weight in deltas(tmp_path / "out.safetensors", layers).items():
        layer = unet.get_submodule(paths[key])
        fused = (layer.base_layer if hasattr(layer, "base_layer") else layer).weight
        assert_near((fused - plain[key]).flatten(1), weight.float(), LAYER)


def test_the_size_that_is_advised_works(tmp_path: Path) -> None:
    source = write(tmp_path / "in.safetensors", lora_tensors(SMALL, 8))
    with pytest.raises(UserError, match="or more") as refused:
        resize(source, tmp_path / "out.safetensors", size_mb=0.0001)
    advised = float(str(refused.value).split("choose ")[1].split(" or more")[0])
    report = resize(source, tmp_path / "out.safetensors", size_mb=advised)
    assert report.new_bytes <= advised * 1e6


@pytest.mark.parametrize("args", ["None", "[1]", "--x", '"x"'])
def test_other_programs_arguments_are_no_reason_to_refuse(tmp_path: Path, args: str) -> None:
    source = write(tmp_path / "in.safetensors", lora_tensors(SMALL, 8), {"ss_network_args": args})
    assert resize(source, tmp_path / "out.safetensors", rank=2).written
