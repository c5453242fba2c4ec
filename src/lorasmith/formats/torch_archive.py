"""A torch file's records and what its pickle builds, all bounded before anything is unpickled.

What :func:`read_torch_file` lets through may be given to ``torch.load(weights_only=True)``: its
program is as small and plain as torch's own, nothing in it is compressed, and no tensor claims
numbers that are not there. The layout is that of ``torch.serialization``. Standard library only.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lorasmith.formats.torch_pickle import (
    MAX_NAME,
    OBJECTS,
    OBJECTS_A_RECORD,
    STEPS,
    STEPS_A_RECORD,
    Machine,
    TorchFileError,
)

MAX_PROGRAM_BYTES = 16 << 20
MAX_DIRECTORY_BYTES = 16 << 20

MAGIC = 0x1950A86A20F9469CFC6C
"""What a torch file before 1.6 begins with."""


@dataclass(frozen=True, slots=True)
class TorchFile:
    """
    Args:
        value: what the program builds: plain values, :class:`BuiltTensor`, :data:`OPAQUE`.
        names: all that it names.
        records: first byte and length of each storage's numbers by its key; ``None`` in files
            from before torch 1.6, and where they are big-endian.
    """

    value: Any
    names: frozenset[str]
    records: dict[str, tuple[int, int]] | None


def read_torch_file(path: Path) -> TorchFile:
    """
    Raises:
        TorchFileError: it is damaged, something else, or beyond the limits; says why.
        OSError: it cannot be read.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        if file.read(4) == b"PK\x03\x04":
            return _read_zip(file, size)
        file.seek(0)
        return _read_stream(file.read(MAX_PROGRAM_BYTES), size)


def _read_stream(data: bytes, size: int) -> TorchFile:
    """The format before 1.6: magic number, protocol, system, object, keys, and then numbers."""
    machine = Machine(data, size, STEPS + STEPS_A_RECORD * min(3000, size // 64))
    first = machine.run()
    if first != MAGIC or isinstance(first, bool):
        raise TorchFileError("it was not written by torch.save", machine.names)
    machine.run()
    machine.run()
    value = machine.run()
    machine.run()
    machine.check_storages()
    return TorchFile(value, frozenset(machine.names), None)


def _read_zip(file: IO[bytes], size: int) -> TorchFile:
    entries = _entries(file, size)
    root = entries[0].filename.partition("/")[0]
    by_name = {entry.filename: entry for entry in entries}
    if f"{root}/constants.pkl" in by_name:
        raise TorchFileError("it is a TorchScript program, not weights")
    program = by_name.get(f"{root}/data.pkl")
    if program is None:
        raise TorchFileError("a zip archive, but not one that torch wrote")
    if program.file_size > MAX_PROGRAM_BYTES:
        raise TorchFileError(f"its data.pkl of {program.file_size} bytes is far too long")
    data = _record(file, program, size)
    if zlib.crc32(data) != program.CRC:
        raise TorchFileError("damaged: the checksum of data.pkl is wrong")
    order = by_name.get(f"{root}/byteorder")
    if order is not None and order.file_size > MAX_NAME:
        raise TorchFileError("its record byteorder is far too long")
    records = {}
    for name, entry in by_name.items():
        if name.startswith(f"{root}/data/"):
            records[name.removeprefix(f"{root}/data/")] = _extent(file, entry, size)
    machine = Machine(data, size, STEPS + STEPS_A_RECORD * len(records))
    machine.objects_left = OBJECTS + OBJECTS_A_RECORD * len(records)
    value = machine.run()
    machine.check_storages(records)
    little = order is None or _record(file, order, size) == b"little"
    return TorchFile(value, frozenset(machine.names), records if little else None)


def _entries(file: IO[bytes], size: int) -> list[zipfile.ZipInfo]:
    """The archive's directory: records that stand side by side as they are."""
    if _directory_bytes(file, size) > MAX_DIRECTORY_BYTES:
        raise TorchFileError("the archive's directory is far too long")
    try:
        entries = zipfile.ZipFile(file).infolist()
    except (
        zipfile.BadZipFile,
        ValueError,
        struct.error,
        LookupError,
        NotImplementedError,
    ) as error:
        raise TorchFileError(f"damaged: {error}") from error
    if not entries:
        raise TorchFileError("an empty zip archive")
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            what = "is compressed, which torch never does: save it again with torch.save"
            raise TorchFileError(f"its record {entry.filename[:MAX_NAME]!r} {what}")
    # torch looks names up without regard to case.
    if len({entry.filename.lower() for entry in entries}) < len(entries):
        raise TorchFileError("two records of one name")
    if sum(entry.file_size for entry in entries) > size:
        raise TorchFileError("its records overlap, or reach beyond the file")
    return entries


def _directory_bytes(file: IO[bytes], size: int) -> int:
    """Of the directory that zipfile would read, as the end of the archive gives it."""
    file.seek(max(0, size - (1 << 16) - 22))
    tail = file.read()
    at = len(tail) - 22 if tail[-22:-18] == b"PK\5\6" else tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < 22:
        raise TorchFileError("damaged: the archive has no end")
    (length,) = struct.unpack_from("<I", tail, at + 12)
    if at >= 20 and tail[at - 20 : at - 16] == b"PK\6\7":
        (where,) = struct.unpack_from("<Q", tail, at - 12)
        file.seek(min(where, size))
        record = file.read(56)
        if len(record) == 56 and record[:4] == b"PK\6\6":
            length = max(length % 0xFFFFFFFF, struct.unpack_from("<Q", record, 40)[0])
    return int(length)


def _extent(file: IO[bytes], entry: zipfile.ZipInfo, size: int) -> tuple[int, int]:
    """First byte and length; the directory does not say how long the record's own header is."""
    if not 0 <= entry.header_offset < size:
        raise TorchFileError("damaged: a record is not where the directory says")
    file.seek(entry.header_offset)
    header = file.read(30)
    if len(header) < 30 or header[:4] != b"PK\x03\x04":
        raise TorchFileError("damaged: a record is not where the directory says")
    name, extra = struct.unpack_from("<HH", header, 26)
    begin = entry.header_offset + 30 + name + extra
    if begin + entry.file_size > size:
        raise TorchFileError("damaged: a record reaches beyond the file")
    return begin, entry.file_size


def _record(file: IO[bytes], entry: zipfile.ZipInfo, size: int) -> bytes:
    begin, length = _extent(file, entry, size)
    file.seek(begin)
    return file.read(length)
