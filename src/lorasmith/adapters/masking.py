"""The masks of a step, of all adapters of a network at once.

One by one there would be more of this than of everything else that a GPU is asked to do in a step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lorasmith.adapters.base import Adapter
from lorasmith.adapters.dropout import (
    Dropout,
    as_keys,
    draw_masks,
    module_id,
    prefixes,
    step_keys,
)
from lorasmith.adapters.targets import Target
from lorasmith.tensors.transfer import to_device


class Masking:
    """Sets and forgets :attr:`Adapter.masks`.

    Args:
        modules: where each adapter goes, and the adapter.
        dropout: of all of them.
    """

    def __init__(self, modules: Sequence[tuple[Target, Adapter]], dropout: Dropout) -> None:
        self._adapters = [adapter for _, adapter in modules]
        self._dropout = dropout
        self._ids = as_keys([module_id(target.key) for target, _ in modules])
        # Text encoders see no noise.
        self._by_noise = [a.needs_noise_level and t.part == "unet" for t, a in modules]
        # Of each size of images: how many rows of neurons each module masks in a sample.
        self._rows: dict[tuple[int, ...], list[int]] = {}
        self._noted: list[int] | None = None

    def begin_step(
        self,
        seed: int,
        step: int,
        samples: Sequence[int],
        size: tuple[int, ...],
        dtype: torch.dtype,
        noise_gone: Sequence[float] | None,
    ) -> None:
        """See :meth:`AdapterNetwork.begin_step`."""
        self.end_step()
        rows = self._rows.setdefault(size, [0] * len(self._adapters))
        by_noise = [noise_gone is not None and own for own in self._by_noise]
        drawing = [
            index
            for index, adapter in enumerate(self._adapters)
            if adapter.needs_step_rng or self._dropout or by_noise[index]
        ]
        if not drawing:
            return
        order = sorted(drawing, key=lambda i: (self._adapters[i].gates, rows[i]))
        adapters = [self._adapters[i] for i in order]
        gates = [adapter.gates for adapter in adapters]
        # -1 for what samples share.
        keys = step_keys(self._ids[order], seed, step, [*samples, -1])
        open_gates: list[Tensor] = []
        if any(adapter.needs_step_rng for adapter in adapters):
            units = [a.unit if a.needs_step_rng else max(1, a.gates) for a in adapters]
            open_gates.append(prefixes(keys[:, -1], gates, units).expand(-1, len(samples)))
        if noise_gone is not None and any(by_noise):
            open_gates.append(_open_at(adapters, [by_noise[i] for i in order], noise_gone))
        keys = torch.cat([keys[:, :-1], *_least(open_gates)], 1)
        keys = to_device(keys, self._adapters[0].alpha.device)
        masks = draw_masks(
            self._dropout,
            keys[:, : len(samples)],
            gates,
            [rows[i] for i in order],
            dtype,
            open_gates=keys[:, len(samples) :] if open_gates else None,
        )
        for adapter, adapter_masks in zip(adapters, masks, strict=True):
            adapter.masks = adapter_masks
        self._noted = rows

    def end_step(self) -> None:
        """Forget the masks: the whole adapters apply again."""
        if self._noted is None:
            return
        for index, adapter in enumerate(self._adapters):
            adapter.end_step()
            if adapter.rows_missed:
                self._noted[index] = max(self._noted[index], adapter.rows_missed)
                adapter.rows_missed = 0
        self._noted = None


def _open_at(
    adapters: Sequence[Adapter], by_noise: Sequence[bool], noise_gone: Sequence[float]
) -> Tensor:
    """(M, B) int32, how many gates are open at the noise level of each sample."""
    counts = [
        [adapter.gates_open(gone) if own else adapter.gates for gone in noise_gone]
        for adapter, own in zip(adapters, by_noise, strict=True)
    ]
    return torch.tensor(counts, dtype=torch.int32)


def _least(counts: Sequence[Tensor]) -> list[Tensor]:
    """The elementwise least of several, or none of none."""
    return [torch.stack(list(counts)).amin(0)] if counts else []
