"""The programs of docs/library.md run, one after the other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from lorasmith.adapters.file import save_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.models.load import load_model

PAGE = Path(__file__).parents[2] / "docs" / "library.md"


def test_its_programs_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    network = AdapterNetwork.create(load_model("demo").adapter_roots(), rank=4)
    tensors = {
        name: 0.1 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(number))
        for number, (name, tensor) in enumerate(network.state_dict().items())
    }
    save_lora(Path("zorp.safetensors"), tensors, {"ss_tag_frequency": '{"a": {"zorp": 3}}'})
    (tmp_path / "runs").mkdir()
    save_lora(Path("runs", "zorp.safetensors"), tensors, {})
    train, *others = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    compile(train, str(PAGE), "exec")
    names: dict[str, Any] = {"Path": Path}
    for program in others:
        exec(program, names)
    assert len(list(tmp_path.glob("zorp-*.png"))) == 4
    assert {"small", "both", "baked", "found"} <= {path.stem for path in Path().glob("*.saf*")}
