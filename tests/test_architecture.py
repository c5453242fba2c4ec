"""The map of the house, held: floors, circles, sizes, what may import torch.

Imports are read from the source, those inside functions too; those for type checkers alone count
for floors and circles.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from tools import architecture

from lorasmith.cli.dataset import VERBS
from lorasmith.cli.main import GROUPS

SOURCE = Path(__file__).parents[1] / "src"
PACKAGE = "lorasmith"

FLOORS = (
    {"core"},
    {"formats"},
    {"tensors"},
    {"prompts", "config"},
    {"diffusion", "data", "adapters", "models"},
    {"sampling", "lora_tools", "curation", "importers"},
    {"grids", "measures"},
    {"training"},
    {"advice", "demo"},
    {"jobs"},
    # The front door for programs: functions over jobs.
    {"api"},
    # The front door for browsers; `cli.studio` opens it.
    {"studio"},
    # The front door for people: opens everything below.
    {"cli"},
    {"__main__"},
)

TORCH_FREE = (
    "cli.main",
    "config.*",
    "core.*",
    "curation.check.check",
    "curation.edit.captions",
    "curation.captioner.caption",
    "curation.captioner.conventions",
    "curation.captioner.endpoint",
    "curation.collection",
    "curation.sorting.dedupe",
    "curation.edit.*",
    "curation.filter",
    "curation.filter_language.completion",
    "curation.images.image_metadata",
    "curation.importing.*",
    "curation.changes.plan",
    "curation.edit.rename",
    "curation.sidecars.*",
    "curation.sorting.sort",
    "curation.tagger.choose",
    "curation.tagger.inputs",
    "curation.tagger.labels",
    "curation.tagger.scores",
    "curation.stats",
    "curation.token_counts",
    "curation.images.*",
    "data.augmentation.views",
    "data.buckets",
    "data.captions",
    "data.dataset",
    "data.holdout",
    "data.images",
    "data.recorded_crops",
    "data.scan",
    "formats.*",
    "importers.*",
    "jobs.engine.process",
    "jobs.queue.ledger",
    "jobs.queue.records",
    "jobs.queue.runner",
    "jobs.queue.watch",
    "jobs.runs.*",
    "models.families.table",
    "models.reference",
    "prompts.*",
    "sampling.request",
)

# Importing any of these imports torch.
TORCH = {
    *("torch", "torchvision", "accelerate", "bitsandbytes", "diffusers", "lycoris", "peft"),
    *("prodigyopt", "tensorboard", "transformers"),
    *("dadaptation", "lion_pytorch", "pytorch_optimizer", "schedulefree"),
}

MAX_FILE_LINES = 500

CATCHES_EVERYTHING = {"cli.main": "turns what nobody expected into a report for us"}


@dataclass(frozen=True)
class Module:
    """A file of the package; ``name`` without the package's own, as in ``data.scan``."""

    name: str
    path: Path

    @property
    def tree(self) -> ast.Module:
        return _parsed(self.path)

    @property
    def lines(self) -> int:
        return len(self.path.read_text(encoding="utf-8").splitlines())

    @property
    def folder(self) -> str:
        return self.name.partition(".")[0]

    @property
    def floor(self) -> int:
        return next(n for n, names in enumerate(FLOORS) if self.folder in names)


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@cache
def modules() -> dict[str, Module]:
    found = {}
    for path in sorted((SOURCE / PACKAGE).rglob("*.py")):
        parts = path.relative_to(SOURCE / PACKAGE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        found[name] = Module(name, path)
    return found


INSIDE = [module for name, module in modules().items() if module.path.name != "__init__.py"]


def imported_names(tree: ast.AST, *, types: bool = False) -> Iterator[str]:
    """Dotted names that are imported, ``a.b.c`` for ``from a.b import c``.

    Args:
        types: also for type checkers alone.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test) and not types:
            for other in node.orelse:
                yield from imported_names(other)
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        yield from imported_names(node, types=types)


@cache
def outside_imports(module: Module) -> set[str]:
    """Libraries that ``module`` imports at run time."""
    return {name.partition(".")[0] for name in imported_names(module.tree)}


@cache
def own_imports(module: Module, *, types: bool = False) -> set[str]:
    """Modules of the package that ``module`` imports."""
    known, found = modules(), set()
    for name in imported_names(module.tree, types=types):
        if not name.startswith(f"{PACKAGE}."):
            continue
        inner = name.removeprefix(f"{PACKAGE}.")
        if inner in known:
            found.add(inner)
        elif inner.rpartition(".")[0] in known:
            found.add(inner.rpartition(".")[0])
    return found - {"", module.name}


def test_the_walk_sees_the_package() -> None:
    assert len(INSIDE) > 40
    assert "core.files" in own_imports(modules()["tensors.files"])


def test_every_module_stands_on_a_floor() -> None:
    placed = set().union(*FLOORS)
    assert {module.folder for module in INSIDE} <= placed


@pytest.mark.parametrize("module", INSIDE, ids=lambda module: module.name)
def test_imports_go_down(module: Module) -> None:
    for name in own_imports(module, types=True):
        other = modules()[name]
        if other.path.name == "__init__.py":
            pytest.fail(f"{module.name} imports the package {name}, not the module that defines it")
        assert other.folder == module.folder or other.floor < module.floor, (
            f"{module.name} imports {name}"
        )


def test_no_circles() -> None:
    finished: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail[trail.index(name) :], name))
        if name not in finished:
            for other in sorted(own_imports(modules()[name], types=True)):
                visit(other, (*trail, name))
            finished.add(name)

    for name in modules():
        visit(name, ())


MAX_DEPTH = 2
MAX_FILES = 20
"""In a room. The command line has a file for each command, and is looked up by its name."""


def test_rooms_are_few_and_not_deep() -> None:
    for room in architecture.rooms():
        assert len(room.relative_to(SOURCE / PACKAGE).parts) <= MAX_DEPTH
        files = architecture.files_of(room)
        assert len(files) <= MAX_FILES or room.name == "cli", f"{room.name} has {len(files)} files"


def test_the_map_is_fresh() -> None:
    page = architecture.PAGE.read_text(encoding="utf-8")
    assert page == architecture.renewed(page), "run `make docs`"


SMALL = 60
TABLES = ("adapters.types.", "config.sections.", "models.families.")
"""Rooms whose files are entries of a table, one each."""

BY_NAME = {"__main__"} | {
    entry.module.removeprefix(f"{PACKAGE}.")
    for group in (*GROUPS.values(), *VERBS.values())
    for entry in group.values()
}
"""What nobody imports: the program, and commands, which are looked up."""


def test_what_has_a_single_user_lives_with_its_user() -> None:
    users: dict[str, set[str]] = {}
    for module in INSIDE:
        for name in own_imports(module, types=True):
            users.setdefault(name, set()).add(module.name)
    fragments = {
        module.name
        for module in INSIDE
        if module.lines < SMALL
        and len(users.get(module.name, ())) <= 1
        and not module.name.startswith(TABLES)
        and module.name not in BY_NAME
    }
    assert not fragments, f"merge into their users: {sorted(fragments)}"


def test_the_map_has_the_floors() -> None:
    page = architecture.PAGE.read_text(encoding="utf-8")
    for number, rooms in enumerate(FLOORS[:-1]):
        (row,) = [line for line in page.splitlines() if line.startswith(f"| {number} | ")]
        names = row.partition(":")[0] if ":" in row else row
        assert {name.removesuffix(".py") for name in re.findall(r"`([\w.]+)`", names)} == rooms


@pytest.mark.parametrize("module", INSIDE, ids=lambda module: module.name)
def test_files_have_one_subject(module: Module) -> None:
    assert module.lines <= MAX_FILE_LINES


def test_a_room_says_what_it_is_and_nothing_else() -> None:
    for name, module in modules().items():
        if module.path.name == "__init__.py" and name:
            assert ast.get_docstring(module.tree), f"{name}/__init__.py does not say what is there"
            assert len(module.tree.body) == 1, f"{name}/__init__.py holds something"
    top = modules()[""].tree  # A list of names and where they live; it imports none of them itself.
    assert not [name for name in imported_names(top) if name.startswith("lorasmith")]


@pytest.mark.parametrize("module", INSIDE, ids=lambda module: module.name)
def test_nothing_is_caught_blindly(module: Module) -> None:
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.ExceptHandler) or module.name in CATCHES_EVERYTHING:
            continue
        caught = (
            {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)} if node.type else {""}
        )
        reraised = any(isinstance(n, ast.Raise) for n in ast.walk(node))
        broad = caught & {"", "Exception", "BaseException"}
        assert not broad or ("BaseException" in caught and reraised), f"line {node.lineno}"


REFERENCE = re.compile(r":(?:meth|func|class|data|attr|mod):`[~.]*([\w.]+)`")
FOREIGN = ("fastapi.", "pathlib.", "random.", "sys.")


@cache
def names_in_package() -> set[str]:
    """What a docstring may refer to: modules, and what is defined or stored in them."""
    names = {part for module in modules() for part in module.split(".")}
    for module in modules().values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
                names.add(node.id if isinstance(node, ast.Name) else node.attr)
    return names | {PACKAGE}


@pytest.mark.parametrize("module", INSIDE, ids=lambda module: module.name)
def test_what_docstrings_refer_to_is_there(module: Module) -> None:
    for path in REFERENCE.findall(module.path.read_text(encoding="utf-8")):
        if not path.startswith(FOREIGN):
            assert set(path.split(".")) <= names_in_package(), path


PRINTING = {"core.terminal": {"click.echo"}}
"""Where text goes to a terminal as it is: where it is cleaned."""


def printing(tree: ast.AST) -> set[str]:
    """Calls that bring text to a terminal as it is."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            plain = name in ("print", "click.secho", "click.echo", "echo_via_pager", "rich.print")
            if plain or name in ("Console", "rich.console.Console", "traceback.print_exc"):
                found.add(name)
            if name.startswith(("sys.stdout.write", "sys.stderr.write", "Text.from_")):
                found.add(name)
        if isinstance(node, ast.keyword) and ast.unparse(node).startswith("markup=True"):
            found.add("markup")
    return found


@pytest.mark.parametrize("module", INSIDE, ids=lambda module: module.name)
def test_text_reaches_the_terminal_cleaned(module: Module) -> None:
    """By lorasmith.core.terminal and lorasmith.core.progress."""
    assert not printing(module.tree) - PRINTING.get(module.name, set())


def test_json_and_toml_are_parsed_in_one_place() -> None:
    """Where nesting that Python cannot follow is an error of the text."""
    calls = {
        module.name
        for module in INSIDE
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute)
        and node.attr in ("loads", "load")
        and ast.unparse(node) in ("json.loads", "json.load", "tomllib.loads", "tomllib.load")
    }
    assert calls == {"core.files"}


def test_torch_files_are_loaded_in_one_place() -> None:
    """Where they are checked before; the others load what they wrote themselves a moment ago."""
    calls = {
        module.name
        for module in INSIDE
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute)
        and node.attr in ("load", "loads", "Unpickler")
        and ast.unparse(node) in ("torch.load", "pickle.load", "pickle.loads", "pickle.Unpickler")
    }
    assert calls == {"tensors.files", "training.setup.check_optimizer"}


# Torch-free


def torch_free() -> list[Module]:
    chosen = []
    for pattern in TORCH_FREE:
        prefix = pattern.removesuffix("*")
        matching = [
            m
            for m in INSIDE
            if m.name == pattern or (prefix != pattern and m.name.startswith(prefix))
        ]
        assert matching, f"{pattern} names no module"
        chosen += matching
    return chosen


@pytest.mark.parametrize("module", torch_free(), ids=lambda module: module.name)
def test_torch_free_also_lazily(module: Module) -> None:
    """Nothing that it imports, at any depth and in any function, imports torch."""
    waiting, seen = [module.name], set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        heavy = outside_imports(modules()[name]) & TORCH
        assert not heavy, f"{module.name} reaches {heavy} through {name}"
        waiting += own_imports(modules()[name]) - seen


def test_torch_free_in_fact() -> None:
    """What libraries import is not seen from our source."""
    names = [f"{PACKAGE}.{module.name}" for module in torch_free()]
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        "    assert 'torch' not in sys.modules, name\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
