"""Grids for those who look at them: found, opened, voted on, and asked for. No torch."""
