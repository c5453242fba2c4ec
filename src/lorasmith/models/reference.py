"""Which base model is meant, and what the user says of it. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class ModelReference:
    """A base model as the user names it. What is "auto" is read off the model's file.

    Args:
        path: "demo", a ``.safetensors`` or ``.ckpt`` file in LDM names, a diffusers folder, or
            a hub id (``owner/model``, ``owner/model/file.safetensors``).
        vae: a VAE file (LDM or diffusers names), folder or hub id, used instead of the model's own.
        family: a name of :data:`lorasmith.models.families.table.FAMILIES`; a model of another
            family is then an error.
        prediction: "auto", "epsilon" or "v".
        zero_terminal_snr: whether its noise schedule ends in nothing but noise.
        clip_skip: k takes the text encoder's k-th last layer; 1 is the last.
        max_tokens: 75, 150 or 225 text tokens per caption.
    """

    path: str | Path = "demo"
    vae: str | Path | None = None
    family: str = "auto"
    prediction: str = "auto"
    zero_terminal_snr: bool | Literal["auto"] = "auto"
    clip_skip: int = 1
    max_tokens: int = 75

    @staticmethod
    def of(model: str | Path | ModelReference) -> ModelReference:
        """A path alone as a reference; a reference as it is."""
        return model if isinstance(model, ModelReference) else ModelReference(model)
