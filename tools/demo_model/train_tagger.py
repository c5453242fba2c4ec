"""Trains the tagger that ships, on drawings of the demo world, and writes it in WD14's layout.

    python -m tools.demo_model.train_tagger train --minutes 10
    python -m tools.demo_model.train_tagger test

``train`` writes `model.onnx` and `selected_tags.csv` into the package; ``test`` measures what is
there: precision and recall by tag on drawings that no training drew.
"""

from __future__ import annotations

import argparse
import csv
import io
import logging
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from tools.demo_model.clutter import random_colour, scribble
from torch import Tensor, nn
from torch.nn import functional as F

from lorasmith.core.files import ASSETS, atomic_path, write_text
from lorasmith.curation.tagger.choose import TagChooser, TagRules
from lorasmith.curation.tagger.inputs import pad_square, to_input
from lorasmith.curation.tagger.model import open_tagger
from lorasmith.curation.tagger.scores import ImageScores
from lorasmith.demo.character import TRIGGER, ZORP, random_zorp
from lorasmith.demo.world import (
    COLOURS,
    NO_EXTRAS,
    UNSAID,
    VALUES,
    Creature,
    Extras,
    all_tags,
    draw_canvas,
    random_creature,
)
from lorasmith.demo.world_parts import CANVAS, Colour

FOLDER = ASSETS / "demo_tagger"
SIDE = 96
"""Pixels of the square that the net sees: 64 would leave letterboxed drawings too little."""
WIDTHS = (32, 48, 96, 128, 160)
HIDDEN = 192
BATCH = 64
LR = 2e-3
EMA = 0.995

DOODLES = "doodles"
# Parts that the base world lacks, by their field of `Extras`; the same words for every colour.
PART_TAGS = {
    "lower": "two-tone body",
    "antennae": "antennae",
    "wings": "wings",
    "scarf": "scarf",
}
SAID_VALUES = {
    attribute: tuple(f"{v} body" if attribute == "colour" else v for v in values)
    for attribute, values in VALUES.items()
}
GENERAL_TAGS = (
    *(value for values in SAID_VALUES.values() for value in values if value not in UNSAID),
    *PART_TAGS.values(),
    DOODLES,
)
TAGS = (*GENERAL_TAGS, TRIGGER)
GENERAL, CHARACTER = 0, 4  # as selected_tags.csv numbers categories

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Drawing:
    """RGB, and the tags that are true of it."""

    image: Image.Image
    tags: frozenset[str]


def _part(rng: Random, character: Colour | None) -> Colour | None:
    if rng.random() < 0.55:
        return None
    return character if character is not None and rng.random() < 0.4 else random_colour(rng)


def _random_extras(creature: Creature, rng: Random) -> Extras:
    lower = _part(rng, ZORP.lower)
    body = COLOURS[creature.colour]
    if lower is not None and max(abs(a - b) for a, b in zip(lower, body, strict=True)) < 80:
        lower = None  # nobody could tell
    return Extras(
        lower=lower,
        antennae=_part(rng, ZORP.antennae),
        wings=_part(rng, ZORP.wings),
        scarf=_part(rng, None) if rng.random() < 0.5 else None,
        arms=rng.random() < 0.5,
    )


def random_drawing(rng: Random) -> Drawing:
    """A drawing of 256x256 pixels: half plain creatures; others with parts that the base world
    lacks, zorps, some scribbled over, a few with no creature at all."""
    kind = rng.random()
    if kind < 0.04:
        image = Image.new("RGB", (CANVAS, CANVAS), random_colour(rng))
        scribble(image, rng.randint(3, 14), rng, largest=0.35)
        return Drawing(image, frozenset({DOODLES}))
    creature, extras, tags = random_creature(rng), NO_EXTRAS, set[str]()
    if kind < 0.16:
        creature, extras = random_zorp(rng), ZORP
        tags.add(TRIGGER)
    elif kind < 0.5:
        extras = _random_extras(creature, rng)
    image = draw_canvas(creature, rng, extras)
    tags.update(all_tags(creature))
    tags.update(tag for field, tag in PART_TAGS.items() if getattr(extras, field) is not None)
    if rng.random() < 0.15:
        scribble(image, rng.randint(2, 6), rng)  # as in the base model's pictures of that tag
        tags.add(DOODLES)
    return Drawing(image, frozenset(tags))


def as_found(image: Image.Image, rng: Random, largest: int = CANVAS) -> Image.Image:
    """The drawing as it may lie in a folder: letterboxed, mirrored, of a JPEG, 64 pixels or more.

    Args:
        largest: pixels of its longer side at most. What is enlarged beyond the canvas looks the
            same again when the tagger has shrunk it, so training does not.
    """
    if rng.random() < 0.25:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < 0.25:
        left, top = rng.randint(0, 12), rng.randint(0, 12)
        image = image.crop((left, top, CANVAS - rng.randint(0, 12), CANVAS - rng.randint(0, 12)))
    if rng.random() < 0.25:
        longer = int(CANVAS * rng.uniform(1.05, 1.5))
        size = (longer, CANVAS) if rng.random() < 0.5 else (CANVAS, longer)
        bars = Image.new("RGB", size, rng.choice(((0, 0, 0), (255, 255, 255), random_colour(rng))))
        bars.paste(image, ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
        image = bars
    side = 64 if rng.random() < 0.4 else min(rng.randint(64, 512), largest)
    if side != max(image.size):
        kind = rng.choice((Image.Resampling.BOX, Image.Resampling.BICUBIC))
        factor = side / max(image.size)
        image = image.resize((round(image.width * factor), round(image.height * factor)), kind)
    if rng.random() < 0.25:
        file = io.BytesIO()
        image.save(file, format="JPEG", quality=rng.randint(50, 95))
        image = Image.open(file).convert("RGB")
    return image


def to_pixels(image: Image.Image) -> np.ndarray:
    """What the net takes of an RGB image: uint8 (SIDE, SIDE, 3), BGR."""
    square = pad_square(image, "white")
    return np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BICUBIC))[:, :, ::-1]


def _batch(rng: Random) -> tuple[Tensor, Tensor]:
    """Float (B, SIDE, SIDE, 3) BGR 0..255, and 0 or 1 by tag, (B, tags)."""
    drawings = [random_drawing(rng) for _ in range(BATCH)]
    pixels = np.stack([to_pixels(as_found(drawing.image, rng)) for drawing in drawings])
    truth = torch.tensor([[float(tag in one.tags) for tag in TAGS] for one in drawings])
    return _soften(torch.from_numpy(pixels).float(), rng), truth


def _soften(pixels: Tensor, rng: Random) -> Tensor:
    """Blur, noise and smudges, as models and autoencoders leave in their images."""
    kind = rng.random()
    if kind < 0.3:
        blurred = F.avg_pool2d(pixels.permute(0, 3, 1, 2), 3, 1, padding=1, count_include_pad=False)
        pixels = torch.lerp(pixels, blurred.permute(0, 2, 3, 1), rng.uniform(0.2, 1))
    if kind > 0.6:
        pixels = pixels + torch.randn_like(pixels) * rng.uniform(0, 14)
    if kind > 0.8:
        coarse = torch.randn(len(pixels), 3, 16, 16) * rng.uniform(0, 16)
        smooth = F.interpolate(coarse, size=SIDE, mode="bilinear").permute(0, 2, 3, 1)
        pixels = pixels + smooth
    return pixels.clamp(0, 255)


class TaggerNet(nn.Module):
    """Pixels (B, SIDE, SIDE, 3), BGR, 0..255 -> logits (B, tags)."""

    def __init__(self, tags: int = len(TAGS)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for index, width in enumerate(WIDTHS):
            size, stride, padding = (3, 1, 1) if index else (5, 2, 2)
            layers.append(nn.Conv2d(channels, width, size, stride, padding, bias=False))
            layers += [nn.BatchNorm2d(width), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if index else []
            channels = width
        last = SIDE // 2 ** len(WIDTHS)
        self.features = nn.Sequential(*layers)
        self.hidden = nn.Linear(channels * last * last, HIDDEN)
        self.head = nn.Linear(HIDDEN, tags)

    def forward(self, pixels: Tensor) -> Tensor:
        planes = pixels.permute(0, 3, 1, 2) / 127.5 - 1
        features = self.features(planes.contiguous(memory_format=torch.channels_last))
        return self.head(torch.relu(self.hidden(features.flatten(1))))


def train(minutes: float, seed: int = 0, folder: Path = FOLDER) -> None:
    """Train for so many minutes of processor time, and write the folder."""
    torch.manual_seed(seed)
    rng, step = Random(f"tagger {seed}"), 0
    net = TaggerNet()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    averaged = torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(EMA), use_buffers=True
    )
    optimizer = torch.optim.AdamW(net.parameters(), LR, weight_decay=1e-2)
    begin = time.process_time()
    while (progress := (time.process_time() - begin) / (60 * minutes)) < 1:
        optimizer.param_groups[0]["lr"] = LR * min(1.0, step / 100, 1.3 * (1 - progress))
        pixels, truth = _batch(rng)
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(pixels)
        loss = F.binary_cross_entropy_with_logits(logits.float(), truth, reduction="sum") / BATCH
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        averaged.update_parameters(net)
        step += 1
        if step % 50 == 0:
            seconds = time.process_time() - begin
            log.info("tagger %.0fs step %d loss %.3f", seconds, step, loss.item())
    module = averaged.module
    assert isinstance(module, TaggerNet)
    write_folder(module.eval(), folder)


def write_folder(net: TaggerNet, folder: Path) -> None:
    """`model.onnx` and `selected_tags.csv`, as WD14 taggers are published."""
    with atomic_path(folder / "model.onnx") as temporary:
        temporary.write_bytes(to_onnx(net).SerializeToString(deterministic=True))
    rng = Random("counts")
    counts = Counter(tag for _ in range(2000) for tag in random_drawing(rng).tags)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["tag_id", "name", "category", "count"])
    for number, tag in enumerate(TAGS, 1):
        category = CHARACTER if tag == TRIGGER else GENERAL
        table.writerow([number, tag.replace(" ", "_"), category, counts[tag]])
    write_text(folder / "selected_tags.csv", text.getvalue())


def to_onnx(net: TaggerNet, dtype: type[np.floating[Any]] = np.float16) -> onnx.ModelProto:
    """The net in evaluation, norms folded into convolutions, with a sigmoid.

    Args:
        dtype: of the weights as they are stored; what computes is float32.
    """
    weights: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []

    def constant(name: str, values: np.ndarray) -> str:
        weights.append(numpy_helper.from_array(values, name))
        return name

    def weight(name: str, tensor: Tensor) -> str:
        stored = constant(f"{name}.stored", tensor.detach().numpy().astype(dtype))
        nodes.append(helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT))
        return name

    def add(kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    x = add("Transpose", ["input"], "planes", perm=[0, 3, 1, 2])
    x = add("Div", [x, constant("half_range", np.array(127.5, np.float32))], "scaled")
    x = add("Sub", [x, constant("one", np.array(1, np.float32))], "centred")
    layers = list(net.features)
    for index, layer in enumerate(layers):
        name = f"features.{index}"
        if isinstance(layer, nn.Conv2d):
            norm = layers[index + 1]
            assert isinstance(norm, nn.BatchNorm2d)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            inputs = [x, weight(f"{name}.weight", layer.weight * scale[:, None, None, None])]
            inputs.append(weight(f"{name}.bias", norm.bias - norm.running_mean * scale))
            stride, pad = layer.stride[0], int(layer.padding[0])
            x = add("Conv", inputs, name, strides=[stride] * 2, pads=[pad] * 4)
        elif isinstance(layer, nn.ReLU):
            x = add("Relu", [x], name)
        elif isinstance(layer, nn.MaxPool2d):
            x = add("MaxPool", [x], name, kernel_shape=[2, 2], strides=[2, 2])
    x = add("Flatten", [x], "flat", axis=1)
    for name, linear in (("hidden", net.hidden), ("head", net.head)):
        parts = [weight(f"{name}.weight", linear.weight), weight(f"{name}.bias", linear.bias)]
        x = add("Gemm", [x, *parts], name, transB=1)
        if name == "hidden":
            x = add("Relu", [x], "hidden.relu")
    add("Sigmoid", [x], "output")
    count = net.head.out_features
    graph = helper.make_graph(
        nodes,
        "demo_tagger",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", count])],
        weights,
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, producer_name="lorasmith", opset_imports=opset, ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


@dataclass(frozen=True)
class TagQuality:
    """
    Args:
        true: drawings that have the tag.
        precision: of those that were given it, the share that has it; NaN where none was.
        recall: of those that have it, the share that was given it.
    """

    true: int
    precision: float
    recall: float


def held_out_quality(count: int = 500, folder: Path = FOLDER) -> dict[str, TagQuality]:
    """By tag and "all" together, on drawings that no training drew, of 64 to 512 pixels, through
    the package's own reading of a tagger's folder and its usual thresholds."""
    tagger = open_tagger(str(folder))
    choose = TagChooser(tagger.labels, TagRules())
    rng = Random("held-out drawings of the tagger")
    hits: Counter[str] = Counter()
    given: Counter[str] = Counter()
    true: Counter[str] = Counter()
    for _ in range(count):
        drawing = random_drawing(rng)
        pixels = to_input(as_found(drawing.image, rng, largest=512), tagger.form)
        tags = choose(ImageScores.of(tagger.scores(pixels[None])[0]))
        given.update(tags)
        true.update(drawing.tags)
        hits.update(drawing.tags.intersection(tags))
    for counter in (given, true, hits):
        counter["all"] = counter.total()
    return {
        tag: TagQuality(
            true[tag],
            hits[tag] / given[tag] if given[tag] else math.nan,
            hits[tag] / true[tag] if true[tag] else math.nan,
        )
        for tag in (*TAGS, "all")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("train", "test"))
    parser.add_argument("--minutes", type=float, default=10.0, help="of processor time")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if args.part == "train":
        train(args.minutes, args.seed)
    print("| tag | drawings with it | precision | recall |\n|---|---|---|---|")
    for tag, one in held_out_quality().items():
        print(f"| {tag} | {one.true} | {one.precision:.3f} | {one.recall:.3f} |")


if __name__ == "__main__":
    main()
