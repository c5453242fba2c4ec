"""The pages' bundle that is committed is what its sources give."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tools.studio_schema import schema

from lorasmith.studio.pages import STATIC

WEB = Path(__file__).parents[2] / "web"
MOST_OF_A_PAGE = 150_000
"""Bytes that a page may take, however it is sent, before the curves that some have."""

STYLES_OF_OTHERS = {"prompts": ("draw",), "sort": ("dataset",), "train": ("run",)}


@pytest.fixture(scope="module")
def node() -> Path:
    if shutil.which("node") is None or not (WEB / "node_modules").is_dir():
        pytest.skip("there is no Node, or not the packages that build the pages; `make browser`")
    return WEB


def test_the_sources_give_it(node: Path) -> None:
    checked = subprocess.run(
        ["node", "build.mjs", "--check"], cwd=node, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr


def test_types_are_those_of_the_server(node: Path, tmp_path: Path) -> None:
    (tmp_path / "openapi.json").write_text(schema(), encoding="utf-8")
    command = ["npx", "--no", "openapi-typescript", str(tmp_path / "openapi.json")]
    made = subprocess.run(
        [*command, "-o", str(tmp_path / "schema.d.ts")], cwd=node, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    kept = (WEB / "src" / "api" / "schema.d.ts").read_text(encoding="utf-8")
    assert (tmp_path / "schema.d.ts").read_text(encoding="utf-8") == kept, "run make web"


def test_no_page_is_large() -> None:
    """Each page's own part, with all that it imports."""
    shared = sum((STATIC / name).stat().st_size for name in ("index.html", "studio.css"))
    for page in STATIC.glob("*.js"):
        parts, new = set[Path](), {STATIC / "studio.js", page}
        while new:
            parts |= new
            named = {
                STATIC / name
                for part in new
                for name in re.findall(r'from"\./([\w-]+\.js)"', part.read_text(encoding="utf-8"))
            }
            new = named - parts
        name = page.name.partition("-")[0]
        styles = [STATIC / f"{each}.css" for each in (name, *STYLES_OF_OTHERS.get(name, ()))]
        parts |= {path for path in styles if path.is_file()}
        assert shared + sum(part.stat().st_size for part in parts) < MOST_OF_A_PAGE, page.name


def test_nothing_comes_from_elsewhere() -> None:
    for name in ("index.html", "studio.css"):
        text = (STATIC / name).read_text(encoding="utf-8")
        assert not re.search(r"https?:|//[a-z]", text), name
        assert "style=" not in text
        assert not re.search(r"<script(?![^>]*src=)", text)
