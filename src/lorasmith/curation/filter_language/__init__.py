"""The language of filters: its words, its grammar, and what may be written next."""
