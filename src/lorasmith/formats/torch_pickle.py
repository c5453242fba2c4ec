"""What a pickle builds, worked out within limits and without running anything.

A pickle is a program for Python's unpickling machine. A few hundred bytes of it can name functions
to be called, build a key that takes years to hash, ask for a memo of 34 GB, or unpack to 200
million steps. :class:`Machine` carries it out, counts steps
and objects, gives every name a stand-in, and knows tensors by their shapes alone. What it lets
through is as small and as plain as what ``torch.save`` writes. Standard library only.

The opcodes are those of Python's ``pickletools``.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

# A checkpoint's program has some 45 steps and 10 objects, 200 bytes in all, for each tensor.
STEPS, STEPS_A_RECORD = 400_000, 120
OBJECTS, OBJECTS_A_RECORD = 200_000, 30
MAX_MARKS = 100
MAX_TUPLE = 100_000
"""Values in a tuple and in all tuples within it, each counted as often as it stands there."""
MAX_TUPLE_DEPTH = 32
MAX_KEY = 32
MAX_NAME = 256
MAX_INTEGER_BYTES = 128
MAX_DIMENSIONS = 64
# Tensors may share numbers, as tied weights do, but not claim ever more of the same ones.
MAX_SHARING = 8
SPARE_BYTES = 64 << 20

WIDTHS = {
    "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "DoubleStorage": 8,
    "LongStorage": 8, "IntStorage": 4, "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1,
    "BoolStorage": 1, "UntypedStorage": 1, "ComplexFloatStorage": 8, "ComplexDoubleStorage": 16,
    "QUInt8Storage": 1, "QInt8Storage": 1, "QInt32Storage": 4,
}  # fmt: skip
"""Bytes of a number, by torch's classes of storages."""


class TorchFileError(ValueError):
    """It is no torch file that can be read within the limits; ``names``: those it had named."""

    def __init__(self, what: str, names: set[str] | None = None) -> None:
        super().__init__(what)
        self.names = names or set()


@dataclass(frozen=True, slots=True)
class Name:
    """A class or function that the program names; nothing is imported."""

    full: str


@dataclass(frozen=True, slots=True)
class Storage:
    """``kind``: torch's class; ``key``: its record; ``size``: how many numbers of that kind."""

    kind: str
    key: str
    size: int

    @property
    def nbytes(self) -> int:
        return self.size * WIDTHS.get(self.kind, 1)


@dataclass(frozen=True, slots=True)
class BuiltTensor:
    """``dtype``: a name like ``torch.float16``, where the program has one beside the storage."""

    storage: Storage | None
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str = ""


@dataclass(frozen=True, slots=True)
class Opaque:
    """Stands for every object that is neither a tensor nor a plain value."""


OPAQUE = Opaque()


class _Mark:
    """Where a run of values begins on the stack."""


_MARK = _Mark()
_PLAIN = (str, int, float, bool, bytes, type(None), Name)


@dataclass
class Machine:
    """Carries out one program after the other, from ``at`` on.

    Args:
        size: of the whole file, bytes.
        steps_left: opcodes that may still be carried out.
    """

    data: bytes
    size: int
    steps_left: int
    objects_left: int = OBJECTS
    at: int = 0
    names: set[str] = field(default_factory=set)
    storages: dict[str, Storage] = field(default_factory=dict)
    claimed: int = 0
    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)
    marks: int = 0
    _nested: dict[int, tuple[int, int, Any]] = field(default_factory=dict)
    _done: int = 0

    def run(self) -> Any:
        """The value of the program at ``at``.

        Raises:
            TorchFileError: it makes no sense, or is beyond the limits.
        """
        self.stack, self.memo, self.marks, self._nested = [], {}, 0, {}
        data, operations = self.data, _OPERATIONS
        try:
            while True:
                code = data[self.at]
                self.at += 1
                self._done += 1
                if code == 0x2E:  # STOP
                    return self.stack.pop()
                if self._done > self.steps_left:
                    raise TorchFileError("its program is far too long for the tensors it holds")
                operation = operations.get(code)
                if operation is None:
                    raise TorchFileError(f"its program has a step that torch never writes ({code})")
                operation(self)
        except TorchFileError as error:
            error.names |= self.names
            raise
        except (LookupError, ValueError, TypeError, struct.error, OverflowError) as error:
            what = "damaged: its program makes no sense" if self.at < len(data) else "cut short"
            raise TorchFileError(what, self.names) from error

    def check_storages(self, records: dict[str, tuple[int, int]] | None = None) -> None:
        """That what tensors are made of is in the file, where torch sets memory aside for it."""
        if records is not None and any(
            key not in records or storage.nbytes > records[key][1]
            for key, storage in self.storages.items()
        ):
            raise TorchFileError("damaged: the numbers of a tensor are missing", self.names)
        if sum(storage.nbytes for storage in self.storages.values()) > self.size:
            raise TorchFileError("its tensors hold more than the file does", self.names)

    # What is read from the program

    def take(self, count: int) -> bytes:
        begin = self.at
        if not 0 <= count <= len(self.data) - begin:
            raise IndexError
        self.at = begin + count
        return self.data[begin : self.at]

    def number(self, form: str) -> int:
        (value,) = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return int(value)

    def line(self) -> bytes:
        end = self.data.index(b"\n", self.at, self.at + MAX_NAME)
        text = self.data[self.at : end]
        self.at = end + 1
        return text

    # What is put on the stack

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def push_object(self, value: Any) -> None:
        """One that takes memory of its own."""
        self.objects_left -= 1
        if self.objects_left < 0:
            raise TorchFileError("its program makes far too many objects")
        self.stack.append(value)

    def to_mark(self) -> list[Any]:
        stack = self.stack
        at = len(stack) - 1
        while stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise IndexError
        values = stack[at + 1 :]
        del stack[at:]
        self.marks -= 1
        return values

    def push_tuple(self, values: list[Any]) -> None:
        items = tuple(values)
        weight, depth = 1 + len(values), 1
        for value in values:
            if type(value) is tuple:
                within, levels = self.weight(value)
                weight, depth = weight + within, max(depth, 1 + levels)
        if weight > MAX_TUPLE or depth > MAX_TUPLE_DEPTH:
            raise TorchFileError("its program nests values far too deeply")
        if depth > 1:
            self._nested[id(items)] = weight, depth, items
        self.push_object(items)

    def weight(self, value: tuple[Any, ...]) -> tuple[int, int]:
        """Values in a tuple, and levels of tuples."""
        known = self._nested.get(id(value))
        return (known[0], known[1]) if known is not None else (1 + len(value), 1)

    def put(self, index: int) -> None:
        if not 0 <= index <= self._done:
            raise TorchFileError("its program numbers its values far too high")
        self.memo[index] = self.stack[-1]

    # What the steps do

    def name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise TorchFileError("its program names something by other than text")
        if len(module) + len(name) > MAX_NAME:
            raise TorchFileError("its program has a name that is far too long")
        full = f"{module}.{name}"
        self.names.add(full)
        self.push_object(Name(full))

    def set_items(self, target: Any, values: list[Any]) -> None:
        if len(values) % 2:
            raise IndexError
        for key in values[::2]:
            if not isinstance(key, _PLAIN) and not (
                type(key) is tuple and self.weight(key)[0] <= MAX_KEY and _is_plain(key)
            ):
                raise TorchFileError("a key of its dictionaries is no plain text or number")
        if type(target) is dict:
            target.update(zip(values[::2], values[1::2], strict=True))
        elif target is not OPAQUE:
            raise TypeError

    def append(self, target: Any, values: list[Any]) -> None:
        if type(target) is list:
            target.extend(values)
        elif target is not OPAQUE:
            raise TypeError

    def call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Name) or type(arguments) is not tuple:
            raise TorchFileError("its program calls something that has no name", self.names)
        name = function.full
        if name.startswith("torch._utils._rebuild_tensor"):
            self.push_object(self.tensor(arguments))
        elif name.startswith("torch._utils._rebuild_parameter"):
            self.push(arguments[0])
        elif name == "collections.OrderedDict":
            mapping: dict[Any, Any] = {}
            self.push_object(mapping)
            for pair in arguments[0] if arguments and type(arguments[0]) is list else ():
                self.set_items(mapping, list(pair))
        else:
            self.push(OPAQUE)

    def tensor(self, arguments: tuple[Any, ...]) -> BuiltTensor:
        storage, offset, shape, strides, *rest = arguments
        numbers = (offset, *shape, *strides)
        if any(type(n) is not int or not 0 <= n < 1 << 62 for n in numbers):
            raise TorchFileError("damaged: a tensor's shape is no numbers")
        if len(shape) != len(strides) or len(shape) > MAX_DIMENSIONS:
            raise TorchFileError("damaged: a tensor's shape and strides do not match")
        kept = storage if isinstance(storage, Storage) else None
        dtypes = [value.full for value in rest if isinstance(value, Name)]
        self.claimed += math.prod(shape) * WIDTHS.get(kept.kind if kept else "", 4)
        if self.claimed > MAX_SHARING * self.size + SPARE_BYTES:
            raise TorchFileError("its tensors claim far more numbers than the file holds")
        return BuiltTensor(kept, offset, shape, strides, dtypes[0] if dtypes else "")

    def persistent(self) -> None:
        pid = self.stack.pop()
        if type(pid) is not tuple or len(pid) < 2:
            raise TorchFileError("it refers to something that is no storage")
        if pid[0] == "module":
            self.push(OPAQUE)
            return
        _, kind, key, _, size, *_ = pid
        plain = isinstance(key, str | int) and type(size) is int and 0 <= size < 1 << 62
        if pid[0] != "storage" or not isinstance(kind, Name) or not plain:
            raise TorchFileError("it refers to something that is no storage")
        storage = Storage(kind.full.rpartition(".")[2], str(key), size)
        self.storages[storage.key] = storage
        self.push_object(storage)

    def integer(self, data: bytes) -> None:
        if len(data) > MAX_INTEGER_BYTES:
            raise TorchFileError("its program has a number that is far too long")
        self.push(int.from_bytes(data, "little", signed=True))

    def mark(self) -> None:
        self.marks += 1
        if self.marks > MAX_MARKS:
            raise TorchFileError("its program nests values far too deeply")
        self.stack.append(_MARK)

    def discard(self) -> None:
        if self.stack.pop() is _MARK:
            self.marks -= 1

    def instance(self) -> None:
        """INST: a class by name, and its arguments down to the mark."""
        module, name = self.line(), self.line()
        self.to_mark()
        self.name(module.decode(), name.decode())
        self.stack[-1] = OPAQUE

    def build_object(self) -> None:
        """OBJ: a class and its arguments down to the mark."""
        if not isinstance(self.to_mark()[0], Name):
            raise TypeError
        self.push(OPAQUE)

    def new(self, count: int) -> None:
        values = [self.stack.pop() for _ in range(count)]
        function = values[-1]
        if not isinstance(function, Name):
            raise TypeError
        if function.full == "collections.OrderedDict":
            self.push_object({})
        else:
            self.push(OPAQUE)


def _is_plain(key: tuple[Any, ...]) -> bool:
    return all(isinstance(v, _PLAIN) or (type(v) is tuple and _is_plain(v)) for v in key)


def _text(machine: Machine, data: bytes) -> None:
    machine.push_object(data.decode("utf-8", "surrogatepass"))


def _items(machine: Machine) -> None:
    values = machine.to_mark()
    machine.set_items(machine.stack[-1], values)


def _item(machine: Machine) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    machine.set_items(machine.stack[-1], [key, value])


def _appends(machine: Machine) -> None:
    values = machine.to_mark()
    machine.append(machine.stack[-1], values)


def _append(machine: Machine) -> None:
    value = machine.stack.pop()
    machine.append(machine.stack[-1], [value])


def _dict(machine: Machine) -> None:
    values = machine.to_mark()
    machine.push_object({})
    machine.set_items(machine.stack[-1], values)


def _last(machine: Machine, count: int) -> None:
    values = machine.stack[-count:]
    if len(values) < count or any(value is _MARK for value in values):
        raise IndexError
    del machine.stack[-count:]
    machine.push_tuple(values)


def _stack_global(machine: Machine) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    machine.name(module, name)


def _plain_integer(machine: Machine) -> None:
    text = machine.line()
    machine.push({b"00": False, b"01": True}.get(text) if text in (b"00", b"01") else int(text))


def _quoted(machine: Machine) -> None:
    text = machine.line()
    if len(text) < 2 or text[0] != text[-1] or text[:1] not in (b"'", b'"'):
        raise ValueError
    machine.push_object(text[1:-1].decode("latin-1"))


# fmt: off
_OPERATIONS: dict[int, Callable[[Machine], Any]] = {
    ord(code): operation
    for code, operation in {
        "\x80": lambda m: m.take(1),  # PROTO
        "\x95": lambda m: m.take(8),  # FRAME
        "(": Machine.mark,
        "0": Machine.discard,  # POP
        "1": Machine.to_mark,  # POP_MARK
        "N": lambda m: m.push(None),
        "\x88": lambda m: m.push(True),
        "\x89": lambda m: m.push(False),
        "K": lambda m: m.push(m.number("<B")),  # BININT1
        "M": lambda m: m.push(m.number("<H")),  # BININT2
        "J": lambda m: m.push(m.number("<i")),  # BININT
        "I": _plain_integer,
        "L": lambda m: m.push(int(m.line().rstrip(b"L"))),
        "\x8a": lambda m: m.integer(m.take(m.number("<B"))),  # LONG1
        "\x8b": lambda m: m.integer(m.take(m.number("<i"))),  # LONG4
        "G": lambda m: m.push(struct.unpack(">d", m.take(8))[0]),  # BINFLOAT
        "F": lambda m: m.push(float(m.line())),
        "X": lambda m: _text(m, m.take(m.number("<I"))),  # BINUNICODE
        "\x8c": lambda m: _text(m, m.take(m.number("<B"))),  # SHORT_BINUNICODE
        "\x8d": lambda m: _text(m, m.take(m.number("<Q"))),  # BINUNICODE8
        "V": lambda m: m.push_object(m.line().decode("raw-unicode-escape")),
        "U": lambda m: m.push_object(m.take(m.number("<B")).decode("latin-1")),  # SHORT_BINSTRING
        "T": lambda m: m.push_object(m.take(m.number("<i")).decode("latin-1")),  # BINSTRING
        "S": _quoted,
        "C": lambda m: m.push_object(m.take(m.number("<B"))),  # SHORT_BINBYTES
        "B": lambda m: m.push_object(m.take(m.number("<I"))),  # BINBYTES
        "\x8e": lambda m: m.push_object(m.take(m.number("<Q"))),  # BINBYTES8
        "}": lambda m: m.push_object({}),
        "]": lambda m: m.push_object([]),
        ")": lambda m: m.push(()),
        "\x8f": lambda m: m.push(OPAQUE),  # EMPTY_SET
        "\x90": lambda m: m.to_mark(),  # ADDITEMS
        "\x91": lambda m: (m.to_mark(), m.push(OPAQUE)),  # FROZENSET
        "t": lambda m: m.push_tuple(m.to_mark()),
        "\x85": lambda m: _last(m, 1),
        "\x86": lambda m: _last(m, 2),
        "\x87": lambda m: _last(m, 3),
        "l": lambda m: m.push_object(m.to_mark()),
        "d": _dict,
        "a": _append,
        "e": _appends,
        "s": _item,
        "u": _items,
        "q": lambda m: m.put(m.number("<B")),  # BINPUT
        "r": lambda m: m.put(m.number("<I")),  # LONG_BINPUT
        "p": lambda m: m.put(int(m.line())),
        "\x94": lambda m: m.put(len(m.memo)),  # MEMOIZE
        "h": lambda m: m.push(m.memo[m.number("<B")]),  # BINGET
        "j": lambda m: m.push(m.memo[m.number("<I")]),  # LONG_BINGET
        "g": lambda m: m.push(m.memo[int(m.line())]),
        "c": lambda m: m.name(m.line().decode(), m.line().decode()),  # GLOBAL
        "\x93": _stack_global,
        "R": Machine.call,
        "\x81": lambda m: m.new(2),  # NEWOBJ
        "\x92": lambda m: m.new(3),  # NEWOBJ_EX
        "i": Machine.instance,
        "o": Machine.build_object,
        "b": lambda m: m.stack.pop(),  # BUILD: the state of an object is not kept
        "Q": Machine.persistent,  # BINPERSID
    }.items()
}
