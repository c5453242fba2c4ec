"""The training step and loop, and what a run would do and cost."""
