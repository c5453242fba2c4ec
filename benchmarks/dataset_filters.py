"""Filters, counts, and plans of sorting and of doubles on a folder of many captions.

    python benchmarks/dataset_filters.py                    # 10 000 pictures of 64 px, 25 tags each

Seconds of processor time of this process, the best of some rounds; captions are read before,
and what a collection remembers is as the line says. Results: benchmarks/dataset_filters.md.
"""

from __future__ import annotations

import argparse
import io
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from lorasmith.curation.collection import Collection, open_collection
from lorasmith.curation.filter import parse_filter
from lorasmith.curation.sorting.dedupe import plan_dedupe
from lorasmith.curation.sorting.sort import plan_sort
from lorasmith.curation.stats import dataset_stats
from lorasmith.models.tokenizer import count_tokens

WORDS = (
    *("red", "blue", "long", "short", "hat", "hair", "eyes", "dress", "ribbon", "sky", "tree"),
    *("smile", "looking", "viewer", "zorp"),
)
FILTERS = (
    "tag:'red hat'",
    "-tag:'* hat' caption:sky",
    "red",
    'tags:>20 re:"^red|sky$"',
    "folder:3_f2 -name:0001",
    "tokens:>75",
    "width:<100 tag:'red hat'",
    "dup:exact",
    '(tag:"red hat" or tokens:>110) -folder:*f1 re:"blue (hat|hair)"',
)


def make_dataset(folder: Path, count: int) -> None:
    """Ten folders of pictures that differ in their last bytes alone."""
    numbers = random.Random(0)
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "grey").save(buffer, "PNG")
    tags = [f"{a} {b}" for a in WORDS for b in WORDS] + [f"odd {number}" for number in range(500)]
    for number in range(count):
        path = folder / f"{number % 10 + 1}_f{number % 10}" / f"{number // 10:04}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(buffer.getvalue() + b"%08d" % number)
        path.with_suffix(".txt").write_text(", ".join(numbers.sample(tags, 25)), "utf-8")


def seconds(work: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return min(times)


def works(folder: Path, images: Collection) -> dict[str, Callable[[], object]]:
    filters = {
        f"`{text}`": (lambda text=text: parse_filter(text).select(images)) for text in FILTERS
    }
    return {
        "open the folder": lambda: open_collection(folder),
        "open it and read all captions": lambda: [
            i.caption for i in open_collection(folder).images
        ],
        **filters,
        "tokens of all captions": lambda: [count_tokens(i.caption) for i in images.images],
        "stats": lambda: dataset_stats(images.images),
        "plan of sort, all moved": lambda: plan_sort(images, ["tag:'red hat' -> hats", " -> rest"]),
        "plan of dedupe --exact": lambda: plan_dedupe(images, exact=True),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        make_dataset(Path(place), options.pictures)
        images = open_collection(place)
        images.sizes()
        print(
            f"{options.pictures} pictures, best of {options.rounds}\n\n| what | s |\n| --- | --- |"
        )
        for name, work in works(Path(place), images).items():
            print(f"| {name} | {seconds(work, options.rounds):.3f} |", flush=True)


if __name__ == "__main__":
    main()
