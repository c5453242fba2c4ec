"""How often each regularisation image is used.

As in sd-scripts (``library/train_util.py``): one pool for all concepts, no pairing by file name.
The pool is repeated until it has at least as many samples as the training images have.
"""

from __future__ import annotations

from collections.abc import Sequence


def match_repeats(train_count: int, reg_repeats: Sequence[int]) -> list[int]:
    """Uses per epoch of each regularisation image.

    First each image is taken with its own repeats, in order, until the training count is reached
    (those left are not used at all); if it is not reached, every image gets one more, in order,
    again and again.

    Args:
        train_count: training samples in an epoch, repeats counted.
        reg_repeats: each image's own repeats (>= 1), in order.

    Returns:
        As many numbers as ``reg_repeats`` has; 0 for an unused image.
    """
    uses = [0] * len(reg_repeats)
    total = 0
    for index, repeats in enumerate(reg_repeats):
        if total >= train_count:
            return uses
        uses[index] = repeats
        total += repeats
    if total >= train_count or not uses:
        return uses
    rounds, rest = divmod(train_count - total, len(uses))
    return [count + rounds + (index < rest) for index, count in enumerate(uses)]
