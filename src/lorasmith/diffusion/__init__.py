"""Noise schedules, timesteps, noise, loss and its weights."""
