"""How much memory and time a run takes, worked out without numbers."""
