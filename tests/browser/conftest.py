"""The studio as a user has it: its own process, its pages in Chromium.

Skipped, with a word, where there is no browser; `make browser` installs one.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
from PIL import Image

from tests import warm
from tests.browser.studios import Server, start, start_command

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

BROWSER = os.environ.get("LORASMITH_BROWSER") or shutil.which("chromium") or ""
NO_BROWSER = "there is no chromium; `make browser` installs it"
# Without a display, in containers, and saying nothing to anybody outside.
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
WIDTH, HEIGHT = 1280, 800
NARROW_TOO = (WIDTH, 390)
PATIENCE = 60_000
"""Milliseconds that a test waits for what it expects: other tests may have the processor, too."""

Scheme = Literal["light", "dark"]


Serve = Callable[[Path], Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts studios, which end with the test."""
    with _ending_with_the_test(start) as begin:
        yield begin
    warm.end_all()


@pytest.fixture
def serve_command() -> Iterator[Serve]:
    """The same as ``serve``, as a user starts them: for tests of what outlives them."""
    with _ending_with_the_test(start_command) as begin:
        yield begin


@contextmanager
def _ending_with_the_test(start: Serve) -> Iterator[Serve]:
    servers: list[Server] = []

    def begin(workspace: Path) -> Server:
        servers.append(start(workspace))
        return servers[-1]

    yield begin
    for server in servers:
        server.end()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """While it is there, an event loop runs in this thread; so it ends with the file."""
    if not BROWSER:
        pytest.skip(NO_BROWSER)
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=BROWSER, args=list(ARGUMENTS))
        yield running
        running.close()


@pytest.fixture
def new_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens tabs of a browser without any past. An error in a page's script, or what its policy
    forbids, fails the test."""
    wrong: list[str] = []
    contexts: list[BrowserContext] = []

    def open_tab(width: int = WIDTH, height: int = HEIGHT, scheme: Scheme = "light") -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme
        )
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "console",
            lambda message: (
                wrong.append(message.text)
                if message.type == "error" and "Failed to load resource" not in message.text
                else None
            ),
        )
        return page

    yield open_tab
    for context in contexts:
        context.close()
    assert not wrong


@pytest.fixture
def page(new_page: Callable[..., Page]) -> Page:
    return new_page()


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """One project with three pictures."""
    images = tmp_path / "work" / "zorp" / "dataset"
    images.mkdir(parents=True)
    for number in range(3):
        Image.new("RGB", (96, 64), (200, 60 * number, 40)).save(images / f"{number}.png")
        (images / f"{number}.txt").write_text("zorp, standing\n", encoding="utf-8")
    return tmp_path / "work"


def fits(page: Page) -> bool:
    """A page that fills the window: it scrolls inside, and the window not at all."""
    return page.evaluate("document.documentElement.scrollHeight <= innerHeight")


def until(page: Page, holds: Callable[[], bool]) -> None:
    """Waits for what no locator tells."""
    deadline = time.monotonic() + PATIENCE / 1000
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        page.wait_for_timeout(20)


def violations(page: Page) -> list[str]:
    """What axe finds of serious or critical kind: the rule, and where."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {node['target']}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


def require_open_to_everybody(page: Page, widths: Sequence[int] = (WIDTH,)) -> None:
    """As the page is now, in light and dark and at each width: axe finds nothing, and nothing lies
    beside the window."""
    schemes: tuple[Scheme, ...] = ("light", "dark")
    for width in widths:
        page.set_viewport_size({"width": width, "height": HEIGHT})
        for scheme in schemes:
            page.emulate_media(color_scheme=scheme)
            assert violations(page) == [], (width, scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
