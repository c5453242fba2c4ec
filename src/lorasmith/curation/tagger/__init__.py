"""Taggers: label files, models of several makers, scores that are kept, tags by thresholds."""
