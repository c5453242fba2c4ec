"""``--precision`` of the commands that write weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    import torch

PRECISIONS = ("fp32", "fp16", "bf16")


@overload
def dtype_of(precision: str) -> torch.dtype: ...
@overload
def dtype_of(precision: None) -> None: ...


def dtype_of(precision: str | None) -> torch.dtype | None:
    """That of one of :data:`PRECISIONS`; ``None`` of ``None``."""
    import torch

    dtypes = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    return dtypes[precision] if precision else None
