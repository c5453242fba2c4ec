"""Bootstraps as pages show them: what there is of each, and how they are begun and gone on with."""
