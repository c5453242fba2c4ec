"""The training set that benchmarks/audit.py plants faults in."""
