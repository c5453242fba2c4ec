"""Images into folders, and of those that are alike the best."""
