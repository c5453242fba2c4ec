"""Settings advised for a dataset, a base model and a machine, each with its reason."""
