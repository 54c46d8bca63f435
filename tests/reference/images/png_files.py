"""Generates PNG files: every colour type, depth and interlacing, and what surrounds the pixels."""

import struct
import zlib

import numpy as np
from PIL import Image
from scenes import HEIGHT, SIZES, WIDTH, packed, scene_image, random_samples, saved, scene

# Colour types: name, channels, depths.
TYPES = {
    0: ("grey", 1, (1, 2, 4, 8, 16)),
    2: ("rgb", 3, (8, 16)),
    3: ("palette", 1, (1, 2, 4, 8)),
    4: ("grey_alpha", 2, (8, 16)),
    6: ("rgba", 4, (8, 16)),
}
PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
PALETTE = bytes((i * 37 + c * 91) % 256 for i in range(256) for c in range(3))


def chunk(name, data, damage=0):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data) ^ damage)


def rows_of(samples, depth):
    """Returns the packed rows of samples."""
    if depth == 16:
        return [row.astype(">u2").tobytes() for row in samples.reshape(samples.shape[0], -1)]
    return packed(samples, depth)


def filtered(rows, bytes_per_pixel, kind):
    """Returns the rows with a filter of one kind, or of all kinds in turn."""
    out, above = [], None
    for number, row in enumerate(rows):
        above = above if above is not None and len(above) == len(row) else bytes(len(row))
        filter_kind = number % 5 if kind == "all" else kind
        line = bytearray([filter_kind])
        for at, value in enumerate(row):
            left = row[at - bytes_per_pixel] if at >= bytes_per_pixel else 0
            corner = above[at - bytes_per_pixel] if at >= bytes_per_pixel else 0
            up = above[at]
            nearest = min((abs(up - corner), 0, left), (abs(left - corner), 1, up), (abs(left + up - 2 * corner), 2, corner))
            predicted = [0, left, up, (left + up) // 2, nearest[2]][filter_kind]
            line.append((value - predicted) & 255)
        out.append(bytes(line))
        above = row
    return out


def png(color_type, depth, samples, interlaced=False, extra=b"", kind="all", parts=1, end=None, damage=None):
    """Returns a PNG file. `damage` is the name of the chunk whose checksum is wrong."""
    height, width, channels = samples.shape
    bytes_per_pixel = max(1, channels * depth // 8)
    lines = []
    for x, y, dx, dy in PASSES if interlaced else [(0, 0, 1, 1)]:
        part = samples[y::dy, x::dx]
        if part.size:
            lines += filtered(rows_of(part, depth), bytes_per_pixel, kind)
    data = zlib.compress(b"".join(lines))
    step = -(-len(data) // parts)
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, int(interlaced))
    idats = [data[i : i + step] for i in range(0, len(data), step)]
    wrong = lambda name: 1 if damage == name else 0
    body = b"".join(chunk(b"IDAT", part, wrong("IDAT") if n == 0 else 0) for n, part in enumerate(idats))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header, wrong("IHDR"))
        + extra
        + body
        + (chunk(b"IEND", b"") if end is None else end)
    )


def of_type(color_type, depth, width=WIDTH, height=HEIGHT, **options):
    channels = TYPES[color_type][1]
    samples = random_samples(height, width, channels, depth)
    palette = chunk(b"PLTE", PALETTE[: 3 << depth]) if color_type == 3 else b""
    options["extra"] = palette + options.get("extra", b"")
    return png(color_type, depth, samples, **options)


def files():
    for color_type, (name, channels, depths) in TYPES.items():
        for depth in depths:
            for interlaced in (False, True):
                suffix = "_interlaced" if interlaced else ""
                yield f"png_{name}_{depth}{suffix}", of_type(color_type, depth, interlaced=interlaced)
            for width, height in SIZES[:5]:
                file = of_type(color_type, depth, width, height, interlaced=True)
                yield f"png_{name}_{depth}_{width}x{height}", file
    for kind in range(5):
        yield f"png_filter_{kind}", of_type(2, 8, kind=kind)
    yield from transparent()
    yield from surroundings()


def transparent():
    for depth in (1, 2, 4, 8, 16):
        yield f"png_grey_{depth}_trns", of_type(0, depth, extra=chunk(b"tRNS", b"\0\1"))
    for depth in (8, 16):
        yield f"png_rgb_{depth}_trns", of_type(2, depth, extra=chunk(b"tRNS", b"\0\1\0\2\0\3"))
    for depth in (1, 2, 4, 8):
        for count in (1, 1 << depth):
            alpha = chunk(b"tRNS", bytes(i * 7 % 256 for i in range(count)))
            yield f"png_palette_{depth}_trns_{count}", of_type(3, depth, extra=alpha)
    samples = random_samples(HEIGHT, WIDTH, 1, 8)
    yield "png_palette_short", png(3, 8, samples, extra=chunk(b"PLTE", PALETTE[:60]))
    yield "png_grey_16_low", png(0, 16, random_samples(HEIGHT, WIDTH, 1, 16) % 300)


def surroundings():
    extras = {
        "gama": chunk(b"gAMA", struct.pack(">I", 100_000)),
        "srgb": chunk(b"sRGB", b"\0"),
        "chrm": chunk(b"cHRM", struct.pack(">8I", *[31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000])),
        "iccp": chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(300))),
        "text": chunk(b"tEXt", b"Comment\0text") + chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 99)),
        "itxt": chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(b"x" * 99)),
        "exif": chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"),
        "phys": chunk(b"pHYs", struct.pack(">IIB", 2835, 2835, 1)),
        "bkgd": chunk(b"bKGD", b"\0\1\0\2\0\3"),
        "sbit": chunk(b"sBIT", b"\5\6\5"),
        "unknown": chunk(b"prVt", b"data"),
        "text_wrong_checksum": chunk(b"tEXt", b"Comment\0text", damage=1),
        "suggested_palette": chunk(b"PLTE", PALETTE[:30]),
    }
    for name, extra in extras.items():
        yield f"png_with_{name}", of_type(2, 8, extra=extra)
    for parts in (2, 5, 50):
        yield f"png_{parts}_idat", of_type(2, 8, parts=parts)
    yield "png_idat_wrong_checksum", of_type(2, 8, parts=2, damage="IDAT")
    yield "png_ihdr_wrong_checksum", of_type(2, 8, damage="IHDR")
    for color_type in (2, 3, 6):
        name = TYPES[color_type][0]
        yield f"png_{name}_iend_missing", of_type(color_type, 8, end=b"")
        yield f"png_{name}_iend_missing_interlaced", of_type(color_type, 8, end=b"", interlaced=True)
    yield "png_iend_cut", of_type(2, 8, end=b"\0\0\0\0IE")
    yield "png_idat_checksum_missing", of_type(2, 8, end=b"")[:-4]
    yield "png_trailing_bytes", of_type(2, 8) + b"trailing"
    yield "png_pixels_cut", of_type(2, 8)[:-300]
    frames = [scene_image(), scene_image().rotate(180)]
    yield "png_animated", saved(frames[0], "PNG", save_all=True, append_images=frames[1:])
    hidden = saved(frames[0], "PNG", save_all=True, append_images=frames[1:], default_image=True)
    yield "png_animated_default_image", hidden
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        image = scene_image(mode="L") if mode == "I;16" else scene_image(mode=mode)
        if mode == "I;16":
            image = Image.fromarray(np.asarray(image).astype(np.uint16) * 3)
        yield f"png_pillow_{mode.lower().replace(';', '_')}", saved(image, "PNG", optimize=mode == "P")
