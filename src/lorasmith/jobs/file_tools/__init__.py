"""The tools for LoRA files as forms: their fields, their figures beforehand, what a file is."""
