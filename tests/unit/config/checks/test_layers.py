"""Settings of targets and blocks: spellings, mistakes, what has no effect."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorasmith.config.checks.table import warnings
from lorasmith.config.dump import dump_toml
from lorasmith.config.load import load_settings
from lorasmith.core.errors import SettingsError


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
