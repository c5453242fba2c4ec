"""Each type's change in factors against the adapter's own weight."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.tolerances import LAYER, assert_near
from tests.unit.lora_tools.changes import delta, made_by, write

from lorasmith.lora_tools.linalg.factorize import NotLowRank, change_of, kernels_of, low_rank_part
from lorasmith.lora_tools.linalg.low_rank import Kronecker
from lorasmith.lora_tools.lora_file import as_module, read_modules

LINEAR, POINT, CONV = (48, 40), (48, 40, 1, 1), (24, 20, 3, 3)
KEY = "lora_unet_mid_block_attentions_0_proj_in"
CONV_KEY = "lora_unet_mid_block_resnets_0_conv1"

CASES = [
    ("lora", LINEAR, {}),
    ("lora", POINT, {}),
    ("lora", CONV, {}),
    ("lora", CONV, {"tucker": True}),
    ("loha", LINEAR, {}),
    ("loha", CONV, {}),
    ("loha", CONV, {"tucker": True}),
    ("lokr", LINEAR, {"factor": 4}),
    ("lokr", LINEAR, {"full_matrix": True}),
    ("lokr", LINEAR, {"factor": 4, "decompose_both": True}),
    ("lokr", CONV, {"factor": 4}),
    ("lokr", CONV, {"factor": 2, "tucker": True}),
]


@pytest.mark.parametrize(("algorithm", "shape", "options"), CASES)
@pytest.mark.parametrize("rank", [2, 5])
def test_the_change_is_the_adapters(
    algorithm: str, shape: tuple[int, ...], options: dict[str, object], rank: int
) -> None:
    tensors = made_by(algorithm, shape, rank, **options)
    module = as_module(KEY, tensors)
    change = change_of(module)
    expected = delta(shape, tensors)
    # A plain LoRA is multiplied out in float64, others by their adapters in float32.
    dtype = None if algorithm == "lora" and not options else torch.float32
    assert_near(change.dense(), expected, LAYER, dtype=dtype)
    assert isinstance(change, Kronecker) == (algorithm == "lokr")
    assert change.norm() == pytest.approx(float(expected.norm()), rel=1e-5)
    values = change.decompose().values
    full = torch.linalg.svdvals(expected)[: len(values)]
    assert_near(values, full, LAYER, dtype=dtype)


def test_a_small_loha_is_of_the_rank_squared() -> None:
    assert change_of(as_module(KEY, made_by("loha", LINEAR, 3))).rank == 9


def test_a_whole_difference_is_itself() -> None:
    difference = torch.randn(12, 5, 3, 3)
    assert_near(
        change_of(as_module(KEY, {"diff": difference})).dense().float(),
        difference.flatten(1),
        LAYER,
    )


@pytest.mark.parametrize(
    ("algorithm", "reason"),
    [("dora", "length of the base"), ("ia3", "base model"), ("oft", "base model")],
)
def test_what_needs_the_base_model_says_so(algorithm: str, reason: str) -> None:
    with pytest.raises(NotLowRank, match=reason):
        change_of(as_module(KEY, made_by(algorithm, LINEAR)))


def test_the_low_rank_part_of_a_dora_is_its_loras() -> None:
    tensors = made_by("dora", LINEAR)
    plain = {name: t for name, t in tensors.items() if name != "dora_scale"}
    assert_near(
        low_rank_part(as_module(KEY, tensors)).dense(),
        change_of(as_module(KEY, plain)).dense(),
        LAYER,
    )


@pytest.mark.parametrize("algorithm", ["lora", "loha", "lokr"])
def test_kernels_by_shape_or_name(tmp_path: Path, algorithm: str) -> None:
    modules = {KEY: (POINT, (1, 1)), CONV_KEY: (CONV, (3, 3)), f"{KEY}_to_q": (LINEAR, ())}
    tensors = {
        f"{key}.{name}": tensor
        for key, (shape, _) in modules.items()
        for name, tensor in made_by(algorithm, shape).items()
    }
    found = kernels_of(read_modules(write(tmp_path / "a.safetensors", tensors)))
    assert found == {key: kernel for key, (_, kernel) in modules.items()}
