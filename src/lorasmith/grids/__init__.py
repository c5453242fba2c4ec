"""Grids of images by axes: parsed, planned, rendered, shown as a page or a sheet."""
