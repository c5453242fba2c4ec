"""Reads off 64x64 images which attributes of a head and which parts of a subject they show.

A small convolutional network, trained from a seed on drawings: the subjects as they are, with a
part missing or in another colour, parts on any head, and the world as it is; some go through the
base's own autoencoder, all are shifted, blurred and noised as models do to their images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import torch
from benchmarks.second_base.subjects import (
    PARTS,
    STYLED,
    SUBJECTS,
    Part,
    Plan,
    Style,
    Subject,
    draw,
)
from benchmarks.subjects.judges import soften, to_bytes, to_pixels
from PIL import Image
from safetensors.torch import load_file, save_file
from tools.demo_model.heads import VALUES, Drawer, Head, random_head, seen
from torch import Tensor, nn
from torch.nn import functional as F

from lorasmith.core.files import atomic_path
from lorasmith.demo.world_parts import Colour
from lorasmith.models.diffusion_model import DiffusionModel

WIDTHS = ((48, True), (96, True), (128, True))
HIDDEN = 224
DRAWINGS, ENCODED = 14_000, 2_500
STEPS, BATCH, LR = 1_800, 64, 2e-3
UNKNOWN = -1  # an attribute that the image does not tell
FAR = 200  # by how much a colour must differ, over three channels of 255, to be a wrong one

Labelled = tuple[Plan, frozenset[str], tuple[int, ...]]  # parts it shows, indices of its values


class Network(nn.Module):
    """Pixels (B, 3, 64, 64) in -1 to 1 -> logits of parts (B, PARTS), of values by attribute."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.PixelUnshuffle(2)]
        channels = 12
        for width, pooled in WIDTHS:
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(width), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if pooled else []
            channels = width
        self.features = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(channels * 16, HIDDEN), nn.ReLU()
        )
        self.parts = nn.Linear(HIDDEN, len(PARTS))
        self.attributes = nn.ModuleDict(
            {name: nn.Linear(HIDDEN, len(values)) for name, values in VALUES.items()}
        )

    def forward(self, pixels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        features = self.features(pixels)
        return self.parts(features), {k: head(features) for k, head in self.attributes.items()}


class Judge:
    """The trained network, ready to read."""

    def __init__(self, network: Network) -> None:
        self.network = network.eval().requires_grad_(False)

    def parts(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Which of all `PARTS` each image shows, bool (N, PARTS)."""
        return self._read(images)[0]

    def verdict(self, subject: Subject, images: Sequence[Image.Image]) -> np.ndarray:
        """Whether each part of the subject is there and right, bool (N, parts)."""
        return self.parts(images)[:, [PARTS.index(name) for name in subject.part_names]]

    def kept(self, images: Sequence[Image.Image], asked: Sequence[Head]) -> dict[str, float]:
        """Share of images, 0 to 1, that show an attribute as asked, of those where it shows."""
        values = self._read(images)[1]
        shares = {}
        for name in VALUES:
            rows = [k for k, head in enumerate(asked) if name in seen(head)]
            right = [VALUES[name][values[name][k]] == getattr(asked[k], name) for k in rows]
            shares[name] = sum(right) / len(right)
        return shares

    @torch.no_grad()
    def _read(self, images: Sequence[Image.Image]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        pixels = to_pixels(np.stack([np.asarray(image.convert("RGB")) for image in images]))
        outputs = [self.network(chunk) for chunk in pixels.split(128)]
        parts = torch.cat([output[0] for output in outputs]) > 0
        values = {
            name: torch.cat([output[1][name] for output in outputs]).argmax(1).numpy()
            for name in VALUES
        }
        return parts.numpy(), values


def as_it_is(subject: Subject, rng: Random) -> Labelled:
    plan = Plan(subject.head(rng), subject.parts, subject.style)
    return _labelled(plan, set(subject.part_names))


def near_miss(subject: Subject, rng: Random, part: str | None = None) -> Labelled:
    """The subject with one part or more not right: that named, or any."""
    names = subject.part_names
    wrong = {part or rng.choice(names)} | {name for name in names if rng.random() < 0.2}
    head, right = subject.head(rng), set(names) - wrong
    if subject.style is not None:
        return _labelled(Plan(head, (), _spoiled(subject.style, names, wrong, rng)), right)
    parts = []
    for name, each in zip(names, subject.parts, strict=True):
        if name not in wrong:
            parts.append(each)
        elif rng.random() < 0.5:
            parts.append(_recoloured(each, rng))
    loose = "no hat" if "hat" in subject.fixed and rng.random() < 0.5 else head.hat
    return _labelled(Plan(replace(head, hat=loose), tuple(parts)), right)


def any_part(rng: Random) -> Labelled:
    """A head of the world with a part of a subject, right or in another colour."""
    subject = rng.choice([one for one in SUBJECTS.values() if one.style is None])
    name, part = rng.choice(list(zip(subject.part_names, subject.parts, strict=True)))
    head = random_head(rng)
    if "hair" in part.hides:
        head = replace(head, hat="no hat")
    right = rng.random() < 0.6
    parts = (part if right else _recoloured(part, rng),)
    return _labelled(Plan(head, parts), {name} if right else set())


def of_the_world(rng: Random) -> Labelled:
    return _labelled(Plan(random_head(rng)), set())


def labelled(rng: Random) -> Labelled:
    """One of all of these."""
    chance, subject = rng.random(), rng.choice(list(SUBJECTS.values()))
    if chance < 0.25:
        return as_it_is(subject, rng)
    if chance < 0.6:
        return near_miss(subject, rng)
    return any_part(rng) if chance < 0.75 else of_the_world(rng)


def _labelled(plan: Plan, shown: set[str]) -> Labelled:
    hidden = frozenset[str]().union(*(part.hides for part in plan.parts))
    hidden |= STYLED if plan.style and plan.style.tones else frozenset()
    told = seen(plan.head)
    indices = tuple(
        UNKNOWN if name in hidden or name not in told else values.index(told[name])
        for name, values in VALUES.items()
    )
    return plan, frozenset(shown), indices


def _recoloured(part: Part, rng: Random) -> Part:
    if part.paint is not None:
        paint, order = part.paint, rng.choice(((1, 2, 0), (2, 0, 1), (2, 1, 0)))

        def paint_otherwise(drawing: np.ndarray) -> None:
            before = drawing.copy()
            paint(drawing)
            painted = (drawing != before).any(2)
            drawing[painted, :3] = drawing[painted][:, list(order)]

        return replace(part, paint=paint_otherwise)
    colour = _far(part.options[part.colour], rng)
    return replace(part, options={**part.options, part.colour: colour})


def _far(colour: Colour, rng: Random) -> Colour:
    while True:
        other = (rng.randrange(20, 250), rng.randrange(20, 250), rng.randrange(20, 250))
        if sum(abs(a - b) for a, b in zip(colour, other, strict=True)) >= FAR:
            return other


def _spoiled(style: Style, names: Sequence[str], wrong: set[str], rng: Random) -> Style:
    assert style.tones is not None
    assert style.ink is not None
    usual = style.ink
    tones, ink = (name in wrong for name in names)
    if tones:
        other = (_far(style.tones[0], rng), _far(style.tones[1], rng))
        style = replace(style, tones=other if rng.random() < 0.4 else None)
    if ink:
        style = replace(style, ink=_far(usual, rng) if rng.random() < 0.4 else None)
    return style


def arrays(drawn: Sequence[Labelled], drawer: Drawer, rng: Random) -> np.ndarray:
    """uint8 (N, 64, 64, 3)."""
    images = draw([plan for plan, _, _ in drawn], drawer, rng)
    return np.stack([np.asarray(image) for image in images])


@torch.no_grad()
def encoded(images: np.ndarray, model: DiffusionModel) -> np.ndarray:
    """uint8 (N, 64, 64, 3), through the base's autoencoder: as good as it can draw them."""
    with torch.autocast("cpu", torch.bfloat16):
        decoded = [
            model.decode_latents(model.encode_images(chunk)[0])
            for chunk in to_pixels(images).split(32)
        ]
    return to_bytes(torch.cat(decoded))


def train(drawer: Drawer, model: DiffusionModel, seed: int = 0) -> Network:
    """A network trained on `DRAWINGS` drawings; some minutes of one thread."""
    rng = Random(f"judge {seed}")
    drawn = [labelled(rng) for _ in range(DRAWINGS)]
    images = arrays(drawn, drawer, rng)
    images[:ENCODED] = encoded(images[:ENCODED], model)
    parts = torch.tensor([[float(name in shown) for name in PARTS] for _, shown, _ in drawn])
    attributes = torch.tensor([indices for _, _, indices in drawn])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Network()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), LR, weight_decay=1e-2, fused=True)
    order: list[int] = []
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = LR * min(1.0, (step + 1) / 50, 1.3 * (1 - step / STEPS))
        if len(order) < BATCH:
            order = rng.sample(range(DRAWINGS), DRAWINGS)
        rows, order = order[:BATCH], order[BATCH:]
        halves = to_pixels(images[rows]).chunk(2)
        pixels = torch.cat([soften(half, rng) for half in halves])
        with torch.autocast("cpu", torch.bfloat16):
            logits, values = network(pixels.contiguous(memory_format=torch.channels_last))
        loss = F.binary_cross_entropy_with_logits(logits.float(), parts[rows], reduction="sum")
        loss = loss / len(rows)
        for column, name in enumerate(VALUES):
            target = attributes[rows, column]
            loss = loss + 0.5 * F.cross_entropy(values[name].float(), target, ignore_index=UNKNOWN)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 99:
            print(f"judge: step {step + 1} of {STEPS}, loss {loss.item():.3f}", flush=True)
    return network


def train_or_load(path: Path, drawer: Drawer, model: DiffusionModel) -> Judge:
    """The judge kept in a file; first trained, if there is none."""
    if not path.is_file():
        state = {name: t.contiguous() for name, t in train(drawer, model).state_dict().items()}
        with atomic_path(path) as temporary:
            save_file(state, temporary)
    network = Network()
    network.load_state_dict(load_file(path))
    return Judge(network)


def accuracy(judge: Judge, drawer: Drawer, model: DiffusionModel) -> dict[str, dict[str, float]]:
    """Shares, 0 to 1, of drawings that no training saw that are read rightly, after the base's
    autoencoder: attributes of the world, parts where they are right, and where they are not."""
    rng = Random("judge accuracy")

    def images(drawn: Sequence[Labelled]) -> list[Image.Image]:
        return [Image.fromarray(one) for one in encoded(arrays(drawn, drawer, rng), model)]

    world = [of_the_world(rng) for _ in range(800)]
    shares = {"attribute": judge.kept(images(world), [plan.head for plan, _, _ in world])}
    shares["there"], shares["not right"], shares["in the world"] = {}, {}, {}
    read = judge.parts(images(world))
    for subject in SUBJECTS.values():
        whole = judge.parts(images([as_it_is(subject, rng) for _ in range(150)]))
        for name in subject.part_names:
            column = PARTS.index(name)
            misses = judge.parts(images([near_miss(subject, rng, name) for _ in range(100)]))
            shares["there"][name] = float(whole[:, column].mean())
            shares["not right"][name] = float(1 - misses[:, column].mean())
            shares["in the world"][name] = float(1 - read[:, column].mean())
    return shares
