"""What a converted file keeps of the one it was made from, so that the way back is exact.

The header entry ``lorasmith.original`` holds the first file's header as it was, the tensors that
the new style has no place for (alphas in diffusers' files), and hashes of the converted file. As
long as nobody has changed the converted file, the first one can be written again byte for byte.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from lorasmith.core.files import (
    MAX_HEADER_BYTES,
    SafetensorsHeader,
    TensorInfo,
    parse_json,
    parse_safetensors_header,
)

KEY = "lorasmith.original"


@dataclass(frozen=True, slots=True)
class RawFile:
    """A safetensors file's bytes.

    Args:
        start: the header's text, as it stands in the file.
        header: the same, read.
        data: each tensor's bytes.
    """

    start: bytes
    header: SafetensorsHeader
    data: Mapping[str, bytes]

    @property
    def order(self) -> list[str]:
        """Names as their bytes follow each other."""
        tensors = self.header.tensors
        return sorted(tensors, key=lambda name: (tensors[name].begin, tensors[name].end))

    def chunks(self) -> Iterator[bytes]:
        """The file."""
        yield struct.pack("<Q", len(self.start)) + self.start
        yield from self.content()

    def content(self) -> Iterator[bytes]:
        return (self.data[name] for name in self.order)


def read_raw(path: Path) -> RawFile:
    """A safetensors file as it is.

    Raises:
        ValueError: it is damaged.
        OSError: it cannot be read.
    """
    content = path.read_bytes()
    if len(content) < 8:
        raise ValueError(f"{len(content)} bytes are too few for a safetensors file")
    (length,) = struct.unpack("<Q", content[:8])
    if length > min(MAX_HEADER_BYTES, len(content) - 8):
        raise ValueError("the header is longer than the file: not safetensors, or cut short")
    start = content[8 : 8 + length]
    header = parse_safetensors_header(start, len(content))
    data = {name: content[info.begin : info.end] for name, info in header.tensors.items()}
    return RawFile(start, header, data)


def record(
    original: RawFile, renamed: Mapping[str, str | None], metadata: Mapping[str, str], content: str
) -> str:
    """The entry for a converted file.

    Args:
        renamed: the original's names -> the converted file's; None for what it leaves out.
        metadata: the converted file's, without this entry.
        content: SHA-256 of its tensors' bytes, hex.
    """
    left_out = b"".join(original.data[name] for name in original.order if renamed[name] is None)
    names = [renamed[name] for name in original.order]
    values = {
        "header": _packed(original.start),
        "left_out": _packed(left_out),
        "names": _packed(json.dumps(names).encode()),
        "content": content,
        "metadata": _digest(metadata),
    }
    return json.dumps(values, sort_keys=True)


def restore(converted: RawFile) -> RawFile | None:
    """The file that ``converted`` was made from; None where it does not say, or was changed."""
    metadata = dict(converted.header.metadata)
    text = metadata.pop(KEY, None)
    if text is None:
        return None
    try:
        values = parse_json(text)
        if values["metadata"] != _digest(metadata):
            return None
        start, left_out = _unpacked(values["header"]), _unpacked(values["left_out"])
        names = parse_json(_unpacked(values["names"]))
        size = 8 + len(start) + len(left_out) + sum(len(data) for data in converted.data.values())
        header = parse_safetensors_header(start, size)
        if values["content"] != _content_hash(converted):
            return None
        return _rebuilt(converted, start, header, names, left_out)
    except (ValueError, KeyError, TypeError, AttributeError, zlib.error, binascii.Error):
        return None


def _rebuilt(
    converted: RawFile,
    start: bytes,
    header: SafetensorsHeader,
    names: list[str | None],
    left_out: bytes,
) -> RawFile | None:
    """None where a tensor is not of the size that the header says."""
    original = RawFile(start, header, {})
    data: dict[str, bytes] = {}
    position = 0
    for name, now in zip(original.order, names, strict=True):
        info: TensorInfo = header.tensors[name]
        size = info.end - info.begin
        if now is None:
            data[name] = left_out[position : position + size]
            position += size
        else:
            data[name] = converted.data[now]
        if len(data[name]) != size:
            return None
    return RawFile(start, header, data)


def _content_hash(file: RawFile) -> str:
    digest = sha256()
    for chunk in file.content():
        digest.update(chunk)
    return digest.hexdigest()


def _digest(metadata: Mapping[str, str]) -> str:
    return sha256(json.dumps(dict(metadata), sort_keys=True).encode()).hexdigest()


def _packed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data, 9)).decode()


def _unpacked(text: str) -> bytes:
    """
    Raises:
        ValueError, zlib.error: it was not packed so, or is larger than any header.
    """
    packed = zlib.decompressobj()
    data = packed.decompress(base64.b64decode(text, validate=True), MAX_HEADER_BYTES)
    if not packed.eof:
        raise ValueError("cut short")
    return data
