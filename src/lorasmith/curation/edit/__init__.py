"""Edits of captions: text in, text out, and plans of them for whole collections."""
