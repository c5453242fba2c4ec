"""Tensor files, random numbers, weights in fewer bits or in main memory, copies between devices."""
