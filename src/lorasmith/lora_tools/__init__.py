"""Tools for LoRA files: resize, merge, extract, bake, convert, inspect."""
