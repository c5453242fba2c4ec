"""Processes that have torch at hand, and models loaded, and answer at once."""
