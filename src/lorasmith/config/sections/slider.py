"""Settings of concept sliders: which prompts pull an attribute up and down, and how far.

Pairs of images, in place of the prompts, are in ``data.path``.
"""

from __future__ import annotations

from lorasmith.config.fields import Section, setting
from lorasmith.config.values import Texts


class SliderSettings(Section):
    """A concept slider (`train.kind = "slider"`): a LoRA whose strength, from -2 to 2, moves an
    attribute; trained from prompts, without pictures, or from pairs of pictures (`data.path`)."""

    target: str = setting(
        "",
        "what is changed, as a prompt: a creature; with pairs, the caption of every picture",
        why="all that the model draws",
    )
    positive: str = setting(
        "",
        "the target with more of the attribute: a creature in a hat",
        why="must be given, or pairs of pictures",
    )
    negative: str = setting(
        "",
        "the target with less of it: a creature without a hat",
        why="the opposite of positive is what is drawn without words",
    )
    preserve: Texts = setting(
        [],
        "what is not to change with it, as words to be put behind the three prompts, each in steps "
        'of its own: ["red body", "blue body"]',
        why="the three prompts are used as they stand",
    )
    guidance: float = setting(
        4.0,
        "how far strength 1 goes: how many times the difference between positive and negative "
        "predictions is added",
        why="that of the paper's examples",
        gt=0,
        le=20,
    )
    latent_steps: int = setting(
        4,
        "steps in which the model itself, with the slider, draws the noisy pictures that are "
        "trained on; fewer at high noise; 0 takes plain noise instead",
        why="with plain noise, pictures are damaged at -2 and 2; the paper's code takes up to 50",
        unit="steps",
        ge=0,
        le=50,
    )
