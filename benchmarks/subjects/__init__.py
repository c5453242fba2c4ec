"""Subjects to train LoRAs on: characters, styles and concepts that the demo world does not have,
with their captions and prompts, and judges that read off an image how well it shows them."""
