"""What is no LoRA is told of before a base model is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.made_up_runs import write_run

from lorasmith.advice.diagnose.subject import open_subject
from lorasmith.core.errors import LoraFileError, RunError

MISSING = {"model": "no-such-model.safetensors"}


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        ({"train.kind": "embedding"}, "lorasmith pick"),
        ({"train.kind": "full"}, "lorasmith pick"),
        ({"train.kind": "embedding", "embedding.negative": "true"}, ""),
    ],
)
def test_runs_of_other_kinds(tmp_path: Path, settings: dict[str, str], hint: str) -> None:
    run = write_run(tmp_path / "zorp", **MISSING, **settings)
    with pytest.raises(RunError, match="not a LoRA's run") as caught:
        open_subject(run)
    (problem,) = caught.value.problems
    assert problem.hint.startswith(hint)
    assert bool(problem.hint) == bool(hint)


def test_an_embeddings_file(tmp_path: Path) -> None:
    path = tmp_path / "zorp.safetensors"
    save_file({"emb_params": torch.zeros(2, 8)}, path)
    with pytest.raises(LoraFileError, match="embedding, not a LoRA"):
        open_subject(path, **MISSING)
