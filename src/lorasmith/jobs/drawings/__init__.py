"""Drawings that somebody waits for: asked for, watched, and those that there are. No torch."""
