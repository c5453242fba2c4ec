"""Verdicts with their reasons: which snapshot to keep."""
