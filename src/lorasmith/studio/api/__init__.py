"""What the studio's pages ask of its server, one file for each subject; JSON over the library."""
