"""Checks that need more than one setting."""
