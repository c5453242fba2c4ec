"""Whether work stays on one device: what its operations take and make, and what it keeps.

The meta device stands in for CUDA here. It refuses less than CUDA does, so every operation is
looked at: which devices its tensors are on, what is read from the device, what is made on the CPU.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import types
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from lorasmith.training.memory.trace import LiveBytes

META = torch.device("meta")

# What only takes a number from one device to the other; CUDA does it too.
_COPIES = {"aten::_to_copy", "aten::copy_"}
_ARITHMETIC = {f"aten::{name}" for name in ("add", "sub", "rsub", "mul", "div", "pow", "lerp")}
# Kernels without a meta form. They change their arguments, which must all be on the device.
_IN_PLACE = ("aten::_fused_", "aten::_amp_", "bitsandbytes::")
# Made on the CPU first, and copied, which waits for the device.
_FROM_HOST = (torch.tensor, torch.as_tensor, torch.asarray)


class OneDevice(LiveBytes):
    """Watches the operations within the block.

    Attributes:
        mixed: operations on tensors of two devices.
        scalars: those that CUDA takes: arithmetic with a tensor of one number on the CPU, which is
            handed over as a number is.
        doubles: operations on the device with 64-bit floats, which Apple's have not.
        read: operations that read a number from the device, which waits for it. They get 1.
        on_cpu, uploads: operations on CPU tensors alone, and copies to the device.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mixed: Counter[str] = Counter()
        self.scalars: Counter[str] = Counter()
        self.doubles: Counter[str] = Counter()
        self.read: Counter[str] = Counter()
        self.on_cpu: Counter[str] = Counter()
        self.uploads: Counter[str] = Counter()
        self._made = _MadeOnHost(self.uploads)

    def __enter__(self) -> OneDevice:
        self._made.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        self._made.__exit__(*raised)

    @contextlib.contextmanager
    def _again(self) -> Iterator[None]:
        super().__enter__()
        try:
            yield
        finally:
            super().__exit__(None, None, None)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled() and func._can_decompose():
            with self._again():  # As autograd does elsewhere, before it gets here.
                return func.decompose(*args, **kwargs)
        name: str = func._schema.name
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        devices = {tensor.device.type for tensor in given}
        wanted = kwargs.get("device")
        if "meta" in devices and any(t.dtype == torch.float64 for t in given):
            self.doubles[f"{name} {place()}"] += 1
        if name == "aten::_linalg_check_errors" and devices == {"meta"}:
            self.read[place()] += 1
        if name == "aten::_local_scalar_dense" and devices == {"meta"}:
            self.read[place()] += 1
            return torch.ones((), dtype=args[0].dtype).item()
        if name == "aten::_to_copy" and wanted is not None:
            devices.add(torch.device(wanted).type)
        if name in _COPIES:
            if devices == {"cpu", "meta"}:
                to_device = (name == "aten::copy_" and args[0].is_meta) or wanted == META
                (self.uploads if to_device else self.read)[place()] += 1
                if not to_device:
                    return torch.ones(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        elif len(devices) > 1:
            one = name in _ARITHMETIC and all(t.is_meta or t.ndim == 0 for t in given)
            (self.scalars if one else self.mixed)[f"{name} {place()}"] += 1
        elif devices == {"cpu"} and name not in _FREE:
            self.on_cpu[place()] += 1
        if name.startswith(_IN_PLACE):
            return args[0] if func._schema.returns else None
        return super().__torch_dispatch__(func, types, args, kwargs)


# What makes no new numbers.
_FREE = {"aten::detach", "aten::alias", "aten::lift_fresh", "aten::view", "aten::is_pinned"}


class _MadeOnHost(TorchFunctionMode):
    def __init__(self, uploads: Counter[str]) -> None:
        super().__init__()
        self._uploads = uploads

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _FROM_HOST and torch.device(kwargs.get("device") or "cpu") == META:
            self._uploads[place()] += 1
        return func(*args, **kwargs)


def place() -> str:
    """The innermost function that is neither torch's machinery nor this module's."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        file = frame.f_code.co_filename
        inner = "/torch/" in file and "/torch/optim/" not in file and "/torch/amp/" not in file
        if file != __file__ and not inner:
            break
        frame = frame.f_back
    file = frame.f_code.co_filename
    short = file.rpartition("site-packages/")[2].rpartition("lorasmith/src/")[2]
    return f"{short.rpartition('src/')[2]}:{frame.f_code.co_qualname}"


def strays(root: Any, device: torch.device = META) -> Iterator[str]:
    """Paths from ``root`` to the tensors that are reached from it and are not on ``device``."""
    seen: set[int] = set()
    waiting: deque[tuple[str, Any]] = deque([("", root)])
    kept = []  # Alive, so that no number comes twice.
    while waiting:
        path, value = waiting.popleft()
        if id(value) in seen:
            continue
        seen.add(id(value))
        kept.append(value)
        if isinstance(value, Tensor):
            if value.device != device:
                yield path
            if value.grad is not None:
                waiting.append((f"{path}.grad", value.grad))
            continue
        waiting.extend((path + step, inner) for step, inner in _inside(value))


_OWN = ("lorasmith", "torch.optim", "torch.amp", "tests")


def _inside(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            name = "[]" if isinstance(key, Tensor) else f"[{key!r}]"
            yield name, inner
        return
    if isinstance(value, list | tuple | set | frozenset | deque):
        for number, inner in enumerate(value):
            yield f"[{number}]", inner
        return
    if isinstance(value, functools.partial):
        yield from (("()", inner) for inner in (value.func, *value.args, *value.keywords.values()))
        return
    if isinstance(value, types.MethodType):
        yield ".__self__", value.__self__
        return
    if isinstance(value, types.FunctionType):
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            yield f"<{name}>", cell.cell_contents
        return
    module = type(value).__module__
    ours = module.startswith(_OWN) or isinstance(value, nn.Module | torch.optim.Optimizer)
    if not ours:
        return
    for name, inner in getattr(value, "__dict__", {}).items():
        yield f".{name}", inner
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            if hasattr(value, name):
                yield f".{name}", getattr(value, name)
