"""Every type of adapter, with its main options, trains, is saved, loads and can be continued."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file
from tests.recipes.matrix import learns, result_of

from lorasmith.config.adapter_types import ADAPTERS

CASES: dict[str, dict[str, str]] = {
    "lora": {},
    "rsLoRA": {"adapter.rs_lora": "true", "adapter.alpha": "2"},
    "c3lier": {"adapter.type": "c3lier", "adapter.conv_rank": "2", "adapter.conv_alpha": "1"},
    "locon": {"adapter.type": "locon"},
    "locon, Tucker": {"adapter.type": "locon", "adapter.tucker": "true"},
    "dora": {"adapter.type": "dora"},
    "loha": {"adapter.type": "loha"},
    "loha, Tucker": {
        "adapter.type": "loha",
        "adapter.tucker": "true",
        "adapter.weight_decompose": "true",
    },
    "lokr": {"adapter.type": "lokr"},
    "lokr, factor": {"adapter.type": "lokr", "adapter.factor": "4", "adapter.tucker": "true"},
    "lokr, full": {"adapter.type": "lokr", "adapter.full_matrix": "true"},
    "lokr, both": {
        "adapter.type": "lokr",
        "adapter.rank": "2",
        "adapter.factor": "8",
        "adapter.decompose_both": "true",
        "adapter.weight_decompose": "true",
    },
    "ia3": {"adapter.type": "ia3", "optimizer.lr": "1e-2"},
    "dylora": {"adapter.type": "dylora", "adapter.unit": "2", "adapter.conv_rank": "4"},
    "tlora": {"adapter.type": "tlora"},
    "tlora, not orthogonal": {"adapter.type": "tlora", "adapter.orthogonal": "false"},
    "oft": {"adapter.type": "oft", "adapter.constraint": "0.1", "adapter.rescaled": "true"},
    "boft": {"adapter.type": "boft", "optimizer.lr": "3e-4"},
}

# A tensor that only files of the type, or with the option, have.
MARKS = {
    "c3lier": "conv1.lora_down.weight",
    "locon": "conv1.lora_down.weight",
    "locon, Tucker": "lora_mid.weight",
    "dora": "dora_scale",
    "loha": "hada_w1_a",
    "loha, Tucker": "hada_t1",
    "lokr": "lokr_w1",
    "lokr, factor": "lokr_t2",
    "lokr, full": "lokr_w2",
    "lokr, both": "lokr_w1_a",
    "ia3": "on_input",
    "dylora": "conv1.lora_up.weight",
    "oft": "rescale",
    "boft": "oft_blocks",
}


@pytest.mark.broad_beyond(8)
@pytest.mark.slow_but_first
@pytest.mark.parametrize("name", CASES)
def test_learns(name: str, tmp_path: Path) -> None:
    run = learns(tmp_path, CASES[name], continued=True)
    names = load_file(result_of(run))
    if name in MARKS:
        assert any(tensor.endswith(MARKS[name]) for tensor in names)


def test_every_type_is_trained() -> None:
    assert {case.get("adapter.type", "lora") for case in CASES.values()} == set(ADAPTERS)


DROPOUTS = ("adapter.dropout", "adapter.rank_dropout", "adapter.module_dropout")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dora", "lokr"])
def test_learns_with_dropouts_and_limited_norms(kind: str, tmp_path: Path) -> None:
    learns(
        tmp_path,
        {
            "adapter.type": kind,
            "adapter.scale_weight_norms": "0.05",
            **dict.fromkeys(DROPOUTS, "0.1"),
        },
    )
