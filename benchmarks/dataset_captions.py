"""10 000 captions edited, beside sd-scripts' scripts that merge and clean them.

    LORASMITH_PEERS=~/peers python -m benchmarks.dataset_captions [--tags selected_tags.csv]

Some 30 tags in each caption. With the label file of a WD14 tagger: its general tags, as often as
Danbooru has them. Without: 8 000 tags, a third of them of one word, the n-th by 1 / (n + 10). Every
round copies the files anew, and all take turns. Theirs is `finetune/merge_dd_tags_to_metadata.py`
(all captions into a JSON file) and `finetune/clean_captions_and_tags.py` (underscores to spaces; a
word goes that another tag ends in; JSON to JSON): from `main` on, so that imports are not counted.
They write no caption file. Ours is what `lorasmith dataset edit --spaces --consolidate --yes` does:
the folder opened, captions read and edited, 10 000 files written through the journal, so that it
can be undone. "Text alone" is the edit of captions in memory, as in their loop. Seconds of the
processor, since other work may run; then by the clock. Writes `dataset_captions.md` beside it.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from PIL import Image

from lorasmith.core.files import write_text

REPORT = Path(__file__).with_suffix(".md")
SYLLABLES = "ka to mi ra no se lu vi do pa en or sha ti ben gra lo mu".split()  # noqa: SIM905

EDITS = {
    "add": ["add=hat"],
    "trigger first": ["trigger=zorp"],
    "remove": ["remove=red*"],
    "replace, regular expression": [r"replace=re:^(\w+) hat$=\1 cap"],
    "sort by count": ["sort=count"],
    "consolidate": ["consolidate"],
    "prune three lists": ["prune=meta,quality,colours"],
    "spaces, consolidate": ["spaces", "consolidate"],
    "format, trigger, dedupe, underscores": ["format", "trigger=zorp", "dedupe", "underscores"],
}

OURS = """
import sys, time
from pathlib import Path
from lorasmith.curation.collection import open_collection
from lorasmith.curation.edit.caption_text import edit_captions
from lorasmith.curation.edit.operations import edit_line, read_operations
from lorasmith.curation.edit.plan_edit import plan_edit
from lorasmith.curation.edit.tag_edits import CaptionContext
from benchmarks.dataset_captions import clock, say
folder, *operations = sys.argv[1:]
texts = [path.read_text() for path in Path(folder).rglob("*.txt")]
edits, context, start = read_operations(operations), CaptionContext(counts={"hat": 1}), clock()
for text in texts:
    edit_captions(text, lambda line: edit_line(line, edits, context))
say("text alone", start)
start = clock()
collection = open_collection(Path(folder))
say("open", start)
start = clock()
plan = plan_edit(collection, operations)
say("plan", start)
start = clock()
plan.apply()
say("write", start)
"""

THEIRS = """
import sys
from importlib.util import find_spec
from tests.peers.stand_ins import stand_in
sys.path.insert(0, sys.argv[1])
stand_in(*(name for name in ("torchvision", "cv2", "imagesize", "toml") if find_spec(name) is None))
import finetune.clean_captions_and_tags as clean
import finetune.merge_dd_tags_to_metadata as merge
from benchmarks.dataset_captions import clock, say
folder, table = sys.argv[2:]
def run(name, module, *arguments):
    arguments, start = module.setup_parser().parse_args(list(arguments)), clock()
    module.main(arguments)
    say(name, start)
run("merge", merge, folder, table, "--caption_extension", ".txt")
run("clean", clean, table, table)
"""


def clock() -> tuple[float, float]:
    return time.process_time(), time.perf_counter()


def say(name: str, start: tuple[float, float]) -> None:
    now = clock()
    print(json.dumps([name, now[0] - start[0], now[1] - start[1]]), flush=True)


def vocabulary(labels: Path | None) -> dict[str, float]:
    """Tags with underscores, and how often each is."""
    if labels is not None:
        with open(labels, encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["category"] == "0"]
        return {row["name"]: float(row["count"]) for row in rows}
    rng = random.Random(0)
    words = ["".join(rng.choices(SYLLABLES, k=rng.randint(2, 4))) for _ in range(4000)]
    sizes = rng.choices([1, 2, 3], [35, 50, 15], k=8000)
    tags = dict.fromkeys("_".join(rng.sample(words, k=size)) for size in sizes)
    return {tag: 1 / (place + 10) for place, tag in enumerate(tags)}


def make_files(folder: Path, count: int, labels: Path | None) -> None:
    rng = random.Random(1)
    tags = vocabulary(labels)
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "PNG")
    folder.mkdir(parents=True)
    for number in range(count):
        drawn = list(dict.fromkeys(rng.choices(list(tags), list(tags.values()), k=50)))[:28]
        caption = ", ".join(["1girl", "solo", "boots", "red_boots", *drawn])
        (folder / f"{number:05}.png").write_bytes(buffer.getvalue())
        (folder / f"{number:05}.txt").write_text(caption)


def measured(code: str, *arguments: str, paths: list[str]) -> dict[str, tuple[float, float]]:
    """Seconds of the processor and by the clock, by what took them."""
    path = os.pathsep.join([*paths, *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    return {name: (cpu, wall) for name, cpu, wall in rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--captions", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tags", type=Path, default=None, help="label file of a WD14 tagger")
    parser.add_argument("--folder", type=Path, default=None, help="for the files; a temporary one")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        report(root, options.captions, options.rounds, options.tags)
    finally:
        shutil.rmtree(root)


def report(root: Path, count: int, rounds: int, labels: Path | None) -> None:
    peers = os.environ.get("LORASMITH_PEERS", "")
    make_files(root / "files" / "1_zorp", count, labels)
    runs: dict[str, list[dict[str, tuple[float, float]]]] = {name: [] for name in EDITS}
    if peers:
        runs["theirs"] = []
    for _ in range(rounds):
        for name, results in runs.items():
            work = root / "work"
            shutil.copytree(root / "files", work)
            os.sync()
            if name == "theirs":
                scripts = str(Path(peers).expanduser() / "sd-scripts")
                arguments = [scripts, str(work / "1_zorp"), str(root / "table.json")]
                older = str(Path(peers).expanduser() / "transformers4")
                results.append(measured(THEIRS, *arguments, paths=[older]))
                (root / "table.json").unlink()
            else:
                results.append(measured(OURS, str(work), *EDITS[name], paths=[]))
            shutil.rmtree(work)
            print(name, results[-1], file=sys.stderr)
    write_text(REPORT, page(runs, count, rounds, labels is not None, root.parent))


def page(
    runs: dict[str, list[dict[str, tuple[float, float]]]],
    count: int,
    rounds: int,
    real: bool,
    folder: Path,
) -> str:
    parts = ("open", "plan", "write")

    def of(name: str, part: str, kind: int = 0) -> float:
        return median(result[part][kind] for result in runs[name])

    def total(name: str, kind: int = 0, chosen: tuple[str, ...] = parts) -> float:
        return median(sum(result[part][kind] for part in chosen) for result in runs[name])

    lines = [
        f"# {count:,} captions".replace(",", " "),
        "",
        (
            f"Made by `python -m benchmarks.dataset_captions{' --tags selected_tags.csv' * real}`"
            f" on a {platform.machine()} CPU with {os.cpu_count()} cores, medians of {rounds}"
            " rounds by turns. Seconds of the processor; much other work ran beside it, so those"
            f" by the clock are upper bounds. Files in {folder}."
        ),
        "",
        "| edit | text alone | open | plan | write | in all | by the clock |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in EDITS:
        cells = [of(name, part) for part in ("text alone", *parts)]
        cells += [total(name), total(name, 1)]
        lines.append(f"| {name} | {' | '.join(f'{cell:.2f}' for cell in cells)} |")
    if "theirs" in runs:
        ours = "spaces, consolidate"
        both = total("theirs", 0, ("merge", "clean"))
        lines += [
            "",
            "sd-scripts' scripts, beside `--spaces --consolidate` of the same captions:",
            "",
            "| | seconds | ours | theirs / ours |",
            "|---|---|---|---|",
        ]
        merging = of("theirs", "merge")
        for name, theirs, own in (
            ("cleaning: theirs from JSON to JSON, ours in memory", of("theirs", "clean"),
             of(ours, "text alone")),
            ("merging and cleaning; ours: the folder opened, captions read and edited", both,
             total(ours, 0, ("open", "plan"))),
            ("the same; ours: every file written, too, and undoable", both, total(ours)),
        ):  # fmt: skip
            lines.append(f"| {name} | {theirs:.2f} | {own:.2f} | {theirs / own:.1f} |")
        lines += ["", f"Merging alone, which reads the files and no more, takes {merging:.2f} s."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
