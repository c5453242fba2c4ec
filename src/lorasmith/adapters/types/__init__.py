"""One file for each type of adapter."""
