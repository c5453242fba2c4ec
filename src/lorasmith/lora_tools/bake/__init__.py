"""LoRAs into the weights of a base model."""
