"""Generates Windows and OS/2 bitmaps: depths, headers, masks, run lengths and offsets."""

import struct

import numpy as np
from scenes import HEIGHT, SIZES, WIDTH, packed, scene_image, random_samples, saved

GREY = bytes(v for i in range(256) for v in (i, i, i, 0))
COLOURS = bytes((i * 53 + c * 77) % 256 * (c < 3) for i in range(256) for c in range(4))
MASKS = {
    "565": (16, (0xF800, 0x7E0, 0x1F)),
    "555": (16, (0x7C00, 0x3E0, 0x1F)),
    "bgrx": (32, (0xFF0000, 0xFF00, 0xFF, 0)),
    "xbgr": (32, (0xFF000000, 0xFF0000, 0xFF00, 0)),
    "bgxr": (32, (0xFF000000, 0xFF00, 0xFF, 0)),
    "abgr": (32, (0xFF000000, 0xFF0000, 0xFF00, 0xFF)),
    "rgba": (32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000)),
    "bgra": (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
}


def pixels(bits, width=WIDTH, height=HEIGHT):
    """Returns random rows, padded to four bytes."""
    if bits <= 8:
        rows = packed(random_samples(height, width, 1, bits), bits)
    else:
        rows = [row.astype(np.uint8).tobytes() for row in random_samples(height, width * bits // 8, 1, 8)]
    return b"".join(row + b"\0" * (-len(row) % 4) for row in rows)


def bmp(bits, data, size=40, masks=None, palette=None, compression=0, width=WIDTH, height=HEIGHT, **options):
    """Returns a bitmap with a header of `size` bytes."""
    if palette is None:
        palette = COLOURS[: 4 << bits] if bits <= 8 else b""
    if size == 12:
        palette = b"".join(palette[i : i + 3] for i in range(0, len(palette), 4))
        header = struct.pack("<IHHHH", 12, width, height, options.get("planes", 1), bits)
    else:
        colours = options.get("colours", len(palette) // 4)
        fields = (size, width, height, options.get("planes", 1), bits, 3 if masks else compression, len(data))
        header = struct.pack("<IiiHHIIiiII", *fields, 2835, 2835, colours, 0)
        if masks and size >= 52:
            header += struct.pack("<4I", *masks, *[0] * (4 - len(masks)))
        header = header[:size].ljust(size, b"\0")
    extra = struct.pack("<3I", *masks[:3]) if masks and size == 40 else b""
    gap = options.get("gap", b"")
    offset = 14 + len(header) + len(extra) + len(palette) + len(gap)
    declared = options.get("offset", offset)
    head = b"BM" + struct.pack("<IHHI", offset + len(data), 0, 0, declared)
    return head + header + extra + palette + gap + data


def files():
    for bits in (1, 4, 8, 16, 24, 32):
        for size in (12, 40, 52, 56, 64, 108, 124):
            yield f"bmp_{bits}_header_{size}", bmp(bits, pixels(bits), size)
        for width, height in SIZES[:6]:
            yield f"bmp_{bits}_{width}x{height}", bmp(bits, pixels(bits, width, height), width=width, height=height)
        yield f"bmp_{bits}_top_down", bmp(bits, pixels(bits), height=-HEIGHT)
        yield f"bmp_{bits}_gap", bmp(bits, pixels(bits), gap=b"\x55" * 20)
        yield f"bmp_{bits}_offset_zero", bmp(bits, pixels(bits), offset=0)
        yield f"bmp_{bits}_offset_of_header_end", bmp(bits, pixels(bits), offset=54)
        yield f"bmp_{bits}_os2_offset_zero", bmp(bits, pixels(bits), 12, offset=0)
        yield f"bmp_{bits}_planes_zero", bmp(bits, pixels(bits), planes=0)
        yield f"bmp_{bits}_trailing_bytes", bmp(bits, pixels(bits)) + b"trailing"
        yield f"bmp_{bits}_cut", bmp(bits, pixels(bits))[:-40]
    for name, (bits, masks) in MASKS.items():
        for size in (40, 52, 56, 108, 124):
            if size > 52 or masks[-1] == 0 or bits == 16:
                yield f"bmp_masks_{name}_header_{size}", bmp(bits, pixels(bits), size, masks)
    for bits in (1, 4, 8):
        for colours in (1, 2, 7, 200):
            if colours <= 1 << bits:
                palette = COLOURS[: 4 * colours]
                yield f"bmp_{bits}_palette_of_{colours}", bmp(bits, pixels(bits), palette=palette)
        grey = bytes(v for i in range(1 << bits) for v in (i * 255 // ((1 << bits) - 1),) * 3 + (0,))
        yield f"bmp_{bits}_grey_palette", bmp(bits, pixels(bits), palette=grey)
        yield f"bmp_{bits}_inverted_palette", bmp(bits, pixels(bits), palette=bytes(255 - v for v in grey))
        yield f"bmp_{bits}_colours_zero", bmp(bits, pixels(bits), colours=0)
    yield "bmp_4_palette_of_256", bmp(4, pixels(4), palette=COLOURS)
    yield "bmp_8_ramp", bmp(8, pixels(8), palette=GREY)
    yield "bmp_8_short_ramp", bmp(8, pixels(8), palette=GREY[:64])
    yield from run_lengths()
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        yield f"bmp_pillow_{mode.lower()}", saved(scene_image(mode=mode), "BMP")


def run_lengths():
    runs = b"".join(bytes([WIDTH - 4, row, 0, 4, 1, 2, 3, 4, 0, 0]) for row in range(HEIGHT))
    odd = b"".join(bytes([WIDTH - 3, row, 0, 3, 1, 2, 3, 0, 0, 0]) for row in range(HEIGHT))
    short = b"".join(bytes([WIDTH - 9, row, 0, 0]) for row in range(HEIGHT))
    long = b"".join(bytes([WIDTH + 9, row, 0, 0]) for row in range(HEIGHT))
    delta = b"".join(bytes([5, row, 0, 2, 6, 0, WIDTH - 11, 3, 0, 0]) for row in range(HEIGHT))
    cases = {"runs": runs, "odd": odd, "short_rows": short, "long_runs": long, "deltas": delta}
    for name, data in cases.items():
        for size in (40, 64):
            yield f"bmp_rle8_{name}_header_{size}", bmp(8, data + b"\0\1", size, compression=1)
        yield f"bmp_rle8_{name}_without_end", bmp(8, data, compression=1)
    yield "bmp_rle8_early_end", bmp(8, runs[:40] + b"\0\1", compression=1)
    yield "bmp_rle8_grey", bmp(8, runs + b"\0\1", compression=1, palette=GREY)
    runs4 = b"".join(bytes([WIDTH, row % 16 * 16 + 5, 0, 0]) for row in range(HEIGHT))
    literal4 = b"".join(bytes([WIDTH - 4, row, 0, 4, 0x12, 0x34, 0, 0]) for row in range(HEIGHT))
    odd4 = b"".join(bytes([WIDTH - 5, row, 0, 5, 0x12, 0x34, 0x50, 0, 0, 0]) for row in range(HEIGHT))
    for name, data in {"runs": runs4, "literals": literal4, "odd": odd4}.items():
        yield f"bmp_rle4_{name}", bmp(4, data + b"\0\1", compression=2)
