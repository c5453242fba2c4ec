"""What an image file says in words: the generation text of web UIs, wherever they put it."""

from __future__ import annotations

from PIL import Image

CHUNK = "parameters"
_EXIF, _USER_COMMENT = 0x8769, 0x9286


def generation_text(image: Image.Image) -> str:
    """The ``parameters`` text of an opened image; "" when there is none.

    PNGs have a text chunk, JPEG and WebP files an EXIF comment.

    Raises:
        Errors of :data:`lorasmith.data.images.DECODER_ERRORS`: its EXIF is damaged.
    """
    text = image.info.get(CHUNK) or user_comment(image)
    return text if isinstance(text, str) else ""


def user_comment(image: Image.Image) -> str:
    raw = image.getexif().get_ifd(_EXIF).get(_USER_COMMENT, b"")
    if isinstance(raw, str):
        return raw
    if raw.startswith(b"UNICODE\0"):
        return _utf_16(raw[8:])
    return raw.removeprefix(b"ASCII\0\0\0").decode("utf-8", errors="replace").strip("\0")


def _utf_16(data: bytes) -> str:
    """The text of bytes in either order, for programs differ and nothing says which."""
    big, little = (data.decode(order, errors="replace") for order in ("utf-16-be", "utf-16-le"))
    for text in (big, little):
        if "Steps: " in text:
            return text.lstrip("\ufeff")
    # Of a Latin letter one byte is zero, the first when big endian.
    return (little if data[1::2].count(0) > data[::2].count(0) else big).lstrip("\ufeff")
