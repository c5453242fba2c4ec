"""The studio on a dataset of many pictures, as a browser shows it.

    python -m benchmarks.studio                   # 10 000 pictures of 512 px; takes Chromium
    python -m benchmarks.studio --pictures 1000 --work DIR

Times are the page's own clock (``performance.now``) from the click, the key or the address to what
is asked for being there; work of the main thread is read off the browser's trace. Nothing is
drawn by a graphics card. Results: benchmarks/studio.md.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import psutil
from PIL import Image
from safetensors.numpy import save_file

from lorasmith.grids.record import THUMBNAILS

BROWSER = os.environ.get("LORASMITH_BROWSER") or shutil.which("chromium")
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
DIFFERENT = 64  # pictures; the others are these, with other bytes at their end
TAGS, TAGS_EACH = 400, 14
LORAS, CARDS = 2000, "cards"
TYPED = "a good hat, a red house"
FRAME = "BeginCommitCompositorFrame"
"""In a trace: the page's main thread gives a frame away."""

IN_SIGHT = """
function inSight() {
    const cells = [...document.querySelectorAll(".image-cell")].filter((cell) => {
        const { top, bottom } = cell.getBoundingClientRect();
        return bottom > 44 && top < innerHeight;
    });
    return cells.length > 0 && cells.every((cell) => {
        const image = cell.querySelector("img");
        return image && image.complete && image.naturalWidth > 0;
    });
}
async function until(isSo) {
    const begin = performance.now();
    while (!isSo()) {
        if (performance.now() - begin > 60000) throw new Error("not within a minute");
        await new Promise(requestAnimationFrame);
    }
}
"""


@dataclass(frozen=True)
class Goal:
    """What is measured, and below what it is to be."""

    name: str
    most: float
    unit: str


GOALS = {
    "start": Goal("start of the program to the page", 1.5, "s"),
    "first": Goal("first thumbnails, the folder never seen", 1.5, "s"),
    "again": Goal("first thumbnails, again", 1.5, "s"),
    "end": Goal("jump to the end, thumbnails there", 1.5, "s"),
    "frame": Goal("main thread's work a frame while scrolling, 95th percentile", 8, "ms"),
    "filter": Goal("filter by a tag", 100, "ms"),
    "edit": Goal("an edit of all captions previewed", 1.0, "s"),
    "cards": Goal(f"the same over {LORAS} LoRA cards of Draw", 8, "ms"),
    "typing": Goal("main thread's work a key, in a prompt of 10 kB", 16, "ms"),
    "sort": Goal("key to the next picture, a key every 0.2 s", 50, "ms"),
    "grid": Goal("a grid of 400 pictures of 512 px opened, all in sight there", 1.0, "s"),
    "bare": Goal("the same at 1280 x 800 without its sheet of thumbnails", 1.0, "s"),
    "page": Goal("largest page, without curves", 150, "kB"),
    "memory": Goal("memory of the server at the end", 150, "MB"),
}


def make_pictures(folder: Path, count: int) -> None:
    """JPEGs of soft shapes with grain, each with a caption of some of 400 tags."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    chances = 1 / np.arange(1, TAGS + 1)
    chances /= chances.sum()
    contents = []
    for _ in range(DIFFERENT):
        small = rng.integers(0, 255, (9, 9, 3), dtype=np.uint8)
        soft = np.asarray(Image.fromarray(small).resize((512, 512), Image.Resampling.BICUBIC))
        grain = rng.normal(0, 6, soft.shape)
        path = folder / "one.jpg"
        Image.fromarray(np.clip(soft + grain, 0, 255).astype(np.uint8)).save(path, quality=90)
        contents.append(path.read_bytes())
    (folder / "one.jpg").unlink()
    for number in range(count):
        path = folder / f"{number:05}.jpg"
        path.write_bytes(contents[number % DIFFERENT] + b"%d" % number)
        tags = rng.choice(TAGS, TAGS_EACH, replace=False, p=chances)
        words = ", ".join(["zorp", *(f"tag {tag}" for tag in tags)])
        path.with_suffix(".txt").write_text(words + "\n", encoding="utf-8")


def make_loras(folder: Path, count: int) -> None:
    """Small files of LoRAs, each with a preview of some colour."""
    folder.mkdir(parents=True)
    tensors = {"lora_unet_x.lora_down.weight": np.ones((1, 4), np.float32)}
    tensors["lora_unet_x.lora_up.weight"] = np.ones((4, 1), np.float32)
    for number in range(count):
        file = folder / f"lora {number:04}.safetensors"
        save_file(tensors, file, {"modelspec.trigger_phrase": f"zorp{number}"})
        colour = (number % 256, number // 8, 90)
        Image.new("RGB", (256, 256), colour).save(file.with_suffix(".png"))


def make_grid(folder: Path, side: int = 20) -> None:
    """A grid of PNGs of 512 px as `lorasmith grid` leaves it, all different."""
    from lorasmith.grids.gallery import write_thumbnails

    cells = folder / "cells"
    cells.mkdir(parents=True)
    rng = np.random.default_rng(2)
    entries, files = [], []
    for number in range(side * side):
        small = rng.integers(0, 255, (9, 9, 3), dtype=np.uint8)
        soft = np.asarray(Image.fromarray(small).resize((512, 512), Image.Resampling.BICUBIC))
        grain = rng.normal(0, 6, soft.shape)
        image = Image.fromarray(np.clip(soft + grain, 0, 255).astype(np.uint8))
        files.append(cells / f"cell.{number:012x}.png")
        image.save(files[-1], compress_level=1)
        place = [number % side, number // side]
        entries.append({"place": place, "prompt": "zorp, standing", "digest": f"{number:012x}"})
    axes = [
        {"axis": "Epoch", "values": [f"epoch {number + 1}" for number in range(side)]},
        {"axis": "LoRA strength", "values": [f"{(number + 1) / 10:g}" for number in range(side)]},
    ]
    small_ones = write_thumbnails(folder / THUMBNAILS, files)
    assert small_ones is not None
    record = {"title": "zorp, standing", "axes": axes, "cells": entries}
    text = json.dumps(record | {"thumbnails": asdict(small_ones)})
    (folder / "grid.json").write_text(text, encoding="utf-8")


def opened_grid(browser, address: str, width: int, height: int) -> float:
    """Seconds from the address of a grid to all of its pictures that are in sight, in a browser
    that has none of them."""
    page = browser.new_page(viewport={"width": width, "height": height})
    page.goto(address)
    page.evaluate(
        f"""async () => {{ {IN_SIGHT}
            const sheets = new Map();
            const hasSheet = (style) => {{
                const address = style.backgroundImage.slice(5, -2);
                const sheet = sheets.get(address) ?? Object.assign(new Image(), {{ src: address }});
                sheets.set(address, sheet);
                return sheet.complete && sheet.naturalWidth > 0;
            }};
            await until(() => {{
                const cells = [...document.querySelectorAll(".cell")].filter((cell) => {{
                    const {{ top, left }} = cell.getBoundingClientRect();
                    return top < innerHeight && left < innerWidth - 392;
                }});
                return cells.length > 0 && cells.every((cell) => {{
                    const image = cell.querySelector("img");
                    const small = cell.querySelector(".cell-small");
                    if (small) return hasSheet(small.style);
                    return image && image.complete && image.naturalWidth > 0;
                }});
            }});
        }}"""
    )
    seconds = page.evaluate("performance.now()") / 1000
    print(f"{page.locator('.cell').count()} cells are there after {seconds:.3g} s")
    page.close()
    return seconds


@contextmanager
def studio(workspace: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Its address, and the process that serves."""
    command = [sys.executable, "-m", "lorasmith", "studio", str(workspace), "--no-browser"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    found = re.search(r"The studio is at (\S+)/", process.stdout.readline())
    assert found is not None
    try:
        yield found[1], psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def measure_start(browser, workspace: Path) -> float:
    page = browser.new_page()
    begin = time.perf_counter()
    with studio(workspace) as (address, _):
        page.goto(address)
        page.locator("h1").wait_for()
        seconds = time.perf_counter() - begin
        page.close()
    return seconds


def thumbnails(page) -> float:
    """Seconds from the address to all thumbnails in sight."""
    page.evaluate(f"async () => {{ {IN_SIGHT} await until(inSight); }}")
    return page.evaluate("performance.now()") / 1000


def all_read(page) -> float:
    """Seconds from the address to the tags of all captions and the sizes of all pictures."""
    page.evaluate(
        f"""async () => {{ {IN_SIGHT} await until(
            () => document.querySelector(".tag-row") && !document.querySelector(".reading")); }}"""
    )
    return page.evaluate("performance.now()") / 1000


def jump_to_end(page, count: int) -> float:
    milliseconds = page.evaluate(
        f"""async () => {{ {IN_SIGHT}
            const grid = document.querySelector(".image-grid");
            grid.focus();
            const press = (key) => grid.dispatchEvent(
                new KeyboardEvent("keydown", {{ key, bubbles: true, cancelable: true }}));
            press("Home");
            await until(() => document.querySelector(".image-cell.current"));
            const begin = performance.now();
            press("End");
            await until(() => document.getElementById("image-{count - 1}") && inSight());
            return performance.now() - begin;
        }}"""
    )
    return milliseconds / 1000


@contextmanager
def traced(page) -> Iterator[list[dict]]:
    """The events of the browser's trace, once the block is left."""
    session = page.context.new_cdp_session(page)
    events: list[dict] = []
    session.on("Tracing.dataCollected", lambda part: events.extend(part["value"]))
    done = []
    session.on("Tracing.tracingComplete", lambda _: done.append(True))
    categories = "devtools.timeline,disabled-by-default-devtools.timeline"
    session.send("Tracing.start", {"categories": categories, "transferMode": "ReportEvents"})
    yield events
    session.send("Tracing.end")
    while not done:
        page.wait_for_timeout(50)


def scroll(page, grid: str) -> list[float]:
    """Milliseconds that the main thread works for each frame, while a wheel scrolls."""
    page.evaluate("grid => document.querySelector(grid).scrollTo(0, 0)", grid)
    page.wait_for_timeout(500)
    box = page.locator(grid).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    with traced(page) as events:
        for _ in range(120):
            page.mouse.wheel(0, 300)
            page.wait_for_timeout(16)
    tasks, begins = tasks_of_page(events)
    work = [0.0] * (len(begins) - 1)
    for task in tasks:
        number = int(np.searchsorted(begins, task["ts"], side="right")) - 1
        if 0 <= number < len(work):
            work[number] += task.get("tdur", task["dur"]) / 1000
    return work


def tasks_of_page(events: list[dict]) -> tuple[list[dict], list[float]]:
    """The tasks of the page's main thread, and when its frames begin."""
    mains = {
        (event["pid"], event["tid"])
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    frames = [
        event
        for event in events
        if event["name"] == FRAME and (event["pid"], event["tid"]) in mains
    ]
    # Of several processes that which draws most is the page's.
    threads = [(event["pid"], event["tid"]) for event in frames]
    main = max(set(threads), key=threads.count)
    begins = sorted(event["ts"] for event in frames if (event["pid"], event["tid"]) == main)
    tasks = [
        event
        for event in events
        if event["name"] == "RunTask"
        and (event["pid"], event["tid"]) == main
        and event.get("ph") == "X"
    ]
    return tasks, begins


def type_prompt(page) -> float:
    """Milliseconds that the main thread works for a key, into the middle of a prompt of 10 kB."""
    parts = [f"(tag {number}:1.{number % 10}), [a|b], plain words" for number in range(260)]
    prompt = ", ".join(parts)[:10_000]
    field = page.get_by_role("textbox", name="Prompt", exact=True)
    field.fill(prompt)
    field.evaluate("(field, at) => field.setSelectionRange(at, at)", prompt.index("plain", 5000))
    page.wait_for_timeout(1000)
    with traced(page) as events:
        for letter in TYPED:
            page.keyboard.press(letter)
            page.wait_for_timeout(120)
    tasks, _ = tasks_of_page(events)
    return sum(task.get("tdur", task["dur"]) for task in tasks) / 1000 / len(TYPED)


def filter_by_tag(page) -> list[float]:
    """Milliseconds from a click on a tag to the counts of what is left, of ten tags."""
    return page.evaluate(
        f"""async () => {{ {IN_SIGHT}
            const taken = [];
            const counts = () => document.querySelector(".counts").textContent;
            const all = counts();
            for (let number = 1; number <= 10; number++) {{
                const begin = performance.now();
                document.getElementById(`tag-${{number}}`).click();
                await until(() => counts() !== all);
                taken.push(performance.now() - begin);
                document.getElementById(`tag-${{number}}`).click();
                await until(() => counts() === all);
            }}
            return taken;
        }}"""
    )


def preview_edit(page, count: int) -> float:
    """Seconds from the last letter to how many captions would change."""
    page.get_by_role("tab", name="Edit").click()
    page.locator(".steps input").wait_for()
    milliseconds = page.evaluate(
        f"""async () => {{ {IN_SIGHT}
            const field = document.querySelector(".steps input");
            const begin = performance.now();
            const set = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set;
            set.call(field, "quite new");
            field.dispatchEvent(new Event("input", {{ bubbles: true }}));
            const wanted = "Change {count:,} captions";
            const there = () => [...document.querySelectorAll("button")].some(
                (one) => one.textContent.trim() === wanted);
            await until(there);
            return performance.now() - begin;
        }}"""
    )
    return milliseconds / 1000


def sort_by_keys(page) -> list[float]:
    """Milliseconds from a key to the next picture, of thirty."""
    return page.evaluate(
        f"""async () => {{ {IN_SIGHT}
            const image = () => document.querySelector("main img");
            const isThere = () => image()?.complete && image().naturalWidth > 0;
            await until(isThere);
            const taken = [];
            for (let number = 0; number < 30; number++) {{
                const before = image().src;
                const begin = performance.now();
                document.body.dispatchEvent(new KeyboardEvent(
                    "keydown", {{ key: " ", bubbles: true, cancelable: true }}));
                await until(() => image() && image().src !== before && isThere());
                taken.push(performance.now() - begin);
                await new Promise((done) => setTimeout(done, 200));
            }}
            return taken;
        }}"""
    )


def fetched_by_pages(browser, address: str, folder: Path) -> dict[str, float]:
    """kB of code and styles that each page fetches, curves apart, by a browser that has nothing."""
    where = urlencode({"path": str(folder)})
    pages = {"home": "/", "dataset": f"/dataset?{where}", "sort": f"/sort?{where}"}
    pages |= {"train": f"/train?{urlencode({'data': str(folder)})}", "run": "/run"}
    pages |= {name: f"/{name}" for name in ("draw", "files", "prompts", "compare", "bootstrap")}
    fetched = {}
    for name, path in pages.items():
        context = browser.new_context()
        page = context.new_page()
        page.goto(address + path)
        page.locator("h1").first.wait_for(state="attached")
        page.wait_for_timeout(1000)
        sizes = page.evaluate(
            """[...performance.getEntriesByType("navigation"),
                ...performance.getEntriesByType("resource")]
                .map(({ name, decodedBodySize }) => [new URL(name).pathname, decodedBodySize])"""
        )
        code = {path: size for path, size in sizes if not path.startswith("/api/")}
        fetched[name] = sum(size for path, size in code.items() if "curves" not in path) / 1000
        context.close()
    return fetched


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--work", type=Path, help="where the pictures lie, and stay")
    asked = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        workspace = (asked.work or Path(temporary)).resolve()
        folder = workspace / "many" / "dataset"
        if not folder.is_dir():
            make_pictures(folder, asked.pictures)
        if not (workspace / CARDS).is_dir():
            make_loras(workspace / CARDS / "loras", LORAS)
        if not (folder.parent / "grid").is_dir():
            make_grid(folder.parent / "grid")
        shutil.rmtree(folder / ".lorasmith", ignore_errors=True)
        browser = playwright.chromium.launch(executable_path=BROWSER, args=list(ARGUMENTS))
        found = measure(browser, workspace, folder, asked.pictures)
        print(table(found))
        browser.close()


def table(found: dict[str, float]) -> str:
    rows = [
        f"| {goal.name} | {found[key]:.3g} {goal.unit} | {goal.most:g} {goal.unit} |"
        for key, goal in GOALS.items()
    ]
    return "\n".join(["| what | measured | goal |", "|---|---:|---:|", *rows])


def measure(browser, workspace: Path, folder: Path, count: int) -> dict[str, float]:
    found = {"start": min(measure_start(browser, workspace) for _ in range(3))}
    with studio(workspace) as (address, process):
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        where = f"{address}/dataset?{urlencode({'path': str(folder)})}"
        page.goto(where)
        found["first"] = thumbnails(page)
        print(f"captions and sizes are read after {all_read(page):.3g} s")
        again = []
        for _ in range(3):
            page.goto(where)
            again.append(thumbnails(page))
        found["again"] = statistics.median(again)
        found["end"] = jump_to_end(page, count)
        frames = scroll(page, ".image-grid")
        found["frame"] = float(np.percentile(frames, 95))
        found["filter"] = statistics.median(filter_by_tag(page))
        found["edit"] = preview_edit(page, count)
        page.goto(f"{address}/draw?{urlencode({'project': str(workspace / CARDS)})}")
        page.locator(".lora-card").first.wait_for()
        found["cards"] = float(np.percentile(scroll(page, ".card-grid"), 95))
        found["typing"] = type_prompt(page)
        page.goto(f"{address}/sort?{urlencode({'path': str(folder)})}")
        found["sort"] = statistics.median(sort_by_keys(page))
        grid = workspace / "many" / "grid"
        where = f"{address}/compare?{urlencode({'path': str(grid)})}"
        found["grid"] = min(opened_grid(browser, where, 1800, 1560) for _ in range(3))
        (grid / THUMBNAILS).rename(grid / "away.jpg")
        found["bare"] = min(opened_grid(browser, where, 1280, 800) for _ in range(3))
        (grid / "away.jpg").rename(grid / THUMBNAILS)
        found["memory"] = process.memory_info().rss / 1e6
        fetched = fetched_by_pages(browser, address, folder)
        print("kB that pages fetch:", {name: round(size, 1) for name, size in fetched.items()})
        found["page"] = max(fetched.values())
    return found


if __name__ == "__main__":
    main()
