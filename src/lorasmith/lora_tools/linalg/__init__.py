"""Low-rank products: SVDs, Kronecker factors, TIES and DARE."""
