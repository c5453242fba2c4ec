"""SD1, SD2 and SDXL as data, and how a file's family is told."""
