"""LoRA files and checkpoints from one program's names to another's."""
