"""Jobs that wait their turn on a device, and what runs them."""
