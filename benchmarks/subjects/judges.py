"""Judges that read off 64x64 images which parts of a subject they show.

One small convolutional network reads the parts of all subjects and the attributes of the world. It
is trained from a seed on drawings (see `labelled`), some after the demo model's autoencoder,
that are shifted, blurred and noised as models do to their images. It is kept in a folder of the
caller's choice, under a name that tells by which version of these files it was trained.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import torch
from benchmarks.subjects.labelled import PARTS, UNKNOWN, labelled, to_array
from benchmarks.subjects.subjects import Prompt, Subject
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from lorasmith.core.files import atomic_path
from lorasmith.demo.world import VALUES
from lorasmith.models.load import load_model

# Width of each convolution, and whether it is followed by pooling.
LAYERS = ((48, True), (96, False), (128, True), (160, True))
HIDDEN = 256
DRAWINGS = 27_000
ENCODED = 4_500  # of these, those that go through the demo model's autoencoder
STEPS = 2_850
BATCH = 64
LR = 2e-3


class Network(nn.Module):
    """Pixels (B, 3, 64, 64) in -1 to 1 -> features (B, HIDDEN), logits of parts and attributes."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.PixelUnshuffle(2)]
        channels = 12
        for width, pooled in LAYERS:
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

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        features = self.features(pixels)
        attributes = {name: head(features) for name, head in self.attributes.items()}
        return features, self.parts(features), attributes


class Judges:
    """The trained network, ready to read."""

    def __init__(self, network: Network) -> None:
        self.network = network.eval().requires_grad_(False)

    def verdict(self, subject: Subject, images: Sequence[Image.Image]) -> np.ndarray:
        """Whether each part of the subject is there and right, bool (N, parts)."""
        columns = [PARTS.index(f"{subject.name} {part}") for part in subject.parts]
        return self._read(images)[1][:, columns] > 0

    def fidelity(self, subject: Subject, images: Sequence[Image.Image]) -> float:
        """Share of images, 0 to 1, with all parts of the subject."""
        return float(self.verdict(subject, images).all(axis=1).mean())

    def leak(self, subject: Subject, images: Sequence[Image.Image]) -> float:
        """Share of images, 0 to 1, with any part of the subject; for prompts without trigger."""
        return float(self.verdict(subject, images).any(axis=1).mean())

    def mixing(self, other: Subject, images: Sequence[Image.Image]) -> float:
        """Share of images, 0 to 1, asked for by one subject, that show any part of another."""
        return self.leak(other, images)

    def follows(self, prompts: Sequence[Prompt], images: Sequence[Image.Image]) -> float:
        """Share, 0 to 1, of all attributes asked for that the images show as asked."""
        readings = self._read(images)[2]
        right = [
            VALUES[name][int(readings[name][row])] == getattr(prompt.creature, name)
            for row, prompt in enumerate(prompts)
            for name in prompt.asked
        ]
        return sum(right) / len(right)

    def features(self, images: Sequence[Image.Image]) -> np.ndarray:
        """What the network makes of each image, float32 (N, HIDDEN), each of length 1."""
        features = self._read(images)[0]
        return features / np.linalg.norm(features, axis=1, keepdims=True).clip(1e-6)

    def diversity(self, images: Sequence[Image.Image], reference: Sequence[Image.Image]) -> float:
        """Mean distance between pairs of images, over that of the reference: 1 is as varied.

        The reference are drawings of the same prompts, `Subject.held_out_images`.
        """
        return _mean_distance(self.features(images)) / _mean_distance(self.features(reference))

    @torch.no_grad()
    def _read(
        self, images: Sequence[Image.Image]
    ) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        pixels = to_pixels(np.stack([np.asarray(image.convert("RGB")) for image in images]))
        outputs = [self.network(chunk) for chunk in pixels.split(128)]
        features = torch.cat([output[0] for output in outputs]).numpy()
        logits = torch.cat([output[1] for output in outputs]).numpy()
        values = {
            name: torch.cat([output[2][name] for output in outputs]).argmax(1).numpy()
            for name in VALUES
        }
        return features, logits, values


def _mean_distance(features: np.ndarray) -> float:
    distances = np.linalg.norm(features[:, None] - features[None], axis=2)
    count = len(features)
    return float(distances.sum() / (count * (count - 1)))


def to_pixels(images: np.ndarray) -> Tensor:
    """uint8 (N, 64, 64, 3) -> float (N, 3, 64, 64) in -1 to 1."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_bytes(pixels: Tensor) -> np.ndarray:
    """Float (N, 3, 64, 64) in -1 to 1 -> uint8 (N, 64, 64, 3)."""
    return ((pixels.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()


def soften(pixels: Tensor, rng: Random, strength: float = 1.0) -> Tensor:
    """Shift, blur, shrink, tint and add noise, as models and autoencoders do to their images."""
    generator = torch.Generator().manual_seed(rng.getrandbits(60))

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    count = len(pixels)
    pixels = torch.roll(pixels, (rng.randint(-2, 2), rng.randint(-2, 2)), (2, 3))
    kind = rng.random()
    if kind < 0.35:
        blurred = F.avg_pool2d(F.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, 1)
        pixels = torch.lerp(pixels, blurred, strength * rng.uniform(0.2, 0.9))
    elif kind < 0.6:
        size = rng.choice((32, 40, 48))
        small = F.interpolate(pixels, size=size, mode="bilinear", antialias=True)
        back = F.interpolate(small, size=64, mode="bilinear")
        pixels = torch.lerp(pixels, back, strength * rng.uniform(0.5, 1))
    if rng.random() < 0.5:
        gain = 1 + 0.06 * strength * noise(count, 1, 1, 1)
        pixels = pixels * gain + 0.03 * strength * noise(count, 3, 1, 1)
    if rng.random() < 0.6:
        pixels = pixels + noise(*pixels.shape) * strength * rng.uniform(0, 0.12)
    if rng.random() < 0.4:
        # Noise that is even over patches, like the smudges of a sampled image.
        coarse = noise(count, 3, 16, 16) * strength * rng.uniform(0, 0.15)
        pixels = pixels + F.interpolate(coarse, size=64, mode="bilinear")
    return pixels.clamp(-1, 1)


@torch.no_grad()
def encoded(images: np.ndarray) -> np.ndarray:
    """uint8 (N, 64, 64, 3), through the demo model's autoencoder: as good as it can draw them."""
    model = load_model("demo")
    with torch.autocast("cpu", torch.bfloat16):
        decoded = [
            model.decode_latents(model.encode_images(chunk)[0])
            for chunk in to_pixels(images).split(32)
        ]
    return to_bytes(torch.cat(decoded))


def train(seed: int = 0) -> Network:
    """A network trained on `DRAWINGS` drawings; about five minutes of one thread."""
    rng = Random(f"judges {seed}")
    drawings = [labelled(rng) for _ in range(DRAWINGS)]
    images = to_array(drawings)
    images[:ENCODED] = encoded(images[:ENCODED])
    parts = torch.tensor([d.parts for d in drawings], dtype=torch.float32)
    attributes = torch.tensor([d.attributes for d in drawings])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Network()
    # In this layout, bfloat16 convolutions are three times as fast on a CPU as float32 ones.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), LR, weight_decay=1e-2, fused=True)
    order: list[int] = []
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = LR * min(1.0, (step + 1) / 50, 1.3 * (1 - step / STEPS))
        if len(order) < BATCH:
            order = rng.sample(range(DRAWINGS), DRAWINGS)
        rows, order = order[:BATCH], order[BATCH:]
        # Halves, so that a batch has images softened in two ways.
        halves = to_pixels(images[rows]).chunk(2)
        pixels = torch.cat([soften(half, rng) for half in halves])
        with torch.autocast("cpu", torch.bfloat16):
            _, logits, values = network(pixels.contiguous(memory_format=torch.channels_last))
        loss = F.binary_cross_entropy_with_logits(logits.float(), parts[rows], reduction="sum")
        loss = loss / len(rows)
        for column, name in enumerate(VALUES):
            loss = loss + 0.5 * F.cross_entropy(
                values[name].float(), attributes[rows, column], ignore_index=UNKNOWN
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 99:
            print(f"judges: step {step + 1} of {STEPS}, loss {loss.item():.3f}", flush=True)
    return network


def train_or_load(work: Path, seed: int = 0) -> Judges:
    """The judges kept in the folder `work`; first trained, if it has none of this version."""
    version = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem in ("drawing", "judges", "labelled", "subjects", "traits"):
            version.update(path.read_bytes())
    path = work / f"judges-{version.hexdigest()[:12]}-{seed}.safetensors"
    if not path.is_file():
        work.mkdir(parents=True, exist_ok=True)
        state = {name: t.contiguous() for name, t in train(seed).state_dict().items()}
        with atomic_path(path) as temporary:
            save_file(state, temporary)
    network = Network()
    network.load_state_dict(load_file(path))
    return Judges(network)
