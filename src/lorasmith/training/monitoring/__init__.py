"""Metrics, validation, and what is done when numbers go wrong."""
