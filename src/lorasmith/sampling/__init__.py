"""Generating images: requests, conditioning, guidance, samplers, what an image says of itself."""
