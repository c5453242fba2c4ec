"""What does not go with full fine-tuning, said before anything is loaded."""

from __future__ import annotations

import pytest

from lorasmith.config.checks import table
from lorasmith.config.load import load_settings
from lorasmith.core.errors import SettingsError

FULL = "train.kind=full"
FUSED = "full.fused_backward=true"
BF16 = ("full.weights=bf16", "train.precision=bf16")


@pytest.mark.parametrize(
    ("overrides", "where", "what"),
    [
        (["full.unet=false"], "full", "nothing to train"),
        (["optimizer.lr=0"], "optimizer.lr", "nothing would change"),
        ([*BF16, "optimizer.lr=find"], "optimizer.lr", "bfloat16 weights"),
        (["full.weights=bf16"], "full.weights", "train.precision is auto"),
        ([*BF16, "optimizer.name=Prodigy"], "full.weights", "one step size for all"),
        ([FUSED, "optimizer.name=AdamWScheduleFree"], "full.fused_backward", "apart from"),
        ([FUSED, "train.accumulation=2"], "full.fused_backward", "accumulation sums 2"),
        ([FUSED, "preservation.enabled=true"], "full.fused_backward", "preservation"),
        ([FUSED, "train.precision=fp16"], "full.fused_backward", "overflows"),
        (["train.base_precision=nf4"], "train.base_precision", "are trained"),
        (["performance.offload_blocks=4"], "performance.offload_blocks", "are trained"),
        (["save.precision=fp32"], "save.precision", "the base's own"),
    ],
)
def test_what_cannot_be_meant(overrides: list[str], where: str, what: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(None, [FULL, *overrides])
    (problem,) = caught.value.problems
    assert problem.where.endswith(where)
    assert what in problem.what
    assert problem.hint


@pytest.mark.parametrize(
    "overrides",
    [
        ["train.stop=best", "optimizer.lr=find"],
        [*BF16, FUSED, "optimizer.name=AdaFactor"],
        ["full.unet=false", "full.text_encoder=true", "train.base_precision=fp8"],
        ["optimizer.name=Prodigy", "optimizer.lr=1", "schedule.name=constant"],
    ],
)
def test_what_goes_together(overrides: list[str]) -> None:
    assert not table.contradictions(load_settings(None, [FULL, *overrides]))


@pytest.mark.parametrize(
    ("overrides", "where", "what"),
    [
        ([FULL, "adapter.rank=8"], "adapter.rank", "train.kind is full"),
        (["full.text_encoder=true"], "full.text_encoder", "train.kind is lora"),
        ([FULL, FUSED], "full.fused_backward", "each weight's gradient by itself"),
        ([FULL, "optimizer.lr=1e-3"], "optimizer.lr", "a LoRA's"),
        ([FULL, "optimizer.loraplus_ratio=4"], "optimizer.loraplus_ratio", "no up matrix"),
        ([FULL, "optimizer.text_encoder_lr=1e-6"], "optimizer.text_encoder_lr",
         "full.text_encoder is false"),
    ],
)  # fmt: skip
def test_what_is_odd(overrides: list[str], where: str, what: str) -> None:
    if not any(one.startswith("optimizer.lr") for one in overrides):
        overrides = [*overrides, "optimizer.lr=1e-5"]
    (problem,) = table.warnings(load_settings(None, overrides))
    assert problem.where == where
    assert what in problem.what
