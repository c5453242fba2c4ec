"""What everything rests on: errors, events, files, texts, progress, the terminal. No torch."""
