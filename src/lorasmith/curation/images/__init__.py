"""Pictures of a dataset changed: cropped, split, resized, mirrored, converted, masked, exported."""
