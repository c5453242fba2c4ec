"""A folder of many pictures: opened for the first time, again, and its captions edited.

    python benchmarks/dataset.py                 # 2 000 pictures of 512 px, three rounds
    python benchmarks/dataset.py --pictures 10000

"decoding" is what any program takes that looks into every picture: Pillow decodes each whole, in as
many threads as there are cores. The first opening decodes as well, and hashes each file, makes its
perceptual hash and measures blur, brightness, contrast and colours. All in one process, by turns;
files are in the system's cache. Results: benchmarks/dataset.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from lorasmith.curation.changes.journal import Journal
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.changes.trash import STORE
from lorasmith.curation.collection import open_collection
from lorasmith.data.images import open_image

DIFFERENT = 32  # pictures; the others are these, with other bytes at their end


def make_pictures(
    folder: Path, count: int, different: int = DIFFERENT, *, packing: int = 6
) -> None:
    """Half JPEG, half PNG, of soft shapes with a little grain, each with a caption.

    Args:
        packing: of PNGs, 1 to 9: 1 is made four times as fast as Pillow's 6, is a fifth larger, and
            decodes in a tenth more time.
    """
    rng = np.random.default_rng(1)
    (folder / "10_zorp").mkdir(parents=True)
    contents: list[tuple[str, bytes]] = []
    for number in range(count):
        if number < different:
            contents.append(_drawn(rng, number, folder, packing))
        suffix, data = contents[number % different]
        path = folder / "10_zorp" / f"{number:05}{suffix}"
        path.write_bytes(data + b"%d" % number)
        path.with_suffix(".txt").write_text(f"zorp, hat, blue sky, number {number}\n", "utf-8")
        if different >= count:  # None is needed again, and ten thousand take gigabytes.
            contents[number] = (suffix, b"")


def _drawn(rng: np.random.Generator, number: int, folder: Path, packing: int) -> tuple[str, bytes]:
    """The ending and the bytes of one."""
    small = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
    pixels = np.asarray(small.resize((512, 512), Image.Resampling.BICUBIC), np.int16)
    grain = rng.integers(-3, 4, pixels.shape)
    image = Image.fromarray((pixels + grain).clip(0, 255).astype(np.uint8))
    suffix = (".jpg", ".png")[number % 2]
    path = folder / f"one{suffix}"
    image.save(path, quality=92, compress_level=packing)
    data = path.read_bytes()
    path.unlink()
    return suffix, data


def decode_all(folder: Path) -> None:
    def decode(path: Path) -> None:
        with open_image(path) as image:
            image.load()

    paths = [path for path in sorted((folder / "10_zorp").iterdir()) if path.suffix != ".txt"]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(decode, paths))


def open_first(folder: Path) -> None:
    shutil.rmtree(folder / STORE, ignore_errors=True)
    open_again(folder)


def open_again(folder: Path) -> None:
    collection = open_collection(folder)
    facts = collection.measure()
    assert len(facts) == len(collection.sizes())


def edit_all(folder: Path) -> None:
    collection = open_collection(folder)
    plan = Plan("edit", collection.roots)
    for image in collection.images:
        assert image.caption_path is not None
        data = image.caption_path.read_bytes()
        plan.write_text(image.caption_path, data, data.replace(b"hat", b"red hat"))
    plan.apply()


def undo(folder: Path) -> None:
    with Journal(folder) as journal:
        journal.undo()


def seconds(work: Callable[[Path], None], folder: Path) -> float:
    start = time.perf_counter()
    work(folder)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    works = [decode_all, open_first, open_again, edit_all, undo]
    times: dict[str, list[float]] = {work.__name__: [] for work in works}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "set"
        make_pictures(folder, options.pictures)
        for _ in range(options.rounds):
            for work in works:
                times[work.__name__].append(seconds(work, folder))
    print(
        f"{options.pictures} pictures of 512 px, {os.cpu_count()} cores, best of {options.rounds}\n"
    )
    print("| what | best s | median s |\n| --- | --- | --- |")
    for name, some in times.items():
        print(f"| {name.replace('_', ' ')} | {min(some):.2f} | {statistics.median(some):.2f} |")
    best = {name: min(some) for name, some in times.items()}
    print(f"\nfirst opening / decoding: {best['open_first'] / best['decode_all']:.2f}")
    print(f"first opening / opening again: {best['open_first'] / best['open_again']:.1f}")


if __name__ == "__main__":
    main()
