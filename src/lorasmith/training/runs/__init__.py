"""The run folder: states, snapshots, metadata, requests from outside."""
