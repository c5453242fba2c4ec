"""The arguments of sd-scripts, and what each becomes."""
