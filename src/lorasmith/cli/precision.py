"""``--precision`` of the commands that write weights."""

PRECISIONS = ("fp32", "fp16", "bf16")
"""As :data:`lorasmith.tensors.files.PRECISIONS`, without torch."""
