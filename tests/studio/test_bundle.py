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
MOST_OF_A_PAGE = 140_000
"""Bytes that a page may take, however it is sent, before the curves that some have."""


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


def styles_of_pages() -> dict[str, list[str]]:
    """The styles that each page takes beside those of all."""
    app = (WEB / "src" / "app.tsx").read_text(encoding="utf-8")
    found = re.findall(r'import\("\./pages/(\w+)"\), styled\(([^)]*)\)', app)
    return {page: re.findall(r"\w+", names) for page, names in found}


def test_no_page_is_large() -> None:
    """Each page's own part, with all that it imports and the line above it."""
    (strip,) = STATIC.glob("project_strip-*.js")
    shared = {STATIC / name for name in ("index.html", "studio.css", "strip.css")}
    pages = styles_of_pages()
    assert len(pages) > 8
    for page, styles in pages.items():
        (own,) = STATIC.glob(f"{page}-*.js")
        parts, new = set(shared), {STATIC / "studio.js", strip, own}
        parts |= {STATIC / f"{each}.css" for each in styles}
        while new:
            parts |= new
            named = {
                STATIC / name
                for part in new
                for name in re.findall(
                    r'(?:from|import)"\./([\w-]+\.js)"', part.read_text(encoding="utf-8")
                )
            }
            new = named - parts
        assert sum(part.stat().st_size for part in parts) < MOST_OF_A_PAGE, page


def first_classes(style: str) -> set[str]:
    """Those that rules of a file begin with, as `.share` or `main.files`."""
    text = (WEB / "src" / "styles" / f"{style}.css").read_text(encoding="utf-8")
    selectors = re.findall(r"([^{}]+)\{", re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL))
    found = [re.match(r"\s*(?:main)?\.([\w-]+)", one) for one in ",".join(selectors).split(",")]
    return {one[1] for one in found if one}


def test_styles_of_one_page_are_not_those_of_another() -> None:
    """They stay when one goes on to another page, where the same class would have both."""
    main = (WEB / "src" / "main.tsx").read_text(encoding="utf-8")
    of_all = set[str]().union(*map(first_classes, re.findall(r"styles/(\w+)\.css", main)))
    owners: dict[str, str] = {}
    for style in sorted({each for styles in styles_of_pages().values() for each in styles}):
        for one in first_classes(style) - of_all:
            assert owners.setdefault(one, style) == style, f".{one}"
    assert len(owners) > 100


def test_nothing_comes_from_elsewhere() -> None:
    for name in ("index.html", "studio.css"):
        text = (STATIC / name).read_text(encoding="utf-8")
        assert not re.search(r"https?:|//[a-z]", text), name
        assert "style=" not in text
        assert not re.search(r"<script(?![^>]*src=)", text)
