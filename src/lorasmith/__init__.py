"""lorasmith: the whole craft of making a LoRA for Stable Diffusion."""

__version__ = "0.1.0"
