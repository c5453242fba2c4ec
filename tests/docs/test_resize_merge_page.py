"""The commands of docs/file-tools-resize-merge.md run."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.docs.test_docs import command_lines
from tests.unit.lora_tools.changes import lora_tensors, write

from lorasmith.cli.main import cli

PAGE = Path(__file__).parents[2] / "docs" / "file-tools-resize-merge.md"
LAYERS = {
    f"lora_unet_up_blocks_{level}_attentions_0_transformer_blocks_0_attn1_to_q": (320, 320)
    for level in (1, 2, 3)
} | {"lora_te_text_model_encoder_layers_0_self_attn_q_proj": (768, 768)}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("style", "character")):
        write(tmp_path / f"{name}.safetensors", lora_tensors(LAYERS, 32, seed=seed))


@pytest.mark.usefixtures("files")
def test_its_commands_run() -> None:
    lines = list(command_lines(PAGE.read_text(encoding="utf-8")))
    assert len(lines) >= 9
    for line in lines:
        result = CliRunner().invoke(cli, shlex.split(line)[1:])
        assert result.exit_code == 0, f"{line}\n{result.output}"
