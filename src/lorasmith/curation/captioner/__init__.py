"""Captions by models that look at images: on this machine, or behind an address the user names."""
