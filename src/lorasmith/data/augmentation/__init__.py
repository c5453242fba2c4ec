"""Views of an image: mirrored, cropped, recoloured, masked."""
