"""Validation for people: a line on the terminal, curves in TensorBoard."""

from __future__ import annotations

from lorasmith.core.events import ValidationDone
from lorasmith.core.text import quantity


def validation_line(event: ValidationDone) -> str:
    """``held-out  0.1234  -2.1% ± 0.3% since the base model; training -3.0%; gap grown by 0.0011``.

    The percentages are of the base model's loss on the same images.
    """
    base = event.held_out - event.held_out_change
    training_base = event.training - event.training_change
    change = f"{event.held_out_change / base:+.1%}"
    if "held_out_change" in event.errors:
        change += f" ± {event.errors['held_out_change'] / base:.1%}"
    if event.step == 0 and not event.held_out_change:
        return f"held-out  {event.held_out:.4f} on {quantity(event.pictures, 'picture')}"
    return (
        f"held-out  {event.held_out:.4f}, {change} since the base model; "
        f"training pictures {event.training_change / training_base:+.1%}"
    )


def validation_scalars(event: ValidationDone) -> dict[str, float | None]:
    return {
        "loss/held_out": event.held_out,
        "loss/training_fixed": event.training,
        "loss/gap": event.gap,
        "validation/held_out_change": event.held_out_change,
        "validation/training_change": event.training_change,
        "validation/gap_growth": event.gap_growth,
        **{
            f"validation/held_out_quarter_{number}": value
            for number, value in enumerate(event.quarters, 1)
        },
    }
