"""Base models: opening, loading and exporting files; text in, latents in, prediction out."""
