"""Shell scripts for bash, PowerShell and cmd, read without being run."""
