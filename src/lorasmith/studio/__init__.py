"""The studio: a web app on this computer over the same library that the command line calls."""
