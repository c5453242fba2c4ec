"""What is encoded or hashed once and kept on disk."""
