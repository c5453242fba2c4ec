"""The demo: a world of drawn creatures, a character to learn, a judge of what was learned."""
