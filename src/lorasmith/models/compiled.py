"""Compiled code for a UNet's repeated blocks, in few graphs.

dynamo keeps the graphs of a function by its code, and after eight it leaves the function as it is.
All residual blocks of a UNet share one code, and each number of channels, each size of images
and drawing between two steps asks for another graph. So:

- blocks with the same layers share graphs, others have a code, and eight graphs, of their own;
- only what is learned from is compiled: images are drawn and measured as ever;
- where images have several sizes, a graph is for all of them.
"""

from __future__ import annotations

import contextlib
import types
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.fx.experimental._config as symbols
from torch import Tensor, nn
from torch._dynamo import config as dynamo
from torch._dynamo import exc

MOST_GRAPHS = 64
"""Of one kind of blocks; one or two are usual."""

Layers = tuple[Any, ...]


def layers_of(block: nn.Module) -> Layers:
    """What decides a block's graph, but for its inputs' sizes: kinds of modules and shapes of their
    tensors, adapters included."""
    return (
        *((name, type(module)) for name, module in block.named_modules()),
        *((name, tensor.shape, tensor.dtype) for name, tensor in block.named_parameters()),
    )


class CompiledBlocks:
    """
    Args:
        sizes_vary: whether one graph is to do for images of several sizes; one for a single size
            is quicker, and each further size would ask for another.
        backend: of ``torch.compile``.
        report: is told what could not be compiled and why; such blocks run as they are.
    """

    def __init__(
        self,
        *,
        sizes_vary: bool = False,
        backend: str | Callable[..., Any] = "inductor",
        report: Callable[[str], None] = warnings.warn,
    ) -> None:
        self._dynamic = True if sizes_vary else None
        self._backend, self._report = backend, report
        self._kinds: dict[Layers, _Kind] = {}

    def compile(self, block: nn.Module) -> None:
        """Let ``block`` run compiled from now on where gradients are recorded."""
        block.forward = _Block(self, block)

    def kind(self, block: nn.Module) -> _Kind:
        layers = layers_of(block)
        if layers not in self._kinds:
            # A code of its own: copies of a function would share the one that they are copies of.
            code = _call.__code__.replace(co_name=f"block_{len(self._kinds)}")
            function = types.FunctionType(code, _call.__globals__)
            # Whole or not at all: a part that stays as it is would do so in silence.
            call = torch.compile(
                function, fullgraph=True, dynamic=self._dynamic, backend=self._backend
            )
            self._kinds[layers] = _Kind(type(block).__name__, call, self._report)
        return self._kinds[layers]


def _call(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return forward(*args, **kwargs)


class _Kind:
    """Blocks with the same layers."""

    def __init__(self, name: str, call: Callable[..., Any], report: Callable[[str], None]) -> None:
        self._name, self._call, self._report = name, call, report
        self._sizes: set[tuple[Any, ...]] = set()
        self._failed = False

    def __call__(self, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self._failed:
            return forward(*args, **kwargs)
        values = (*args, *kwargs.values())
        sizes = tuple(value.shape for value in values if isinstance(value, Tensor))
        is_compiled = sizes in self._sizes
        try:
            with contextlib.nullcontext() if is_compiled else _compiling():
                result = self._call(forward, *args, **kwargs)
        except exc.FailOnRecompileLimitHit:
            if not is_compiled:
                self._give_up(f"{MOST_GRAPHS} graphs did not do for it")
                return forward(*args, **kwargs)
            # Something else than sizes has changed, where the usual limit holds.
            self._sizes.clear()
            return self(forward, *args, **kwargs)
        except exc.TorchDynamoException as error:
            self._give_up(" ".join(str(error).split())[:200])
            return forward(*args, **kwargs)
        self._sizes.add(sizes)
        return result

    def _give_up(self, why: str) -> None:
        self._failed = True
        self._report(f"{self._name} could not be compiled, and runs as it is: {why}")


@contextlib.contextmanager
def _compiling() -> Iterator[None]:
    """PyTorch's settings where a graph may be made; a whole program's are nobody's but its own."""
    # Without the first, square images would have graphs of their own.
    with (
        symbols.patch(use_duck_shape=False),  # type: ignore[attr-defined]
        dynamo.patch(recompile_limit=MOST_GRAPHS),
    ):
        yield


class _Block:
    """Stands where a block's ``forward`` stood."""

    def __init__(self, blocks: CompiledBlocks, block: nn.Module) -> None:
        self._forward = block.forward
        # Adapters may come before the first step, and after this.
        self._kind_of = partial(blocks.kind, block)
        self._kind: _Kind | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return self._forward(*args, **kwargs)
        if self._kind is None:
            self._kind = self._kind_of()
        return self._kind(self._forward, *args, **kwargs)
