"""What files call things: layers, tensors, metadata, hashes; pickles read unrun. No torch."""
