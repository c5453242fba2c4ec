"""The studio as a user has it: its own process, its pages in Chromium.

Skipped, with a word, where there is no browser; `make browser` installs one.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlencode

import pytest
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

BROWSER = os.environ.get("LORASMITH_BROWSER") or shutil.which("chromium") or ""
NO_BROWSER = "there is no chromium; `make browser` installs it"
# Without a display, in containers, and saying nothing to anybody outside.
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
WIDTH, HEIGHT = 1280, 800
NARROW_TOO = (WIDTH, 390)

Scheme = Literal["light", "dark"]


@dataclass(frozen=True)
class Server:
    """A running studio."""

    address: str
    workspace: Path
    process: subprocess.Popen[str]

    def page(self, address: str = "/", /, **query: object) -> str:
        return self.address + address.lstrip("/") + ("?" + urlencode(query) if query else "")


def start(workspace: Path, *options: str) -> Server:
    command = [
        sys.executable,
        "-m",
        "lorasmith",
        "studio",
        str(workspace),
        "--no-browser",
        *options,
    ]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"The studio is at (\S+)", line):
            return Server(found[1], workspace, process)
    raise AssertionError("the studio ended before it was there")


def end(server: Server) -> None:
    server.process.send_signal(signal.SIGINT)
    server.process.wait(20)


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts studios, which end with the test."""
    servers: list[Server] = []

    def begin(workspace: Path, *options: str) -> Server:
        servers.append(start(workspace, *options))
        return servers[-1]

    yield begin
    for server in servers:
        if server.process.poll() is None:
            end(server)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """While it is there, an event loop runs in this thread; so it ends with the file."""
    if not BROWSER:
        pytest.skip(NO_BROWSER)
    from playwright.sync_api import sync_playwright

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
        context.set_default_timeout(15_000)
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
