"""Requests about a folder of training images: to look at it, and to change it."""
