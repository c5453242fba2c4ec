"""What is trained, one file for each kind: its parameters, how they are kept and applied."""
