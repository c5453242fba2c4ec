"""Adapters on a model's layers: which layers, what is trained, how they are saved and loaded."""
