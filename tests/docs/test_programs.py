"""The programs that pages and docstrings show run as they stand."""

from __future__ import annotations

import doctest
import importlib
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.docs.test_docs import PAGES

from lorasmith.adapters.file import save_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.core.files import ASSETS, read_safetensors_header
from lorasmith.demo.character import write_training_set
from lorasmith.models.load import load_model

SOURCE = Path(__file__).parents[2] / "src"
# Programs that build on one another, need a captioner or a notebook, run in test_library_page.py,
# test_caption_page.py and test_notebook.py.
ELSEWHERE = ("library.md", "dataset-caption.md", "notebooks.md")
OTHERS = [page for page in PAGES if page.name not in ELSEWHERE and "```python" in page.read_text()]
SHORTER = {"range(16)": "range(1)"}
"""What a page does often is done once."""

MODULES = [
    ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    for path in sorted((SOURCE / "lorasmith").rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]
OF_FILES = [name for name in MODULES if name.startswith("lorasmith.lora_tools")]


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    """A LoRA of rank 4 for the small model, of random numbers."""
    network = AdapterNetwork.create(load_model("demo").adapter_roots(), rank=4)
    return {
        name: 0.1 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(number))
        for number, (name, tensor) in enumerate(network.state_dict().items())
    }


@pytest.fixture
def files(
    tensors: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files that they name, in the current folder."""
    monkeypatch.chdir(tmp_path)
    epochs = [f"runs/zorp/zorp-{epoch:06d}" for epoch in range(1, 9)]
    for name in ("a", "b", "zorp", "style", "character", "runs/zorp/zorp", *epochs):
        save_lora(tmp_path / f"{name}.safetensors", tensors, {})
    for name in ("pictures", "zorps"):
        write_training_set(tmp_path / name, images=3, regularisation=1)
    shutil.copyfile(ASSETS / "demo_base.safetensors", tmp_path / "base.safetensors")
    tuned = load_file(tmp_path / "base.safetensors")
    name = next(name for name in tuned if name.endswith("to_q.weight"))
    metadata = read_safetensors_header(tmp_path / "base.safetensors").metadata
    save_file(tuned | {name: 1.5 * tuned[name]}, tmp_path / "tuned.safetensors", metadata)


@pytest.mark.slow_but_first
@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("page", OTHERS, ids=lambda page: page.name)
def test_programs_of_pages_run(page: Path) -> None:
    names: dict[str, object] = {}
    for program in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        for long, short in SHORTER.items():
            program = program.replace(long, short)
        exec(compile(program, page.name, "exec"), names)


def test_there_are_programs() -> None:
    assert len(OTHERS) >= 4
    assert len(MODULES) >= 4


@pytest.mark.parametrize("name", [name for name in MODULES if name not in OF_FILES])
def test_docstrings_show_what_is_so(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.slow_but_first
@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("name", OF_FILES)
def test_docstrings_of_file_tools_run(name: str) -> None:
    module = importlib.import_module(name)
    tests = [test for test in doctest.DocTestFinder().find(module) if test.examples]
    assert tests
    for test in tests:
        for example in test.examples:
            exec(compile(example.source, name, "exec"), test.globs)
