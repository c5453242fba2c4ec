"""What snapshots and images are compared by."""
