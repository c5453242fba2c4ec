"""How far an adapter moves what is none of its business: prompts of other things, on images that
the base drew of them. Needs no training images.

Shapes: P prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorasmith.measures.drawings import kind_of
from lorasmith.measures.features import FeatureExtractor, MiddleBlock, mean_within
from lorasmith.measures.noise_probe import Probe, Row
from lorasmith.measures.records import finite

if TYPE_CHECKING:
    from lorasmith.adapters.network import AdapterNetwork
    from lorasmith.diffusion.schedule import NoiseSchedule
    from lorasmith.measures.drawings import Drawings
    from lorasmith.models.diffusion_model import DiffusionModel

SEED, TIMESTEPS = 0, 8
KIND = "own"


@dataclass(frozen=True, slots=True)
class BaseKept:
    """
    Args:
        prompts: of other things.
        moved: (P,) mean squared difference of the predictions from the base's.
        called: (P,) the same with the trigger in front; empty without one.
        drawings: (P,) distance of the drawings from the base's of the same seed, as a share of
            that between two of the base's; empty for a single prompt.
    """

    prompts: list[str]
    moved: list[float]
    called: list[float]
    drawings: list[float]

    def leaks(self) -> list[float]:
        """(P,) how far plain prompts move, as a share of those with the trigger: 1 where the word
        makes no difference; empty without a trigger."""
        return [
            plain / called if called > 0 else 0.0
            for plain, called in zip(self.moved, self.called, strict=False)
        ]


def measure_base_kept(
    model: DiffusionModel,
    schedule: NoiseSchedule,
    network: AdapterNetwork,
    prompts: Sequence[str],
    trigger: str,
    draw: Drawings,
    name: str,
    prompt_done: Callable[[], object] = lambda: None,
) -> BaseKept:
    """
    Args:
        network: not attached.
        prompts: of things that the base knows.
        trigger: "" for none.
        draw: makes and keeps the drawings.
        name: of the LoRA's drawings.
    """
    kind = kind_of(KIND, prompts)
    images = draw(prompts, "base", kind)
    moved, called = [], []
    for number, (image, prompt) in enumerate(zip(images, prompts, strict=True)):
        captions = [prompt, f"{trigger}, {prompt}"] if trigger else [prompt]
        rows = [Row.of(model, image, caption, number) for caption in captions]
        probe = Probe(model, schedule, rows, SEED, TIMESTEPS)
        with network.attached():
            plain, *rest = map(finite, probe.predict().moved(probe.base))
        moved.append(plain)
        called += rest
        prompt_done()
    with network.attached():
        own = draw(prompts, name, kind)
    extractor = FeatureExtractor(model, MiddleBlock(model, schedule))
    before, after = extractor.look(images).content, extractor.look(own).content
    apart = mean_within(before)
    away = [finite(one) for one in (after - before).norm(dim=1)]
    return BaseKept(list(prompts), moved, called, [one / apart for one in away] if apart else [])
