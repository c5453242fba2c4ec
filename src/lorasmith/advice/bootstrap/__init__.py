"""From one image to a LoRA by rounds: train briefly, draw, keep the good drawings, train again."""
