"""Concept sliders, ``train.kind = "slider"``: adapters of the UNet, trained from prompts or from
pairs of images."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lorasmith.adapters.network import AdapterNetwork
from lorasmith.config.kinds import kind_facts
from lorasmith.config.schema import TrainSettings, replace_settings
from lorasmith.core.events import Observer, ignore
from lorasmith.models.open import OpenedCheckpoint
from lorasmith.training.kinds.adapter import AdapterKind
from lorasmith.training.kinds.kind import ContrastTraining, Encoder, PromptTriple
from lorasmith.training.kinds.trained import Trained

if TYPE_CHECKING:
    from lorasmith.models.diffusion_model import DiffusionModel
    from lorasmith.training.kinds.pair_objective import PairSliderObjective
    from lorasmith.training.kinds.slider_objective import SliderObjective
    from lorasmith.training.objective import Objective

STRENGTHS = (-2.0, -1.0, 0.0, 1.0, 2.0)


class SliderPrompts:
    """The three prompts of a slider, once for each attribute that is to stay; see
    :class:`lorasmith.training.kinds.kind.ContrastTraining`."""

    has_pairs = False

    def captions(self, settings: TrainSettings) -> list[str]:
        return [triple.target for triple in triples_of(settings)]

    def further(self, settings: TrainSettings) -> list[str]:
        return [
            text for triple in triples_of(settings) for text in (triple.positive, triple.negative)
        ]

    def describe(self, settings: TrainSettings) -> list[str]:
        return [
            f"{one.target!r}: at 1 towards {one.positive!r}, at -1 towards {one.negative!r}"
            for one in triples_of(settings)
        ]

    def objective(
        self,
        settings: TrainSettings,
        objective: Objective,
        trained: Trained,
        text: Encoder,
        items: Sequence[int],
    ) -> SliderObjective:
        # They import diffusers, and who asks what a run would cost needs none of it.
        from lorasmith.diffusion.noise import Noise
        from lorasmith.training.kinds.slider_objective import SliderObjective

        assert isinstance(trained, AdapterNetwork)
        triples = triples_of(settings)
        return SliderObjective(
            # What is made for pictures leans towards them, and there are none.
            **objective.parts | {"noise": Noise()},
            triples=[triples[item] for item in items],
            text=text,
            network=trained,
            guidance=settings.slider.guidance,
            latent_steps=settings.slider.latent_steps,
        )

    def passes(self, settings: TrainSettings) -> float:
        # Three predictions of the base, a second pass forward and back, and half of the steps in
        # which latents are drawn, in the mean.
        return 3 + 2 + (settings.slider.latent_steps + 1) / 2 * bool(settings.slider.latent_steps)


class SliderPairs:
    """Pairs of images, of which all have the slider's target as their caption."""

    has_pairs = True

    def captions(self, settings: TrainSettings) -> list[str]:
        return [settings.slider.target]

    def further(self, settings: TrainSettings) -> list[str]:
        return []

    def describe(self, settings: TrainSettings) -> list[str]:
        of = f" of {settings.slider.target!r}" if settings.slider.target else ""
        return [f"pairs of pictures{of}: at 1 towards one side, at -1 towards the other"]

    def objective(
        self,
        settings: TrainSettings,
        objective: Objective,
        trained: Trained,
        text: Encoder,
        items: Sequence[int],
    ) -> PairSliderObjective:
        from lorasmith.training.kinds.pair_objective import PairSliderObjective

        assert isinstance(trained, AdapterNetwork)
        return PairSliderObjective(**objective.parts, network=trained)

    def passes(self, settings: TrainSettings) -> float:
        return 2  # The other side's, forward and back.


PROMPTS, PAIRS = SliderPrompts(), SliderPairs()


class SliderKind(AdapterKind):
    """A LoRA of any type on the UNet alone; see :class:`lorasmith.training.kinds.kind.Kind`."""

    strengths = STRENGTHS

    def contrast(self, settings: TrainSettings) -> ContrastTraining | None:
        return PAIRS if kind_facts(settings).contrast(settings) == "pairs" else PROMPTS

    def default_name(self, settings: TrainSettings) -> str:
        return "slider"

    def check_model(self, settings: TrainSettings, checkpoint: OpenedCheckpoint) -> None:
        super().check_model(unet_alone(settings), checkpoint)

    def trains_text(self, settings: TrainSettings) -> bool:
        return False

    def build(
        self, settings: TrainSettings, model: DiffusionModel, observe: Observer = ignore
    ) -> AdapterNetwork:
        return super().build(unet_alone(settings), model, observe)

    def planned(self, settings: TrainSettings, checkpoint: OpenedCheckpoint) -> AdapterNetwork:
        return super().planned(unet_alone(settings), checkpoint)

    def plan_key(self, settings: TrainSettings) -> Hashable | None:
        return super().plan_key(unet_alone(settings))

    def describe(self, settings: TrainSettings, trained: Trained) -> str:
        return f"slider, {super().describe(settings, trained)}"

    def next_steps(
        self, settings: TrainSettings, run: str, result: str, *, drawn: bool
    ) -> dict[str, str]:
        name = Path(result.strip("'\"")).stem
        command = f'lorasmith generate --lora-dir {run} "PROMPT <lora:{name}:-1.5>"'
        return {command: "draw with it, at any strength from -2 to 2"}


def unet_alone(settings: TrainSettings) -> TrainSettings:
    """Without the text encoder, of which no slider has a part."""
    return replace_settings(settings, {"adapter.text_encoder": False})


def triples_of(settings: TrainSettings) -> list[PromptTriple]:
    """The prompts as the settings name them, once with each of the words that are to stay."""
    slider = settings.slider
    plain = PromptTriple(slider.target, slider.positive, slider.negative)
    return [plain.with_words(words) for words in slider.preserve] or [plain]
