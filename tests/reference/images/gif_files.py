"""Generates GIF files: palettes, interlacing, transparency, frames and their places."""

import struct

import numpy as np
from scenes import HEIGHT, SIZES, WIDTH, scene_image, saved

PALETTE = bytes((i * 53 + c * 77) % 256 for i in range(256) for c in range(3))


def lzw(indices, bits):
    """Returns the code stream without compression: cleared before the code size grows."""
    clear, stream, buffer, count = 1 << bits, bytearray(), 0, 0
    codes = []
    for number, value in enumerate(indices):
        if number % ((1 << bits) - 2) == 0:
            codes.append(clear)
        codes.append(value)
    for code in [*codes, clear + 1]:
        buffer |= code << count
        count += bits + 1
        while count >= 8:
            stream.append(buffer & 255)
            buffer >>= 8
            count -= 8
    stream.append(buffer & 255)
    blocks = [bytes([len(part)]) + part for part in (stream[i : i + 255] for i in range(0, len(stream), 255))]
    return bytes([bits]) + b"".join(blocks) + b"\0"


def table(palette):
    """Returns the flags of a palette and its bytes."""
    if palette is None:
        return 0, b""
    size = max(1, (len(palette) // 3 - 1).bit_length())
    return 0x80 | (size - 1), palette.ljust(3 << size, b"\x11")


def frame(width, height, bits=8, left=0, top=0, palette=None, interlaced=False, seed=1):
    values = np.random.default_rng(seed).integers(0, 1 << bits, (height, width))
    flags, colours = table(palette)
    if interlaced:
        order = [y for start, step in ((0, 8), (4, 8), (2, 4), (1, 2)) for y in range(start, height, step)]
        values = values[order]
    place = struct.pack("<HHHHB", left, top, width, height, flags | (0x40 if interlaced else 0))
    return b"," + place + colours + lzw(values.flatten().tolist(), max(2, bits))


def control(transparent=None, disposal=0, delay=10):
    flags = disposal << 2 | (transparent is not None)
    return b"!\xf9\4" + struct.pack("<BHBB", flags, delay, transparent or 0, 0)


def gif(*parts, screen=(WIDTH, HEIGHT), palette=PALETTE, background=0, version=b"GIF89a"):
    flags, colours = table(palette)
    return version + struct.pack("<HHBBB", *screen, flags, background, 0) + colours + b"".join(parts) + b";"


def files():
    whole = (WIDTH, HEIGHT)
    for bits in range(1, 9):
        for interlaced in (False, True):
            suffix = "_interlaced" if interlaced else ""
            file = gif(frame(*whole, bits, interlaced=interlaced), palette=PALETTE[: 3 << bits])
            yield f"gif_{bits}_bits{suffix}", file
        yield f"gif_{bits}_bits_transparent", gif(control(1), frame(*whole, bits), palette=PALETTE[: 3 << bits])
    for width, height in SIZES:
        for interlaced in (False, True):
            suffix = "_interlaced" if interlaced else ""
            file = gif(frame(width, height, interlaced=interlaced), screen=(width, height))
            yield f"gif_{width}x{height}{suffix}", file
    for transparent in (None, 0, 5):
        for background in (0, 7):
            head = b"" if transparent is None else control(transparent)
            for left, top in ((4, 3), (30, 20)):
                file = gif(head, frame(11, 9, left=left, top=top), background=background)
                yield f"gif_at_{left}_{top}_transparent_{transparent}_background_{background}", file
    for disposal in range(4):
        parts = [control(2, disposal), frame(*whole), control(3, disposal), frame(*whole, seed=2)]
        yield f"gif_disposal_{disposal}", gif(*parts)
    local = bytes(255 - value for value in PALETTE)
    yield "gif_local_palette", gif(frame(*whole, palette=local))
    yield "gif_only_local_palette", gif(frame(*whole, palette=local), palette=None)
    yield "gif_without_palette", gif(frame(*whole), palette=None)
    yield "gif_short_palette", gif(frame(*whole), palette=PALETTE[:60])
    yield "gif_grey_ramp", gif(frame(*whole), palette=bytes(i for i in range(256) for _ in range(3)))
    yield "gif_short_grey_ramp", gif(frame(*whole), palette=bytes(i for i in range(16) for _ in range(3)))
    yield "gif_87a", gif(frame(*whole), version=b"GIF87a")
    yield "gif_comment", gif(b"!\xfe\3abc\0", b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0", frame(*whole))
    yield "gif_unknown_extension", gif(b"!\x55\2ab\0", frame(*whole))
    yield "gif_trailer_missing", gif(frame(*whole))[:-1]
    yield "gif_trailing_bytes", gif(frame(*whole)) + b"trailing"
    yield "gif_cut", gif(frame(*whole))[:-200]
    yield "gif_empty_screen", gif(frame(*whole), screen=(0, 0))
    quantized = scene_image().quantize(50)
    for optimize in (False, True):
        yield f"gif_pillow_optimize_{optimize}".lower(), saved(quantized, "GIF", optimize=optimize)
    yield "gif_pillow_animated", saved(quantized, "GIF", save_all=True, append_images=[quantized.rotate(180)])
    for mode in ("1", "L", "RGB", "RGBA"):
        yield f"gif_pillow_{mode.lower()}", saved(scene_image(mode=mode), "GIF")
