"""Pictures of the studio's pages for the docs, of a workspace in which the demo has run, its
snapshots were drawn, and one of its pictures made a first round of drawings.

lorasmith demo --out WORKSPACE/demo
lorasmith pick WORKSPACE/demo/runs/zorp
lorasmith grid --epochs WORKSPACE/demo/runs/zorp --strengths 0.4,0.6,0.8,1
lorasmith bootstrap PICTURE --trigger zorp --set train.steps=200 --out WORKSPACE/demo/bootstrap/zorp
python -m tools.studio_pictures WORKSPACE [NAME …]
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlencode

from PIL import Image

from lorasmith.core.files import write_bytes

if TYPE_CHECKING:
    from playwright.sync_api import Page

IMAGES = Path(__file__).parents[1] / "docs" / "images"
BROWSER = os.environ.get("LORASMITH_BROWSER") or shutil.which("chromium")
WIDTH, HEIGHT = 1280, 800
COLOURS = 256
"""Of a picture's palette: a quarter of the bytes, and what is lost is hard to find."""

ALL_LOADED = """() => [...document.images].every((image) => {
    const { top, bottom } = image.getBoundingClientRect();
    return bottom < 0 || top > innerHeight || image.complete;
})"""


@dataclass(frozen=True)
class Picture:
    """
    Args:
        page: its address without the studio's own.
        query: what stands behind it; ``{demo}`` is the demo's folder.
        ready: what the page shows when it is whole.
        prepare: what is done with it first.
    """

    page: str
    query: dict[str, str]
    ready: str
    prepare: Callable[[Page], None] = lambda page: None
    scheme: Literal["light", "dark"] = "light"
    width: int = WIDTH
    height: int = HEIGHT


def open_sample(page: Page) -> None:
    page.get_by_role("button", name="epoch 4").first.click()
    page.get_by_role("dialog").wait_for()


def open_optimizer(page: Page) -> None:
    sections = page.get_by_role("navigation", name="Sections")
    sections.get_by_role("button", name="optimizer").click()
    page.get_by_text("As advised").first.wait_for()


def choose_one(page: Page) -> None:
    page.locator(".image-cell").nth(5).click()
    page.locator("ul[aria-label^='Tags of']").wait_for()


def name_keys(page: Page) -> None:
    page.get_by_role("combobox", name="Folder of 1").fill("front")
    page.get_by_role("combobox", name="Folder of 2").fill("side")
    page.get_by_role("combobox", name="Folder of 2").press("Enter")


def draw_four(page: Page) -> None:
    page.locator(".lora-card", has=page.locator("img")).first.click()
    prompt = "zorp, (smiling:1.2), [front view:side view:0.5], {green|blue} background"
    page.get_by_role("textbox", name="Prompt", exact=True).fill(prompt)
    page.get_by_label("Seed", exact=True).fill("4")
    page.get_by_label("Pictures", exact=True).fill("4")
    page.get_by_role("button", name="Draw", exact=True).click()
    page.get_by_text("drawn in").wait_for(timeout=300_000)


def go_to_fifth(page: Page) -> None:
    page.locator(".boot-cell").nth(4).focus()


def resize_one(page: Page) -> None:
    page.get_by_role("gridcell", name="zorp, ").click()
    page.get_by_label("--retain", exact=True).fill("0.95")
    page.get_by_role("button", name="Work out the figures").click()
    page.get_by_role("region", name="Figures").wait_for(timeout=120_000)
    page.get_by_role("region", name="Figures").scroll_into_view_if_needed()


def weigh_blocks(page: Page) -> None:
    page.get_by_role("gridcell", name="zorp, ").click()
    page.get_by_alt_text("Drawn as it is").wait_for(timeout=300_000)
    for block, weight in (("OUT01", "0.25"), ("OUT02", "0.1"), ("OUT04", "0.5")):
        page.get_by_label(f"Weight of {block}, as a number").fill(weight)
    page.get_by_alt_text("Drawn with these weights").wait_for(timeout=300_000)
    page.wait_for_timeout(500)


def vote_blind(page: Page) -> None:
    """Thirty votes on a grid that has none, as one might cast them who likes the middle epochs."""
    page.get_by_role("button", name="Vote blind").click()
    for number in range(30):
        page.locator(".beside.vote img").nth(1).wait_for()
        epochs = page.locator(".beside.vote img").evaluate_all(
            "(images) => images.map((one) => Number(/epoch-(\\d+)/.exec(one.src)[1]))"
        )
        left, right = (-abs(epoch - 5.4) for epoch in epochs)
        key = (
            "ArrowDown"
            if abs(left - right) < 0.5
            else "ArrowLeft"
            if left > right
            else "ArrowRight"
        )
        page.keyboard.press(key)
        page.get_by_role("dialog").get_by_text(re.compile(f"^{number + 1} of")).wait_for()
    page.keyboard.press("Escape")
    page.get_by_text("after 30 votes").wait_for()


def write_prompts(page: Page) -> None:
    """In the workspace itself, as a user would."""
    for kind, name, text in (
        ("wildcards", "colours", "red\nblue\nteal\nblack\n"),
        ("prompts", "portraits", PROMPTS),
    ):
        query = {"kind": kind, "name": name}
        page.request.put(
            f"{page.url.partition('/prompts')[0]}/api/prompts/file", data={**query, "text": text}
        )
    page.reload()
    page.get_by_text("zorp, smile").last.wait_for()


PROMPTS = """# A prompt a line; behind it options of that line alone
zorp, smile, __colours__ background --n no mouth
zorp, (angry eyes:1.2), {starry|striped} background --d 7
zorp, [closed eyes:open eyes:0.5], grass field <lora:zorp:0.8>
zorp, one eye, __colours__ and __colours__ stripes --w 64 --h 96
"""
SEVERAL = {"optimizer.lr": ["1e-3", "2e-3"]}

PICTURES = {
    "home": Picture("/", {}, "h1"),
    "run": Picture("/run", {"path": "{demo}/runs/zorp"}, 'th:has-text("epoch 2")'),
    "run-dark": Picture(
        "/run", {"path": "{demo}/runs/zorp"}, 'th:has-text("epoch 2")', open_sample, scheme="dark"
    ),
    "dataset": Picture("/dataset", {"path": "{demo}/dataset"}, ".image-cell", choose_one),
    "sort": Picture("/sort", {"path": "{demo}/dataset"}, "main img", name_keys),
    "draw": Picture("/draw", {"project": "{demo}"}, ".lora-card", draw_four, height=900),
    "blocks": Picture(
        "/files", {"project": "{demo}", "tool": "blocks"}, ".card", weigh_blocks, height=900
    ),
    "compare": Picture(
        "/compare", {"path": "{demo}/runs/zorp/grid", "cell": "4.3.0"}, ".cell img", vote_blind
    ),
    "prompts": Picture(
        "/prompts",
        {"project": "{demo}", "kind": "prompts", "name": "portraits"},
        "main",
        write_prompts,
    ),
    "bootstrap": Picture(
        "/bootstrap",
        {"path": "{demo}/bootstrap/zorp", "project": "{demo}"},
        ".boot-bar",
        go_to_fifth,
    ),
    "files": Picture(
        "/files", {"project": "{demo}", "tool": "resize"}, ".card", resize_one, height=900
    ),
    "train": Picture(
        "/train",
        {"project": "{demo}", "sweep": json.dumps(SEVERAL).replace("{", "{{").replace("}", "}}")},
        ".plan .u-over",
        open_optimizer,
        height=900,
    ),
}


def main() -> None:
    form = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PICTURES))
    asked = parser.parse_args()
    workspace = asked.workspace.resolve()
    command = [sys.executable, "-m", "lorasmith", "studio", str(workspace), "--no-browser"]
    studio = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert studio.stdout is not None
    found = re.search(r"The studio is at (\S+)/", studio.stdout.readline())
    assert found is not None
    try:
        take(found[1], workspace, asked.names or list(PICTURES))
    finally:
        studio.send_signal(signal.SIGINT)
        studio.wait()


def take(address: str, workspace: Path, names: list[str]) -> None:
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=arguments)
        for name in names:
            one = PICTURES[name]
            page = browser.new_page(
                viewport={"width": one.width, "height": one.height}, color_scheme=one.scheme
            )
            demo = str(workspace / "demo")
            values = {key: value.format(demo=demo) for key, value in one.query.items()}
            page.goto(f"{address}{one.page}?{urlencode(values)}")
            page.locator(one.ready).first.wait_for()
            one.prepare(page)
            page.wait_for_function(ALL_LOADED)
            save(page.screenshot(), IMAGES / f"studio-{name}.png")
            page.close()
        browser.close()


def save(png: bytes, path: Path) -> None:
    image = Image.open(io.BytesIO(png)).convert("RGB")
    sink = io.BytesIO()
    few = image.quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(sink, "PNG", optimize=True)
    write_bytes(path, sink.getvalue())


if __name__ == "__main__":
    main()
