"""From settings to the parts of a run, checked before a model is loaded."""
