"""Merged files against the sums of the changes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
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

from lorasmith.core.errors import LoraFileError, Stopped, UserError
from lorasmith.core.events import Controls
from lorasmith.lora_tools.inputs import parse_sources
from lorasmith.lora_tools.merge import MergeReport, Method, merge

ALL = LAYERS | CONV
SMALL: dict[str, tuple[int, ...]] = {key: (40 + 8 * n, 48) for n, key in enumerate(LAYERS)}
UNET = [key for key in SMALL if key.startswith("lora_unet")]
TE = next(key for key in SMALL if key.startswith("lora_te"))


def two(folder: Path, layers: dict[str, tuple[int, ...]] = SMALL) -> tuple[Path, Path]:
    """Of ranks 8 and 5, with other alphas; one has no alphas at all."""
    first = write(folder / "a.safetensors", lora_tensors(layers, 8, alpha=4, seed=1))
    return first, write(folder / "b.safetensors", lora_tensors(layers, 5, seed=2))


def merged(
    folder: Path, texts: list[str], method: Method = "concat", rank: int | None = None, **more: int
) -> tuple[Path, MergeReport]:
    out = folder / "out.safetensors"
    out.unlink(missing_ok=True)
    sources = parse_sources([str(folder / text) for text in texts])
    return out, merge(sources, out, method=method, rank=rank, **more)


def test_concatenation_is_the_sum(tmp_path: Path) -> None:
    a, b = (deltas(path, ALL) for path in two(tmp_path, ALL))
    out, report = merged(tmp_path, ["a.safetensors:0.8", "b.safetensors:-0.5"])
    for key, weight in deltas(out, ALL).items():
        expected = 0.8 * a[key] - 0.5 * b[key]
        assert_near(weight, expected, LAYER, dtype=torch.float32)
    assert {module.rank for module in report.modules} == {13}
    assert {module.ranks for module in report.modules} == {(8, 5)}
    assert report.new_bytes == out.stat().st_size


def test_one_file_at_weight_one_keeps_its_numbers(tmp_path: Path) -> None:
    write(tmp_path / "a.safetensors", lora_tensors(SMALL, 8, alpha=8))
    out, _ = merged(tmp_path, ["a.safetensors"])
    before, after = load_file(tmp_path / "a.safetensors"), load_file(out)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("rank", [1, 6, 12, 40])
def test_the_best_sum_of_a_rank(tmp_path: Path, rank: int) -> None:
    layers = ALL if rank == 6 else SMALL
    a, b = (deltas(path, layers) for path in two(tmp_path, layers))
    out, report = merged(tmp_path, ["a.safetensors", "b.safetensors:0.7"], "svd", rank)
    told = {module.key: module for module in report.modules}
    for key, weight in deltas(out, layers).items():
        expected = a[key] + 0.7 * b[key]
        least = least_error(expected, rank) if rank < 13 else 0.0
        error = float((weight - expected).norm())
        assert error == pytest.approx(least, rel=1e-6, abs=1e-6 * float(expected.norm()))
        assert told[key].norm == pytest.approx(float(expected.norm()), rel=1e-6)
        assert told[key].rank == min(rank, 13)


def test_a_sum_of_many_ranks_is_no_larger_than_the_weight(tmp_path: Path) -> None:
    layers = {UNET[0]: (24, 20)}
    paths = [
        write(tmp_path / f"{n}.safetensors", lora_tensors(layers, 9, seed=n)) for n in range(3)
    ]
    out, report = merged(tmp_path, [path.name for path in paths])
    assert report.modules[0].rank == 20
    expected = sum(deltas(path, layers)[UNET[0]] for path in paths)
    assert_near(deltas(out, layers)[UNET[0]], expected, LAYER, dtype=torch.float32)


def test_an_average_divides_by_the_weights(tmp_path: Path) -> None:
    a, b = (deltas(path, SMALL) for path in two(tmp_path))
    out, _ = merged(tmp_path, ["a.safetensors:3", "b.safetensors:1"], "average")
    for key, weight in deltas(out, SMALL).items():
        assert_near(weight, 0.75 * a[key] + 0.25 * b[key], LAYER, dtype=torch.float32)
    with pytest.raises(UserError, match="add up to 0"):
        merged(tmp_path, ["a.safetensors:1", "b.safetensors:-1"], "average")


def test_parts_and_blocks(tmp_path: Path) -> None:
    a, b = (deltas(path, SMALL) for path in two(tmp_path))
    texts = ["a.safetensors:unet=1:te=0", "b.safetensors:0.5:lbw=MIDD"]
    out, _ = merged(tmp_path, texts)
    found = deltas(out, SMALL)
    into, middle, last = UNET
    expected = {into: a[into], middle: a[middle] + 0.5 * b[middle], last: a[last], TE: 0.5 * b[TE]}
    assert found.keys() == expected.keys()
    for key, weight in expected.items():
        assert_near(found[key], weight, LAYER, dtype=torch.float32)
    assert load_file(out)[f"{into}.lora_down.weight"].shape[0] == 8


def test_other_types_are_added_as_they_are(tmp_path: Path) -> None:
    layers = SMALL | {next(iter(CONV)): (16, 12, 3, 3)}
    expected: dict[str, torch.Tensor] = {}
    for kind in ("lora", "loha", "lokr"):
        tensors = {
            f"{key}.{name}": tensor
            for key, shape in layers.items()
            for name, tensor in made_by(kind, shape, 3, factor=4).items()
        }
        path = write(tmp_path / f"{kind}.safetensors", tensors)
        for key, weight in deltas(path, layers).items():
            expected[key] = expected.get(key, 0.0) + weight  # type: ignore[arg-type]
    texts = ["lora.safetensors", "loha.safetensors", "lokr.safetensors"]
    out, _ = merged(tmp_path, texts)
    for key, weight in deltas(out, layers).items():
        assert_near(weight, expected[key], LAYER, dtype=torch.float32)
    out, _ = merged(tmp_path, texts, "svd", 5)
    for key, weight in deltas(out, layers).items():
        error = float((weight - expected[key]).norm())
        assert error == pytest.approx(least_error(expected[key], 5), rel=1e-4)


@pytest.mark.parametrize("method", ["ties", "dare"])
def test_interference_is_cut_to_the_rank(tmp_path: Path, method: Method) -> None:
    two(tmp_path)
    texts = ["a.safetensors", "b.safetensors"]
    out, report = merged(tmp_path, texts, method)
    first = out.read_bytes()
    assert {module.rank for module in report.modules} == {8}  # the largest of the files
    assert all(0 < module.retained < 1 for module in report.modules)
    assert merged(tmp_path, texts, method)[0].read_bytes() == first
    if method == "dare":
        assert merged(tmp_path, texts, method, seed=1)[0].read_bytes() != first


def test_ties_of_one_file_untrimmed_is_the_file(tmp_path: Path) -> None:
    a, _ = two(tmp_path)
    out, _ = merged(tmp_path, ["a.safetensors"], "ties", density=1)
    for key, weight in deltas(out, SMALL).items():
        assert_near(weight, deltas(a, SMALL)[key], LAYER, dtype=torch.float32)


def test_names_of_two_styles_meet(tmp_path: Path) -> None:
    a, _ = two(tmp_path)
    key = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    long = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    own = lora_tensors({key: SMALL[key]}, 3, seed=4)
    down, up = own[f"{key}.lora_down.weight"], own[f"{key}.lora_up.weight"]
    write(
        tmp_path / "d.safetensors",
        {f"{long}.lora_A.weight": down, f"{long}.lora_B.weight": up},
    )
    out, _ = merged(tmp_path, ["a.safetensors", "d.safetensors"])
    expected = deltas(a, SMALL)[key] + up.double() @ down.double()
    assert_near(deltas(out, SMALL)[key], expected, LAYER, dtype=torch.float32)


def test_metadata(tmp_path: Path) -> None:
    base = {"ss_base_model_version": "sd_v1", "ss_v2": "False", "ss_learning_rate": "1e-4"}
    tags = [{"1_a": {"cat": 3, "red": 1}}, {"1_a": {"cat": 2}, "2_b": {"dog": 5}}]
    for name, seed, frequency in (("a", 1, tags[0]), ("b", 2, tags[1])):
        metadata = {
            **base,
            "ss_tag_frequency": json.dumps(frequency),
            "ss_sd_model_name": name,
            "modelspec.sai_model_spec": "1.0.1",
            "sshs_model_hash": name * 64,
        }
        write(tmp_path / f"{name}.safetensors", lora_tensors(SMALL, 4, seed=seed), metadata)
    out, _ = merged(tmp_path, ["a.safetensors:0.5", "b.safetensors:1:0"], "svd", 4)
    with safe_open(out, "pt") as file:
        found = file.metadata()
    assert json.loads(found["ss_tag_frequency"]) == {
        "1_a": {"cat": 5, "red": 1},
        "2_b": {"dog": 5},
    }
    assert found["ss_base_model_version"] == "sd_v1"
    assert found["ss_network_module"] == "networks.lora"
    assert (found["ss_network_dim"], found["ss_network_alpha"]) == ("4", "4.0")
    assert not found.keys() & {"ss_sd_model_name", "ss_learning_rate"}
    assert "a (0.5), b (unet 1, te 0)" in found["ss_training_comment"]
    assert found["modelspec.merged_from"] == "a, b"
    files = json.loads(found["lorasmith.merged_from"])["files"]
    assert [file["sshs_model_hash"][0] for file in files] == ["a", "b"]
    assert found["modelspec.hash_sha256"] == f"0x{found['sshs_model_hash']}"


def test_files_of_several_precisions_make_fp32(tmp_path: Path) -> None:
    two(tmp_path)
    half = {name: t.half() for name, t in lora_tensors(SMALL, 4, alpha=4).items()}
    write(tmp_path / "h.safetensors", half)
    out, _ = merged(tmp_path, ["a.safetensors", "h.safetensors"])
    assert {tensor.dtype for tensor in load_file(out).values()} == {torch.float32}
    out, _ = merged(tmp_path, ["h.safetensors", "h.safetensors"])
    assert {tensor.dtype for tensor in load_file(out).values()} == {torch.float16}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "svd", "rank": 0}, "not a rank"),
        ({"method": "concat", "rank": 4}, "every rank"),
        ({"method": "ties", "density": 0.0}, "no share"),
        ({"method": "svd", "rank": 2, "density": 0.5}, "--density: does nothing with svd"),
        ({"method": "ties", "seed": 1}, "--seed: does nothing with ties"),
        ({"method": "dare", "seed": 1 << 70}, "--seed: 1180591620717411303424 is too large"),
        ({"method": "mean"}, "there is no 'mean'"),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    a, b = two(tmp_path)
    with pytest.raises(UserError, match=said):
        merge(parse_sources([str(a), str(b)]), tmp_path / "out.safetensors", **options)


def test_files_that_cannot_be_merged(tmp_path: Path) -> None:
    two(tmp_path)
    dora = {f"{UNET[0]}.{n}": t for n, t in made_by("dora", SMALL[UNET[0]]).items()}
    write(tmp_path / "dora.safetensors", dora)
    with pytest.raises(LoraFileError, match="length of the base model's weight"):
        merged(tmp_path, ["a.safetensors", "dora.safetensors"])
    for names, can_be_baked in ((("oft_blocks",), True), (("oft_diag",), False)):
        tensors = {f"{UNET[0]}.{name}": torch.ones(4, 10, 10) for name in names}
        write(tmp_path / "other.safetensors", tensors)
        with pytest.raises(LoraFileError) as refused:
            merged(tmp_path, ["a.safetensors", "other.safetensors"])
        assert ("or bake it" in str(refused.value)) == can_be_baked
    write(tmp_path / "wide.safetensors", lora_tensors({UNET[0]: (40, 99)}, 4))
    with pytest.raises(LoraFileError, match=r"of 40 x 99, but a.* one of 40 x 48"):
        merged(tmp_path, ["a.safetensors", "wide.safetensors"])
    xl = lora_tensors({"lora_unet_input_blocks_4_1_proj_in": (40, 48)}, 4)
    write(tmp_path / "xl.safetensors", xl)
    with pytest.raises(LoraFileError, match="LoRA of SDXL"):
        merged(tmp_path, ["a.safetensors", "xl.safetensors"])
    bad = lora_tensors(SMALL, 4)
    bad[f"{UNET[1]}.lora_up.weight"][0, 0] = math.nan
    write(tmp_path / "bad.safetensors", bad)
    for method in ("concat", "svd", "ties"):
        with pytest.raises(LoraFileError, match=rf"bad.safetensors: {UNET[1]}: holds NaN"):
            merged(tmp_path, ["a.safetensors", "bad.safetensors"], method)
    with pytest.raises(UserError, match="every weight is 0"):
        merged(tmp_path, ["a.safetensors:0"])
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes()[:999])
    with pytest.raises(LoraFileError) as caught:
        merged(tmp_path, ["missing.safetensors", "cut.safetensors"])
    assert len(caught.value.problems) == 2
    assert not (tmp_path / "out.safetensors").exists()


def test_blocks_that_are_guessed_are_told(tmp_path: Path) -> None:
    """A model of no published width may have other levels."""
    for width, told in ((32, True), (768, False)):
        layers = {UNET[0].replace("attn1_to_q", "attn2_to_k"): (40, width)}
        source = write(tmp_path / f"{width}.safetensors", lora_tensors(layers, 2))
        seen: list[object] = []
        merge(
            parse_sources([str(source)]),
            tmp_path / f"out{width}.safetensors",
            observer=seen.append,
        )
        assert any("numbered as in SD1" in str(event) for event in seen) == told


def test_stopped_in_the_middle(tmp_path: Path) -> None:
    a, _ = two(tmp_path)
    controls = Controls()
    with pytest.raises(Stopped):
        merge(
            parse_sources([str(a)]),
            tmp_path / "out.safetensors",
            observer=lambda _: controls.stop(),
            controls=controls,
        )
    assert not (tmp_path / "out.safetensors").exists()
