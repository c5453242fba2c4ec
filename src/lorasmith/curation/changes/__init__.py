"""What changes a dataset: a plan, carried out through a journal that can take it back."""
