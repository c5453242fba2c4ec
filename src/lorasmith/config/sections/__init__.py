"""The sections of the settings, each setting with unit, range, default and reason."""
