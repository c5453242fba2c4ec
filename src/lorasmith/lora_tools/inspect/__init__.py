"""What a file is, who reads it, and what trained it."""
