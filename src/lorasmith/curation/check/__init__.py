"""Looking over a dataset before it costs anything: damage, duplicates, sizes, captions."""
