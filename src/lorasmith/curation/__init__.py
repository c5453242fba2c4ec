"""A folder of training images: what is in it, what is odd about it, and every way to change it."""
