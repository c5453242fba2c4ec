"""Runs as they lie on disk, for those who watch them: read, compared, and asked for something."""
