"""Verdicts with their reasons: which snapshot to keep, which settings to take."""
