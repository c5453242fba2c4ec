"""A tagger of WD14-v3's true shapes on one core: pictures in a second, and where the time goes.

    python -m benchmarks.tagger [--pictures 16]

Makes a folder as SmilingWolf/wd-vit-tagger-v3 is: a vision transformer (base, patches of 16) of
random weights as ONNX, 448 px, NHWC, 10 861 labels in its blocks of categories. Tags photographs
of random noise through `dataset tag`'s own functions, and the demo's tagger likewise. Times are of
the processor, on one core. Writes the table to `tagger.md` beside this file.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from lorasmith.core.files import write_text
from lorasmith.core.text import bytes_text
from lorasmith.curation.tagger.choose import TagChooser, TagRules
from lorasmith.curation.tagger.inputs import load_input
from lorasmith.curation.tagger.model import Tagger, open_tagger
from lorasmith.curation.tagger.scoring import score_images

REPORT = Path(__file__).with_suffix(".md")
SIDE, PATCH, WIDTH, LAYERS, HEADS = 448, 16, 768, 12, 12
BLOCKS = {9: 4, 0: 8106, 4: 2751}  # rows of each category, in the order of the real file
LABELS = sum(BLOCKS.values())
PHOTO = (1536, 1024)


class Graph:
    """Nodes and random weights, in float32."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def constant(self, values: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def random(self, *shape: int, scale: float = 0.02) -> str:
        return self.constant(self.rng.standard_normal(shape, np.float32) * np.float32(scale))

    def add(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        name = f"x{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def shape(self, x: str, *sizes: int) -> str:
        return self.add("Reshape", [x, self.constant(np.array(sizes, np.int64))])

    def number(self, value: float) -> str:
        return self.constant(np.array(value, np.float32))

    def linear(self, x: str, inner: int, outer: int) -> str:
        product = self.add("MatMul", [x, self.random(inner, outer)])
        return self.add("Add", [product, self.random(outer)])

    def norm(self, x: str) -> str:
        ones = self.constant(np.ones(WIDTH, np.float32))
        return self.add("LayerNormalization", [x, ones, self.random(WIDTH)], axis=-1)

    def gelu(self, x: str) -> str:
        error = self.add("Erf", [self.add("Div", [x, self.number(2**0.5)])])
        gate = self.add("Mul", [self.add("Add", [error, self.number(1)]), self.number(0.5)])
        return self.add("Mul", [x, gate])


def vision_transformer() -> onnx.ModelProto:
    """(N, 448, 448, 3), 0..255 -> probabilities (N, 10861)."""
    g = Graph()
    tokens, size = (SIDE // PATCH) ** 2, WIDTH // HEADS
    x = g.add("Transpose", ["input"], perm=[0, 3, 1, 2])
    x = g.add("Sub", [g.add("Div", [x, g.number(127.5)]), g.number(1)])
    patches = [x, g.random(WIDTH, 3, PATCH, PATCH), g.random(WIDTH)]
    x = g.shape(g.add("Conv", patches, strides=[PATCH, PATCH]), 0, WIDTH, tokens)
    x = g.add("Add", [g.add("Transpose", [x], perm=[0, 2, 1]), g.random(1, tokens, WIDTH)])
    for _ in range(LAYERS):
        parts = []
        y = g.norm(x)
        for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):  # queries, keys, values
            part = g.shape(g.linear(y, WIDTH, WIDTH), 0, tokens, HEADS, size)
            parts.append(g.add("Transpose", [part], perm=perm))
        query, key, value = parts
        weights = g.add("MatMul", [g.add("Mul", [query, g.number(size**-0.5)]), key])
        mixed = g.add("MatMul", [g.add("Softmax", [weights], axis=-1), value])
        mixed = g.shape(g.add("Transpose", [mixed], perm=[0, 2, 1, 3]), 0, tokens, WIDTH)
        x = g.add("Add", [x, g.linear(mixed, WIDTH, WIDTH)])
        hidden = g.gelu(g.linear(g.norm(x), WIDTH, 4 * WIDTH))
        x = g.add("Add", [x, g.linear(hidden, 4 * WIDTH, WIDTH)])
    x = g.norm(g.add("ReduceMean", [x], axes=[1], keepdims=0))
    x = g.add("Sigmoid", [g.linear(x, WIDTH, LABELS)])
    graph = helper.make_graph(
        g.nodes,
        "vit",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, ["N", LABELS])],
        g.weights,
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8)


def write_folder(folder: Path) -> None:
    onnx.save(vision_transformer(), folder / "model.onnx")
    lines = ["tag_id,name,category,count"]
    for category, count in BLOCKS.items():
        lines += [f"{len(lines)},label_{category}_{row},{category},1" for row in range(count)]
    write_text(folder / "selected_tags.csv", "\n".join(lines) + "\n")


def write_photos(folder: Path, count: int) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = []
    for number in range(count):
        small = Image.fromarray(rng.integers(0, 256, (32, 48, 3), np.uint8))
        paths.append(folder / f"{number:04d}.jpg")
        small.resize(PHOTO, Image.Resampling.BICUBIC).save(paths[-1], quality=90)
    return paths


def measured(tagger: Tagger, folder: Path, paths: Sequence[Path]) -> dict[str, float]:
    """Seconds of the processor for a picture, by what they go into."""
    seconds: dict[str, float] = {}

    def clock(what: str, begin: float) -> None:
        seconds[what] = (time.process_time() - begin) / len(paths)

    tagger.open()
    begin = time.process_time()
    arrays = [load_input(path, tagger.form) for path in paths]
    clock("decoding", begin)
    begin = time.process_time()
    for array in arrays:
        tagger.scores(array[None])
    clock("model", begin)
    begin = time.process_time()
    scored = score_images({folder: paths}, tagger)
    clock("all", begin)
    assert scored.tagged == len(paths)
    choose = TagChooser(scored.labels, TagRules())
    begin = time.process_time()
    again = score_images({folder: paths}, Tagger(tagger.files))
    assert not again.tagged
    for scores in again.scores.values():
        choose(scores)
    clock("again", begin)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=16)
    count = parser.parse_args().pictures
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_folder(folder)
        size = (folder / "model.onnx").stat().st_size
        taggers = {"WD14-v3 (ViT-B/16)": open_tagger(str(folder)), "demo": open_tagger("demo")}
        for tagger_name, tagger in taggers.items():
            photos = folder / tagger_name[:4]
            photos.mkdir()
            seconds = measured(tagger, photos, write_photos(photos, count))
            rows.append(
                f"| {tagger_name} | {tagger.form.side} | {len(tagger.labels)} "
                f"| {1 / seconds['all']:.2f} | {seconds['decoding'] * 1000:.0f} "
                f"| {seconds['model'] * 1000:.0f} | {seconds['all'] * 1000:.0f} "
                f"| {seconds['again'] * 1000:.2f} |"
            )
    text = (
        "# Taggers on one core\n\n"
        f"Made by `python -m benchmarks.tagger --pictures {count}` on one core of a "
        f"{platform.machine()} CPU, onnxruntime {onnxruntime.__version__}, float32. The first is a "
        f"random model of WD14-v3's true shapes ({bytes_text(size)}). Times are of the processor, "
        f'for one JPEG of {PHOTO[0]}x{PHOTO[1]}; "again" is with other thresholds, from the '
        "scores that were kept.\n\n"
        "| tagger | px | labels | pictures in 1 s | decoding, ms | model, ms | all, ms "
        "| again, ms |\n|---|---|---|---|---|---|---|---|\n"
    )
    write_text(REPORT, text + "\n".join(rows) + "\n")
    print(REPORT.read_text())


if __name__ == "__main__":
    main()
