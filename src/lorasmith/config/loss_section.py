"""Settings of what is minimised: loss, weights by timestep, noise."""

from __future__ import annotations

from pydantic import field_validator

from lorasmith.config.fields import Section, setting


class LossSettings(Section):
    """What the training tries to make small."""

    min_snr_gamma: float | None = setting(
        5.0,
        "weigh noise levels by min-SNR with this gamma; 0 and none are off, 20 does very little",
        why="the paper's value: steadier learning at no cost",
        kind="number",
        ge=0,
        le=1000,
    )
    noise_offset: float = setting(
        0.0,
        "shift the noise of whole pictures, for darker darks and brighter brights",
        why="off; 0.05 to 0.1 for pictures that come out dull",
        ge=0,
        le=1,
    )
    prior_weight: float = setting(
        1.0,
        "factor on the loss of regularisation pictures",
        why="they count as much as the others",
        ge=0,
        le=100,
    )

    @field_validator("min_snr_gamma")
    @classmethod
    def _zero_is_none(cls, value: float | None) -> float | None:
        return value or None
