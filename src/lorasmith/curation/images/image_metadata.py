"""What an image file says besides its pixels, read and written without touching these: PNG text,
EXIF and XMP of PNG, JPEG and WebP.

A file is taken apart into chunks (PNG, WebP) or segments (JPEG), some of them are exchanged, and
all others are put together again byte for byte. Formats: PNG 3rd edition, JFIF and Exif 2.32
(TIFF 6), XMP part 3, the WebP container specification.
"""

from __future__ import annotations

import html
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from lorasmith.data.image_texts import CHUNK

DESCRIPTION = "Description"
"""PNG's own keyword for what is seen."""
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
"""Of files that can be written."""

_PNG = b"\x89PNG\r\n\x1a\n"
_XMP_KEYWORD = "XML:com.adobe.xmp"
_EXIF_START, _XMP_START = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_MOST_SEGMENT = 65_533
_MOST_TEXT = 1 << 20  # characters of a compressed text that are read

_IMAGE_DESCRIPTION, _ORIENTATION, _EXIF_DIRECTORY, _USER_COMMENT = 0x010E, 0x0112, 0x8769, 0x9286
_ASCII, _SHORT, _LONG, _UNDEFINED = 2, 3, 4, 7
_SIZES = {_ASCII: 1, _SHORT: 2, _LONG: 4}
_EMPTY_EXIF = b"II*\0\x08\0\0\0\0\0\0\0\0\0"

_DESCRIPTION = re.compile(r"<dc:description\b[^>]*?(?:/>|>.*?</dc:description>)", re.DOTALL)
_ITEM = re.compile(r"<rdf:li\b[^>]*>(.*?)</rdf:li>", re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_NEW_XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF'
    ' xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '</rdf:RDF></x:xmpmeta>\n<?xpacket end="w"?>'
)


@dataclass(frozen=True, slots=True)
class ImageMetadata:
    """
    Args:
        exif: a TIFF block; empty for none.
        xmp: a packet; empty for none.
        texts: of a PNG, by keyword.
    """

    exif: bytes = b""
    xmp: bytes = b""
    texts: Mapping[str, str] = field(default_factory=dict)


def read_metadata(data: bytes) -> ImageMetadata:
    """Of a file's bytes.

    Raises:
        ValueError: it is no PNG, JPEG or WebP, or is damaged.
    """
    exif, xmp = b"", b""
    texts: dict[str, str] = {}
    for name, body in _parts(data):
        if name in ("eXIf", "EXIF", "APP1") and not exif:
            is_exif = name != "APP1" or body.startswith(_EXIF_START)
            exif = body.removeprefix(_EXIF_START) if is_exif else b""
        if name == "XMP ":
            xmp = body
        elif name == "APP1" and body.startswith(_XMP_START):
            xmp = body[len(_XMP_START) :]
        elif name in ("tEXt", "zTXt", "iTXt") and (text := _png_text(name, body)):
            texts.setdefault(*text)
    return ImageMetadata(exif, xmp or texts.pop(_XMP_KEYWORD, "").encode(), texts)


def with_metadata(data: bytes, metadata: ImageMetadata) -> bytes:
    """The file with other metadata; what is empty in ``metadata`` stays as it is in the file.

    A text takes the place of one of its keyword; only PNG files have texts.

    Raises:
        ValueError: it is no PNG, JPEG or WebP, is damaged, or a JPEG cannot hold so much.
    """
    if data.startswith(_PNG):
        return _new_png(data, metadata)
    if data.startswith(b"\xff\xd8"):
        return _new_jpeg(data, metadata)
    return _new_webp(data, metadata)


def embedded_caption(data: bytes) -> str:
    """The caption in a file: PNG's Description, else XMP's, else EXIF's; "" without one.

    Raises:
        ValueError: it is no PNG, JPEG or WebP, or is damaged.
    """
    metadata = read_metadata(data)
    return (
        metadata.texts.get(DESCRIPTION, "")
        or xmp_description(metadata.xmp)
        or exif_description(metadata.exif)
    ).strip()


def embed_caption(data: bytes, text: str) -> bytes:
    """The file with a caption in all three places that it has; the same bytes where it has it.

    Raises:
        ValueError: see :func:`with_metadata`.
    """
    metadata = read_metadata(data)
    is_png = data.startswith(_PNG)
    exif, xmp, texts = b"", b"", {}
    if exif_description(metadata.exif) != text:
        exif = with_exif_entry(metadata.exif, _IMAGE_DESCRIPTION, _ASCII, text.encode() + b"\0")
    if xmp_description(metadata.xmp) != text:
        xmp = with_xmp_description(metadata.xmp, text)
    if is_png and metadata.texts.get(DESCRIPTION) != text:
        texts = {DESCRIPTION: text}
    return with_metadata(data, ImageMetadata(exif, xmp, texts)) if exif or xmp or texts else data


def copied(source: bytes, target: bytes) -> bytes:
    """``target`` with the metadata of ``source``; its pixels keep their orientation.

    Generation text of a PNG becomes the EXIF comment of other formats, as web UIs write it there.

    Raises:
        ValueError: see :func:`with_metadata`.
    """
    theirs, ours = read_metadata(source), read_metadata(target)
    exif = theirs.exif
    if CHUNK in theirs.texts and not target.startswith(_PNG):
        exif = _with_user_comment(exif, theirs.texts[CHUNK])
    if exif:
        orientation = struct.pack("<H" if exif[:2] == b"II" else ">H", exif_orientation(ours.exif))
        exif = with_exif_entry(exif, _ORIENTATION, _SHORT, orientation)
    return with_metadata(target, ImageMetadata(exif, theirs.xmp, theirs.texts))


# EXIF


def _entries(exif: bytes) -> tuple[str, list[tuple[int, bytes]], bytes]:
    """Byte order, (tag, 12 bytes) of the first directory, and the place of the next directory."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < 8:
        raise ValueError("its EXIF data is damaged")
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        raw = [exif[start + 2 + 12 * i : start + 14 + 12 * i] for i in range(count)]
        following = exif[start + 2 + 12 * count : start + 6 + 12 * count]
        tags = [struct.unpack_from(f"{order}H", entry)[0] for entry in raw]
    except struct.error as error:
        raise ValueError("its EXIF data is damaged") from error
    if any(len(entry) < 12 for entry in raw):
        raise ValueError("its EXIF data is damaged")
    return order, list(zip(tags, raw, strict=True)), following.ljust(4, b"\0")


def _exif_value(exif: bytes, tag: int) -> bytes:
    if not exif:
        return b""
    order, entries, _ = _entries(exif)
    for number, entry in entries:
        if number == tag:
            kind, count = struct.unpack_from(f"{order}HI", entry, 2)
            size = count * _SIZES.get(kind, 0)
            (place,) = struct.unpack_from(f"{order}I", entry, 8)
            return entry[8 : 8 + size] if size <= 4 else exif[place : place + size]
    return b""


def exif_description(exif: bytes) -> str:
    """Image description, as UTF-8; "" without one.

    Raises:
        ValueError: the block is damaged.
    """
    return _exif_value(exif, _IMAGE_DESCRIPTION).rstrip(b"\0 ").decode("utf-8", "replace")


def exif_orientation(exif: bytes) -> int:
    """1 to 8; 1, upright, where nothing is said."""
    value = _exif_value(exif, _ORIENTATION)
    number = int.from_bytes(value[:2], "little" if exif[:2] == b"II" else "big")
    return number if 1 <= number <= 8 else 1


def with_exif_entry(exif: bytes, tag: int, kind: int, value: bytes) -> bytes:
    """The block with one entry of its first directory exchanged or added.

    A new directory goes behind all that is there, so that every other value, maker notes and
    thumbnails too, stays at its offset.

    Raises:
        ValueError: the block is damaged.
    """
    exif = exif or _EMPTY_EXIF
    order, entries, following = _entries(exif)
    body = bytearray(exif + b"\0" * (len(exif) % 2))
    count = len(value) // _SIZES[kind]
    if len(value) <= 4:
        field_bytes = value.ljust(4, b"\0")
    else:
        field_bytes = struct.pack(f"{order}I", len(body))
        body += value + b"\0" * (len(value) % 2)
    new = struct.pack(f"{order}HHI", tag, kind, count) + field_bytes
    rows = [*((number, entry) for number, entry in entries if number != tag), (tag, new)]
    rows.sort(key=lambda row: row[0])  # as readers expect them
    struct.pack_into(f"{order}I", body, 4, len(body))
    body += struct.pack(f"{order}H", len(rows)) + b"".join(entry for _, entry in rows) + following
    return bytes(body)


def _with_user_comment(exif: bytes, text: str) -> bytes:
    """With a comment, unless there is a directory of camera data, which has its own."""
    exif = exif or _EMPTY_EXIF
    order, entries, _ = _entries(exif)
    if any(tag == _EXIF_DIRECTORY for tag, _ in entries):
        return exif
    codec = "utf-16-le" if order == "<" else "utf-16-be"
    comment = b"UNICODE\0" + text.encode(codec, "replace")
    exif += b"\0" * (len(exif) % 2)
    row = struct.pack(f"{order}HHHII", 1, _USER_COMMENT, _UNDEFINED, len(comment), len(exif))
    directory = struct.pack(f"{order}I", len(exif) + len(comment))
    block = exif + comment + row + bytes(4)
    return with_exif_entry(block, _EXIF_DIRECTORY, _LONG, directory)


# XMP


def xmp_description(xmp: bytes) -> str:
    """``dc:description``; of several languages the first."""
    match = _DESCRIPTION.search(xmp.decode("utf-8", "replace"))
    if match is None:
        return ""
    item = _ITEM.search(match[0])
    return html.unescape(_TAG.sub("", item[1] if item else match[0]))


def with_xmp_description(xmp: bytes, text: str) -> bytes:
    """The packet with another ``dc:description``; all else in it stays.

    Raises:
        ValueError: it is no packet.
    """
    packet = xmp.decode("utf-8") if xmp else _NEW_XMP
    end = packet.rfind("</rdf:RDF>")
    if end < 0:
        raise ValueError("its XMP data is damaged")
    new = (
        '<dc:description><rdf:Alt><rdf:li xml:lang="x-default">'
        f"{escape(text)}</rdf:li></rdf:Alt></dc:description>"
    )
    if _DESCRIPTION.search(packet):
        return _DESCRIPTION.sub(lambda match: new, packet, count=1).encode()
    part = (
        '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"{new}</rdf:Description>"
    )
    return (packet[:end] + part + packet[end:]).encode()


# Containers


def _parts(data: bytes) -> Iterator[tuple[str, bytes]]:
    if data.startswith(_PNG):
        yield from ((name, body) for name, body, _ in _png_chunks(data))
    elif data.startswith(b"\xff\xd8"):
        for name, segment in _jpeg_segments(data)[0]:
            yield name, segment[4:]
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        yield from _webp_chunks(data)
    else:
        raise ValueError("it is neither a PNG nor a JPEG nor a WebP file")


def _png_chunks(data: bytes) -> Iterator[tuple[str, bytes, bytes]]:
    """Name, content and all bytes of each; what follows the last one has no name."""
    place = len(_PNG)
    name = ""
    while place < len(data) and name != "IEND":
        (length,) = struct.unpack_from(">I", data.ljust(place + 8, b"\0"), place)
        end = place + 12 + length
        if end > len(data):
            raise ValueError("it is cut short")
        name = data[place + 4 : place + 8].decode("latin-1")
        yield name, data[place + 8 : end - 4], data[place:end]
        place = end
    if name != "IEND":
        raise ValueError("it is cut short")
    if place < len(data):
        yield "", b"", data[place:]


def _png_text(name: str, body: bytes) -> tuple[str, str] | None:
    keyword, _, rest = body.partition(b"\0")
    text, codec = rest, "latin-1"
    if name == "zTXt":
        inflated = _inflated(rest[1:])
        text = inflated if inflated is not None else b""
    elif name == "iTXt":
        flag, rest = rest[:1], rest[2:]
        _, _, rest = rest.partition(b"\0")
        _, _, text = rest.partition(b"\0")
        codec = "utf-8"
        if flag == b"\1":
            inflated = _inflated(text)
            text = inflated if inflated is not None else b""
    return keyword.decode("latin-1"), text.decode(codec, "replace")


def _inflated(data: bytes) -> bytes | None:
    try:
        return zlib.decompressobj().decompress(data, _MOST_TEXT)
    except zlib.error:
        return None


def _new_png(data: bytes, metadata: ImageMetadata) -> bytes:
    new: dict[str, bytes] = {}
    texts = dict(metadata.texts)
    if metadata.xmp:
        texts[_XMP_KEYWORD] = metadata.xmp.decode("utf-8", "replace")
    for keyword, text in texts.items():
        body = keyword.encode("latin-1", "replace") + b"\0\0\0\0\0" + text.encode()
        new[keyword] = _png_chunk(b"iTXt", body)
    if metadata.exif:
        new["eXIf"] = _png_chunk(b"eXIf", metadata.exif)
    pieces = [_PNG]
    for name, body, whole in _png_chunks(data):
        if name in ("tEXt", "zTXt", "iTXt"):
            if body.partition(b"\0")[0].decode("latin-1") in texts:
                continue
        elif name == "eXIf" and metadata.exif:
            continue
        elif name == "IDAT":
            pieces += new.values()
            new = {}
        pieces.append(whole)
    if new:
        raise ValueError("it has no pixels")
    return b"".join(pieces)


def _png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _jpeg_segments(data: bytes) -> tuple[list[tuple[str, bytes]], bytes]:
    """Name and bytes of the segments before the pixels; the rest."""
    segments: list[tuple[str, bytes]] = []
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # fills
            segments.append(("", data[place : place + 1]))
            place += 1
            continue
        if marker == 0xDA:
            return segments, data[place:]
        (length,) = struct.unpack_from(">H", data, place + 2)
        end = place + 2 + length
        if length < 2 or end > len(data):
            break
        name = f"APP{marker - 0xE0}" if 0xE0 <= marker <= 0xEF else f"{marker:02X}"
        segments.append((name, data[place:end]))
        place = end
    raise ValueError("it is cut short")


def _new_jpeg(data: bytes, metadata: ImageMetadata) -> bytes:
    new = {}
    for start, content in ((_EXIF_START, metadata.exif), (_XMP_START, metadata.xmp)):
        if content:
            body = start + content
            if len(body) > _MOST_SEGMENT:
                raise ValueError(f"a JPEG holds {_MOST_SEGMENT} bytes of EXIF or XMP at most")
            new[start] = b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    segments, rest = _jpeg_segments(data)
    kept = [
        (name, segment)
        for name, segment in segments
        if not (name == "APP1" and segment[4:].startswith(tuple(new)))
    ]
    # Behind JFIF's own segment, which is the first.
    first = 1 if kept and kept[0][0] == "APP0" else 0
    pieces = [segment for _, segment in kept]
    pieces[first:first] = new.values()
    return b"".join([data[:2], *pieces, rest])


def _webp_chunks(data: bytes) -> Iterator[tuple[str, bytes]]:
    place = 12
    end = min(len(data), 8 + struct.unpack_from("<I", data, 4)[0])
    while place + 8 <= end:
        (length,) = struct.unpack_from("<I", data, place + 4)
        if place + 8 + length > len(data):
            raise ValueError("it is cut short")
        yield data[place : place + 4].decode("latin-1"), data[place + 8 : place + 8 + length]
        place += 8 + length + length % 2


def _new_webp(data: bytes, metadata: ImageMetadata) -> bytes:
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        raise ValueError("it is neither a PNG nor a JPEG nor a WebP file")
    chunks = list(_webp_chunks(data))
    if not chunks:
        raise ValueError("it is cut short")
    flags = (0x08 if metadata.exif else 0) | (0x04 if metadata.xmp else 0)
    is_extended = chunks[0][0] == "VP8X" and chunks[0][1]
    head = chunks.pop(0)[1] if is_extended else _webp_head(*chunks[0])
    head = bytes([head[0] | flags]) + head[1:]
    new = {"EXIF": metadata.exif, "XMP ": metadata.xmp}
    kept = [("VP8X", head), *((name, body) for name, body in chunks if not new.get(name))]
    kept += [(name, body) for name, body in new.items() if body]
    body = b"".join(
        name.encode("latin-1") + struct.pack("<I", len(part)) + part + b"\0" * (len(part) % 2)
        for name, part in kept
    )
    behind = data[8 + struct.unpack_from("<I", data, 4)[0] :]
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body + behind


def _webp_head(name: str, body: bytes) -> bytes:
    """The extended header of a simple file: flags and size, from the beginning of its pixels."""
    if name == "VP8 " and len(body) >= 10:
        width, height = (size & 0x3FFF for size in struct.unpack_from("<HH", body, 6))
        alpha = 0
    elif name == "VP8L" and len(body) >= 5:
        (bits,) = struct.unpack_from("<I", body, 1)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        alpha = 0x10 if bits >> 28 & 1 else 0
    else:
        raise ValueError("it is cut short")
    return bytes([alpha, 0, 0, 0]) + b"".join(
        (size - 1).to_bytes(3, "little") for size in (width, height)
    )
