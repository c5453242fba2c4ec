"""The command line: one file for each command, and views of results."""
