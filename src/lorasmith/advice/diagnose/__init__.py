"""What is wrong with a LoRA, why, and what to change, each with its numbers."""
