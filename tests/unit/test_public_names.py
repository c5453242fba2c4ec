"""The library's front door."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import lorasmith


def test_type_checkers_are_told_the_same_names() -> None:
    tree = ast.parse(Path(lorasmith.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    told = {
        node.names[0].asname: node.module for node in block.body if isinstance(node, ast.ImportFrom)
    }
    assert told == {name: f"lorasmith.{home}" for name, home in lorasmith._HOMES.items()}


def test_every_public_name_is_there_and_sorted() -> None:
    names = lorasmith.__all__[1:]
    assert names == sorted(names)
    for name in names:
        found = getattr(lorasmith, name)
        assert found.__name__ == name
        assert found.__module__.startswith("lorasmith.")


def test_unknown_names_are_refused() -> None:
    assert not hasattr(lorasmith, "traim")


def test_importing_it_imports_nothing_else() -> None:
    code = "import lorasmith, sys; assert not {'torch', 'pydantic', 'click'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
