"""install.ps1: no syntax error, and the same tables and options as install.sh.

What its functions do is tested by install.Tests.ps1, where there is a PowerShell."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import tree_sitter
import tree_sitter_powershell
from tests.install.stand_in_wheels import SCRIPT

FILES = (SCRIPT.with_suffix(".ps1"), SCRIPT.parent / "tests/install/install.Tests.ps1")
TEXT = FILES[0].read_text(encoding="utf-8")
SHELL = SCRIPT.read_text(encoding="utf-8")


def parse(source: bytes) -> tree_sitter.Tree:
    language = tree_sitter.Language(tree_sitter_powershell.language())
    return tree_sitter.Parser(language).parse(source)


def mistakes(node: tree_sitter.Node) -> Iterator[str]:
    if node.type == "ERROR" or node.is_missing:
        yield f"line {node.start_point.row + 1}: {(node.text or b'')[:60]!r}"
    for child in node.children:
        yield from mistakes(child)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_can_be_parsed(path) -> None:
    source = path.read_bytes()
    assert source.isascii(), "Windows PowerShell 5.1 reads other letters wrongly"
    assert not list(mistakes(parse(source).root_node))
    assert list(mistakes(parse(source.replace(b") {", b") (", 1)).root_node)), "it sees mistakes"


def test_every_function_that_is_called_is_there() -> None:
    defined = set(re.findall(r"^function ([\w-]+)", TEXT, re.MULTILINE))
    own = {name for name in defined if "-" in name}
    assert len(own) > 20
    body = re.sub(r"#.*", "", TEXT)
    for name in own:
        assert len(re.findall(rf"(?<![\w-]){name}(?![\w-])", body)) > 1, f"{name} is never called"
    verbs = "|".join({name.partition("-")[0] for name in own})
    calls = set(re.findall(rf"(?<![\w'-])((?:{verbs})-[A-Z]\w+)", body))
    known = {
        *("Get-Command", "Get-ChildItem", "Get-ItemProperty", "Get-Help", "Test-Path"),
        *("Remove-Item", "Select-Object", "Write-Host", "Write-Verbose", "Read-Host"),
        "Invoke-WebRequest",
    }
    assert calls <= own | known, calls - own - known


def test_options_are_those_of_install_sh() -> None:
    block = TEXT[TEXT.index("param(") : TEXT.index("$ErrorActionPreference")]
    options = set(re.findall(r"\[(?:switch|string(?:\[\])?)\]\$(\w+)", block))
    usage = SHELL[SHELL.index("cat <<'END'") : SHELL.index("\nEND\n")]
    words = set(re.findall(r"^  --([\w-]+)", usage, re.MULTILINE))
    # On Windows the command is in the folder, which a launcher finds by where it lies itself.
    assert words - {"bin"} == {re.sub(r"(?<!^)([A-Z])", r"-\1", name).lower() for name in options}
    for name in options:
        assert f".PARAMETER {name}\n" in TEXT
    parsed = set(re.findall(r"^ +--([\w-]+)\)", SHELL, re.MULTILINE)) | {"yes", "help"}
    assert parsed == words


def shell_value(name: str) -> str:
    match = re.search(rf"^{name}='([^']*)'$", SHELL, re.MULTILINE)
    match = match or re.search(rf"^{name}=(\S+)$", SHELL, re.MULTILINE)
    assert match is not None, name
    return match[1].strip()


def value(name: str) -> str:
    match = re.search(rf"^\${name} = @'\n(.*?)\n'@", TEXT, re.MULTILINE | re.DOTALL)
    match = match or re.search(rf"^\${name} = (.*)$", TEXT, re.MULTILINE)
    assert match is not None, name
    return re.sub(r"[',]", "", match[1])


def test_tables_are_those_of_install_sh() -> None:
    for ours, theirs in (
        ("CudaBuilds", "CUDA_BUILDS"),
        ("TorchUrl", "TORCH_URL"),
        ("TorchNeeds", "TORCH_NEEDS"),
        ("TestedTorch", "TESTED_TORCH"),
        ("TestedBuilds", "TESTED_BUILDS"),
        ("KnownExtras", "EXTRAS"),
        ("Pythons", "PYTHONS"),
        ("OwnPython", "OWN_PYTHON"),
        ("UvNeeds", "UV_NEEDS"),
        ("UvSize", "UV_SIZE"),
        ("PythonSize", "PYTHON_SIZE"),
        ("RestSizes", "REST_SIZES"),
    ):
        assert value(ours) == shell_value(theirs), ours
    cleared = re.search(r"\$lead = (.*?)\n    foreach", TEXT, re.DOTALL)
    unset = re.search(r"unset (PYTHONPATH PYTHONHOME PYTHONSTARTUP.*?[^\\])\n", SHELL, re.DOTALL)
    assert cleared is not None
    assert unset is not None
    assert re.findall(r"\w+", cleared[1]) == re.findall(r"\w+", unset[1])
