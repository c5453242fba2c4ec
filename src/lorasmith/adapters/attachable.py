"""What a model carries for a while: put in, taken out, exchanged for another."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Self


class Attachable(ABC):
    """Trained numbers that are put into a model and taken out again, which leaves it as it was."""

    @abstractmethod
    def attach(self) -> None:
        """Let the model compute with them."""

    @abstractmethod
    def detach(self) -> None:
        """Take them out of the model."""

    @contextlib.contextmanager
    def attached(self) -> Iterator[Self]:
        """Attached within the block."""
        self.attach()
        try:
            yield self
        finally:
            self.detach()

    @contextlib.contextmanager
    def detached(self) -> Iterator[Self]:
        """Taken out within the block, back in place after it."""
        self.detach()
        try:
            yield self
        finally:
            self.attach()

    @contextlib.contextmanager
    def replaced_by(self, saved: Self) -> Iterator[Self]:
        """Taken out, and ``saved`` in its place, within the block."""
        with self.detached(), saved.attached():
            yield saved
