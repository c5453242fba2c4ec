"""Settings: what there is, how it is read, checked, written and explained. No torch."""
