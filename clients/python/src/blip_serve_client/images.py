"""Images: from a path, bytes, URL, Pillow image or NumPy array to a message."""

from __future__ import annotations

import asyncio
import io
import os
import struct
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from ._proto import blip_pb2
from .errors import ImageInputError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image as PillowImage

#: An image: a path or URL as text, a path, the bytes of an image file, a Pillow image, or a NumPy
#: array of bytes with the shape [height, width], [height, width, 3] or [height, width, 4].
#:
#: The server fetches a URL (http, https or data). The client reads every other image.
ImageInput = Union[str, "os.PathLike[str]", bytes, "PillowImage", "NDArray[Any]"]

_URL_SCHEMES = ("http://", "https://", "data:")
# The colour types of PNG by the number of channels.
_COLOUR_TYPES = {1: 0, 3: 2, 4: 6}


def image_message(image: ImageInput) -> blip_pb2.Image:
    """Returns the message of an image.

    Raises:
        ImageInputError: The image cannot be read or encoded.
        TypeError: The value is no image.
    """
    if isinstance(image, str) and image.lower().startswith(_URL_SCHEMES):
        return blip_pb2.Image(url=image)
    return blip_pb2.Image(data=_file_bytes(image))


async def image_message_async(image: ImageInput) -> blip_pb2.Image:
    """Returns the message of an image. Another thread reads and encodes it."""
    if isinstance(image, bytes):
        return image_message(image)
    return await asyncio.to_thread(image_message, image)


def _file_bytes(image: ImageInput) -> bytes:
    """Returns the bytes of an image file."""
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image)
    if isinstance(image, (str, os.PathLike)):
        try:
            return Path(image).read_bytes()
        except (OSError, ValueError) as error:
            raise _unreadable(f"cannot read {os.fspath(image)}: {error}") from error
    # The type of an image of a library can exist only if the library is loaded.
    pillow, numpy = sys.modules.get("PIL.Image"), sys.modules.get("numpy")
    if pillow and isinstance(image, pillow.Image):
        return _pillow_bytes(image)
    if numpy and isinstance(image, numpy.ndarray):
        return _array_bytes(image)
    raise TypeError(
        f"not an image: {type(image).__name__}, expected a path, bytes, URL, Pillow image or NumPy array"
    )


def _pillow_bytes(image: PillowImage) -> bytes:
    """Returns an image as PNG in RGB, into which the server would convert it."""
    buffer = io.BytesIO()
    try:
        image.convert("RGB").save(buffer, "PNG", compress_level=1)
    except (OSError, ValueError) as error:
        raise _unreadable(f"cannot encode the image: {error}") from error
    return buffer.getvalue()


def _array_bytes(array: NDArray[Any]) -> bytes:
    """Returns an array of bytes as PNG."""
    channels = 1 if array.ndim == 2 else array.shape[2] if array.ndim == 3 else 0
    if array.dtype != "uint8" or channels not in _COLOUR_TYPES or 0 in array.shape:
        shape = list(array.shape)
        raise _unreadable(
            f"cannot encode an array of {array.dtype} with shape {shape}: "
            "expected uint8 with shape [height, width], [height, width, 3] or [height, width, 4]"
        )
    height, width = array.shape[:2]
    # Each row of a PNG begins with the number of its filter. 0 is none.
    rows = b"".join(b"\0" + row.tobytes() for row in array)
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_png_chunk(kind, data) for kind, data in chunks)


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _unreadable(message: str) -> ImageInputError:
    return ImageInputError(message, code="INVALID_ARGUMENT", reason="IMAGE_UNREADABLE")
