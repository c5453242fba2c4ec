"""What lies beside an image when a program downloaded it: tags with their kinds, and text."""
