"""How far apart two ways to one number may come out, told from the arithmetic alone.

Processors and libraries add the terms of a sum in different orders and fuse different
multiplications with additions, so the last digits differ between machines. A tolerance that was
read off one of them fails on the next. Here it follows from two things that no machine changes:
the spacing of the numbers (``eps`` of their type), and how many roundings stand between the inputs
and the result. Each moves a number by at most ``eps`` of the largest that it is made of; they add
at the worst.

What is compared so must not have been divided by something small: the first steps of Adam divide
a gradient by its own size, and make of a rounding error on zero a whole step. Compare gradients,
losses, or what plain gradient descent makes of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

# Of the tiny and the demo model: about a hundred layers one after another, forward and backward;
# a layer's sums have up to 1,500 terms, whose roundings add as the root of their number: 40.
NETWORK = 100 * 40

# Of one layer with its adapter, of a file's weights, of a decomposition: a handful of products of
# up to 1,500 terms each.
LAYER = 8 * 40

# What rests on diffusers' schedule: a product of a thousand factors in float32.
SCHEDULE = 1000

# A formula of elementary functions.
FORMULA = 32


def assert_near(
    found: Any, expected: Any, roundings: int, *, dtype: torch.dtype | None = None, what: str = ""
) -> None:
    """``found`` is ``expected`` but for the order of the arithmetic.

    Args:
        found, expected: tensors, or equal nests of them in dicts, lists and tuples.
        roundings: between the inputs and one number: one of the constants above, or a count.
        dtype: the coarsest type that was computed in, where that is not the tensors' own.
        what: names the tensor in the message.
    """
    if isinstance(expected, Mapping):
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            assert_near(found[name], tensor, roundings, dtype=dtype, what=f"{what}{name}")
        return
    if isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for number, tensor in enumerate(expected):
            assert_near(found[number], tensor, roundings, dtype=dtype, what=f"{what}[{number}]")
        return
    allowed = away(expected, roundings, dtype)
    torch.testing.assert_close(
        found, expected, rtol=0, atol=allowed, msg=lambda text: f"{what}: {text}" if what else text
    )


def away(expected: Tensor, roundings: int, dtype: torch.dtype | None = None) -> float:
    """The largest difference that ``roundings`` can make, on the scale of the largest number."""
    largest = float(expected.detach().abs().max()) if expected.numel() else 0.0
    return roundings * torch.finfo(dtype or expected.dtype).eps * largest


def near(expected: Any, roundings: int, dtype: torch.dtype = torch.float32) -> Any:
    """``pytest.approx`` for numbers, or nests of them, that were computed in ``dtype``."""
    return pytest.approx(expected, rel=roundings * torch.finfo(dtype).eps, abs=0)
