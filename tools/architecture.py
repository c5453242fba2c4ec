"""The tree in ARCHITECTURE.md, made from the docstrings of rooms and the first lines of files.

python -m tools.architecture    # renew it
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "lorasmith"
PAGE = ROOT / "ARCHITECTURE.md"
BEGIN, END = "<!-- tree: python -m tools.architecture -->", "<!-- end of tree -->"


def docstring(path: Path) -> str:
    """The first sentence of a module's docstring, on one line."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].split())


def files_of(room: Path) -> list[str]:
    return sorted(path.stem for path in room.glob("*.py") if path.stem != "__init__")


def rooms(folder: Path = PACKAGE) -> Iterator[Path]:
    """Every room, each before those within it."""
    for path in sorted(folder.iterdir()):
        if (path / "__init__.py").exists():
            yield path
            yield from rooms(path)


def tree() -> str:
    """A section for each room: what it is, and its files."""
    parts = []
    for room in rooms():
        name = room.relative_to(PACKAGE).as_posix()
        files = " ".join(f"`{file}`" for file in files_of(room))
        parts.append(f"- **{name}/** {docstring(room / '__init__.py')}  \n  {files}")
    return "\n".join(parts)


def renewed(page: str) -> str:
    """``page`` with the tree as it is now."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tree()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
