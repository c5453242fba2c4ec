"""Contradictions and oddities of adapter types and their options."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorasmith.config.adapter_types import ADAPTERS
from lorasmith.config.checks.adapter import ODDITIES as CHECKS
from lorasmith.config.checks.table import warnings
from lorasmith.config.dump import dump_toml
from lorasmith.config.load import load_settings
from lorasmith.core.errors import SettingsError

CONTRADICTIONS = [
    (["tucker=true"], "tucker", "only locon, loha, lokr have"),
    (["type=loha", "factor=8"], "factor", "loha does not have it; only lokr has"),
    (["type=c3lier", "full_matrix=true"], "full_matrix", "lokr"),
    (["type=oft", "weight_decompose=true"], "weight_decompose", "does not have it"),
    (["type=oft", "scale_weight_norms=1"], "scale_weight_norms", "does not have it"),
    (["train_on_input=true"], "train_on_input", "ia3"),
    (["unit=4"], "unit", "dylora"),
    (["constraint=0.1"], "constraint", "oft, boft"),
    (["min_rank=4"], "min_rank", "only tlora has"),
    (["orthogonal=false"], "orthogonal", "tlora"),
    (["type=tlora", "scale_weight_norms=1"], "scale_weight_norms", "does not have it"),
]


@pytest.mark.parametrize(("assignments", "where", "what"), CONTRADICTIONS)
def test_contradictions(assignments: list[str], where: str, what: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(None, [f"adapter.{item}" for item in assignments])
    (problem,) = caught.value.problems
    assert problem.where.endswith(f"adapter.{where}")
    assert what in str(problem)
    assert problem.hint


ODDITIES = [
    (["rank=8", "alpha=16"], "alpha", "2 times"),
    (["rank=16", "rs_lora=true"], "alpha", "16 is larger than the root of rank 16"),
    (["rank=16", "rs_lora=true", "alpha=8"], "alpha", "2 times"),
    (["type=locon", "rank=8", "conv_alpha=12"], "conv_alpha", "larger than conv_rank 8"),
    (["conv_alpha=1"], "conv_alpha", "no effect while conv_rank is 0"),
    (["type=ia3", "rank=4"], "rank", "ia3 has no rank"),
    (["type=locon", "tucker=true", "conv_rank=0"], "tucker", "no 3x3 convolution"),
    (["type=lokr", "full_matrix=true", "decompose_both=true"], "decompose_both", "no effect"),
    (["type=lokr", "full_matrix=true", "alpha=1"], "alpha", "no rank scales"),
    (["type=loha", "decompose_on_output=true"], "decompose_on_output", "weight_decompose is false"),
    (["type=loha", "rank=64"], "rank", "reaches rank 4096"),
    (["type=lokr", "factor=7"], "factor", "does not divide 320"),
    (["type=c3lier", "conv_rank=0"], "conv_rank", "is lora"),
    (["type=dylora", "rank=4", "unit=4"], "unit", "cannot be cut"),
    (["type=tlora", "rank=4", "min_rank=4"], "min_rank", "noise makes no difference"),
    (["type=ia3"], "optimizer.lr", "low for ia3"),
]


def found(assignments: list[str]) -> dict[str, str]:
    settings = load_settings(None, [f"adapter.{item}" for item in assignments])
    problems = [problem for check in CHECKS for problem in check(settings)]
    assert all(problem.hint for problem in problems)
    return {problem.where.removeprefix("adapter."): problem.what for problem in problems}


@pytest.mark.parametrize(("assignments", "where", "what"), ODDITIES)
def test_oddities(assignments: list[str], where: str, what: str) -> None:
    assert what in found(assignments)[where]


USUAL = [
    *[[f"type={name}"] for name in ADAPTERS if name != "ia3"],
    ["type=dylora", "rank=16", "unit=4"],
    ["type=lokr", "factor=8", "rank=8", "alpha=4"],
    ["type=loha", "rank=8", "alpha=1", "conv_rank=4", "conv_alpha=1", "tucker=true"],
    ["type=c3lier", "rank=32", "alpha=16", "conv_rank=8", "conv_alpha=1"],
    ["type=dora", "weight_decompose=true"],
    ["type=dora", "decompose_on_output=true"],
    ["type=lokr", "weight_decompose=true", "decompose_on_output=true"],
    ["rs_lora=true", "rank=64", "alpha=8"],
]


@pytest.mark.parametrize("assignments", USUAL)
def test_the_usual_is_not_odd(assignments: list[str]) -> None:
    assert not found(assignments)


@pytest.mark.parametrize(
    ("assignments", "rank", "alpha"),
    [
        ([], 0, 16),
        (["conv_rank=4"], 4, 4),
        (["conv_rank=4", "conv_alpha=1"], 4, 1),
        (["type=locon", "rank=8", "alpha=2"], 8, 2),
        (["type=locon", "rank=8", "alpha=2", "conv_rank=4"], 4, 4),
        (["type=locon", "conv_rank=0"], 0, 0),
    ],
)
def test_size_of_convolutions_goes_by_type(assignments: list[str], rank: int, alpha: float) -> None:
    adapter = load_settings(None, [f"adapter.{item}" for item in assignments]).adapter
    assert adapter.effective_conv_rank == rank
    assert adapter.effective_conv_alpha == alpha


# Targets and blocks: spellings, mistakes, what has no effect.


@pytest.mark.parametrize(
    ("assignments", "where", "what"),
    [
        (["optimizer.loraplus_ratio=4", "adapter.type=loha"], "loraplus_ratio", "no up matrix"),
        (["adapter.block_lr_zero_threshold=0.1"], "zero_threshold", "without block weights"),
        (["adapter.targets=attn", "adapter.conv_rank=4"], "conv_rank", "no 3x3 convolution"),
    ],
)
def test_what_has_no_effect_is_said(assignments: list[str], where: str, what: str) -> None:
    problems = warnings(load_settings(None, assignments))
    assert [p for p in problems if p.where.endswith(where) and what in p.what]


@pytest.mark.parametrize(
    ("assignments", "what"),
    [
        (["adapter.targets=te-only", "adapter.text_encoder=false"], "leave nothing to train"),
        (["adapter.blocks=OUTAL"], "did you mean OUTALL"),
        (["adapter.blocks=INX"], "INX:x=0.3"),
        (["adapter.blocks=1,2,3"], "expected 12 values"),
        (["adapter.blocks=IN=-1"], "cannot be multiplied"),
        (["adapter.block_ranks=IN=1.5"], "not a rank"),
        (["adapter.exclude=re:("], "no regular expression"),
    ],
)
def test_mistakes_are_named(assignments: list[str], what: str) -> None:
    with pytest.raises(SettingsError) as error:
        load_settings(None, assignments)
    assert what in str(error.value)


def test_every_way_to_write_blocks_survives_the_settings_file(tmp_path: Path) -> None:
    toml = tmp_path / "run.toml"
    toml.write_text(
        """
        [adapter]
        targets = "attn, unet-only"
        blocks = { rest = 0, up = [1, 1, 1, 0, 0, 0] }
        block_ranks = [4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 8, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4]
        [adapter.block_alphas]
        M00 = 2.5
        """,
        encoding="utf-8",
    )
    settings = load_settings(toml)
    adapter = settings.adapter
    assert adapter.targets == ["attn", "unet-only"]
    assert adapter.block_weights["OUT02"] == 1.0
    assert adapter.block_weights["OUT05"] == adapter.block_weights["IN05"] == 0.0
    assert adapter.parts == {"unet": True, "text_encoder": False}
    again = tmp_path / "again.toml"
    again.write_text(dump_toml(settings), encoding="utf-8")
    assert load_settings(again) == settings


def test_parts_that_blocks_leave_out() -> None:
    def parts(blocks: str) -> dict[str, bool]:
        return load_settings(None, {"adapter.blocks": blocks}).adapter.parts

    assert parts("OUTALL") == {"unet": True, "text_encoder": True}
    assert parts("OUT05") == {"unet": True, "text_encoder": False}
    assert parts("BASE") == {"unet": False, "text_encoder": True}
