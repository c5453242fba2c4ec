"""The weights as they are to be used, for as long as they are looked at and not trained.

What a step works on is not always what a user should get: with an average of the weights it is the
average, and optimizers without a schedule (Defazio et al. 2024, "The Road Less Scheduled") train at
another point than the one that they have found.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from lorasmith.training.step import TrainStep


@runtime_checkable
class HasTrainEval(Protocol):
    """An optimizer that moves the weights between where they train and what they are worth."""

    def train(self) -> None: ...
    def eval(self) -> None: ...


@contextlib.contextmanager
def eval_weights(trainer: TrainStep) -> Iterator[None]:
    """The weights to save, sample and validate, within the block; after it those of the training,
    bit for bit.

    Weights must not be trained in the block, and blocks do not nest.
    """
    optimizer, ema = trainer.optimizer, trainer.ema
    if ema is None and not isinstance(optimizer, HasTrainEval):
        yield
        return
    originals = [
        [tensor.to(group.spare, copy=True) for tensor in group.tensors] for group in trainer.groups
    ]
    if isinstance(optimizer, HasTrainEval):
        optimizer.eval()
        for group in trainer.groups:
            group.take(group.tensors)  # A model in half precision has them rounded.
    if ema is not None:
        ema.copy_to_weights()
    trainer.trained.end_update()  # An average of vectors of one length is shorter.
    try:
        yield
    finally:
        # Back through the optimizer for its own flags; its arithmetic rounds, the copies do not.
        if isinstance(optimizer, HasTrainEval):
            optimizer.train()
        for group, tensors in zip(trainer.groups, originals, strict=True):
            group.take(tensors)
