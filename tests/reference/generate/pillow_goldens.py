#!/usr/bin/env python3
"""Writes the golden files of image decoding and scaling, computed by Pillow.

    pip install pillow==12.3.0 numpy
    python tests/reference/generate/pillow_goldens.py

`crates/images/tests/pillow/`  small files of every format and mode, and `cases.json`: the RGB
                               pixels of `Image.open(file).convert("RGB")` of each file in
                               hexadecimal, or the error of Pillow.
`crates/blip/tests/pillow/`    `resize.json`: digests (and pixels of small images) of scaled images.
                               The Rust tests generate the same input images.

Pillow 13 changed the order of the two passes of `resize` for tall images. The script rejects it.
"""

import hashlib
import io
import json
import pathlib
import struct
import zlib

import numpy as np
import PIL
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[3]
DECODE = ROOT / "crates/images/tests/pillow"
RESIZE = ROOT / "crates/blip/tests/pillow"
WIDTH, HEIGHT = 23, 17


def scene(width=WIDTH, height=HEIGHT):
    """Returns gradients with edges and some noise: [height, width, 3] u8."""
    y, x = np.mgrid[0:height, 0:width]
    rng = np.random.default_rng(7)
    base = np.stack([x * 255 // width, y * 255 // height, (x * y) % 256], axis=-1).astype(np.int32)
    base[(x // 5 + y // 5) % 2 == 0] ^= 0x60
    return np.clip(base + rng.integers(-9, 10, base.shape), 0, 255).astype(np.uint8)


def saved(image, fmt, **options):
    """Returns the encoded file of an image."""
    out = io.BytesIO()
    image.save(out, fmt, **options)
    return out.getvalue()


# ---------------------------------------------------------------------------------------- PNG


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(color_type, depth, rows, extra=b"", width=WIDTH, height=HEIGHT, interlace=0):
    """Returns a PNG file in a mode that Pillow cannot write.

    `rows` holds the packed bytes of rows.
    """
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, interlace)
    data = b"".join(b"\0" + row for row in rows)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )


def packed_rows(depth, channels, width=WIDTH, height=HEIGHT, top=None, seed=0):
    """Returns random samples of `depth` bits, below `top`, packed into rows."""
    rng = np.random.default_rng(100 * depth + channels + seed)
    values = rng.integers(0, top or 1 << depth, (height, width * channels))
    if depth == 16:
        return [row.astype(">u2").tobytes() for row in values]
    if depth == 8:
        return [row.astype(np.uint8).tobytes() for row in values]
    rows = []
    for row in values:
        bits = "".join(format(v, f"0{depth}b") for v in row)
        bits += "0" * (-len(bits) % 8)
        rows.append(int(bits, 2).to_bytes(len(bits) // 8, "big"))
    return rows


def adam7_rows(depth, channels):
    """Returns the packed rows of the seven passes of Adam7."""
    passes = [
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ]
    rows = []
    for number, (x0, y0, dx, dy) in enumerate(passes):
        width = -(-(WIDTH - x0) // dx)
        height = -(-(HEIGHT - y0) // dy)
        if width > 0 and height > 0:
            rows += packed_rows(depth, channels, width, height, seed=number)
    return rows


def png_cases():
    palette = chunk(b"PLTE", bytes((i * 37 + c * 91) % 256 for i in range(256) for c in range(3)))
    for color_type, channels, depths in [
        (0, 1, (1, 2, 4, 8, 16)),
        (2, 3, (8, 16)),
        (3, 1, (1, 2, 4, 8)),
        (4, 2, (8, 16)),
        (6, 4, (8, 16)),
    ]:
        for depth in depths:
            extra = b""
            if color_type == 3:
                extra = chunk(b"PLTE", palette[8 : 8 + 3 * (1 << depth)])
            name = {0: "grey", 2: "rgb", 3: "palette", 4: "grey_alpha", 6: "rgba"}[color_type]
            yield f"png_{name}_{depth}", png(color_type, depth, packed_rows(depth, channels), extra)
            yield (
                f"png_{name}_{depth}_interlaced",
                png(color_type, depth, adam7_rows(depth, channels), extra, interlace=1),
            )
    yield "png_grey_16_below_256", png(0, 16, packed_rows(16, 1, top=300))
    yield "png_palette_short", png(3, 8, packed_rows(8, 1, top=9), chunk(b"PLTE", bytes(range(40, 61))))
    alpha = chunk(b"tRNS", bytes(range(0, 250, 25)))
    yield "png_palette_transparent", png(3, 8, packed_rows(8, 1, top=20), palette + alpha)
    yield "png_grey_transparent", png(0, 8, packed_rows(8, 1), chunk(b"tRNS", b"\0\x40"))
    yield "png_rgb_transparent", png(2, 8, packed_rows(8, 3), chunk(b"tRNS", b"\0\1\0\2\0\3"))
    yield "png_gamma", png(2, 8, packed_rows(8, 3), chunk(b"gAMA", struct.pack(">I", 100_000)))
    yield "png_one_pixel", png(2, 8, [b"\1\2\3"], width=1, height=1)
    frames = [Image.fromarray(scene()), Image.fromarray(255 - scene())]
    yield "png_animated", saved(frames[0], "PNG", save_all=True, append_images=frames[1:])


# --------------------------------------------------------------------------------------- JPEG


def jpeg_cases():
    image = Image.fromarray(scene(37, 29))
    for name, sampling in [("444", 0), ("422", 1), ("420", 2)]:
        for quality in (30, 75, 95):
            yield f"jpeg_{name}_q{quality}", saved(image, "JPEG", quality=quality, subsampling=sampling)
        yield (
            f"jpeg_{name}_progressive",
            saved(image, "JPEG", quality=80, subsampling=sampling, progressive=True),
        )
    yield "jpeg_grey", saved(image.convert("L"), "JPEG", quality=85)
    yield "jpeg_grey_progressive", saved(image.convert("L"), "JPEG", quality=85, progressive=True)
    yield "jpeg_cmyk", saved(image.convert("CMYK"), "JPEG", quality=85)
    yield "jpeg_cmyk_progressive", saved(image.convert("CMYK"), "JPEG", quality=85, progressive=True)
    yield "jpeg_keep_rgb", saved(image, "JPEG", quality=85, keep_rgb=True)  # check_prose: allow
    yield "jpeg_restarts", saved(image, "JPEG", quality=85, restart_marker_blocks=2)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: rotate by 90 degrees
    yield "jpeg_exif_orientation", saved(image, "JPEG", quality=85, exif=exif)
    ycck = bytearray(saved(image.convert("CMYK"), "JPEG", quality=85))
    adobe = ycck.find(b"Adobe")
    ycck[adobe + 11] = 2  # the same samples, declared YCCK
    yield "jpeg_ycck", bytes(ycck)
    no_adobe = bytes(ycck[: adobe - 4]) + bytes(ycck[adobe + 12 :])
    yield "jpeg_cmyk_without_adobe", no_adobe
    yield "jpeg_one_pixel", saved(image.crop((0, 0, 1, 1)), "JPEG")
    yield "jpeg_trailing_bytes", saved(image, "JPEG") + b"trailing"
    whole = saved(image, "JPEG", quality=75)
    damaged = bytearray(whole)
    damaged[len(whole) * 3 // 4] ^= 0x55
    yield "jpeg_damaged_scan", bytes(damaged)


# --------------------------------------------------------------------------------------- WebP


def webp_cases():
    image = Image.fromarray(scene(37, 29))
    alpha = image.copy()
    alpha.putalpha(Image.fromarray((scene(37, 29)[..., 2] // 64 * 85).astype(np.uint8)))
    for quality in (10, 50, 80, 100):
        yield f"webp_lossy_q{quality}", saved(image, "WEBP", quality=quality)
    yield "webp_lossless", saved(image, "WEBP", lossless=True)
    yield "webp_lossless_alpha", saved(alpha, "WEBP", lossless=True, exact=True)
    yield "webp_lossy_alpha", saved(alpha, "WEBP", quality=70, exact=True)
    yield (
        "webp_animated",
        saved(image, "WEBP", save_all=True, lossless=True, append_images=[image.rotate(180)]),
    )
    yield (
        "webp_animated_alpha",
        saved(alpha, "WEBP", save_all=True, lossless=True, exact=True, append_images=[alpha.rotate(180)]),
    )
    yield "webp_one_pixel", saved(image.crop((0, 0, 1, 1)), "WEBP", lossless=True)


# ---------------------------------------------------------------------------------------- GIF


def gif_cases():
    image = Image.fromarray(scene())
    quantised = image.quantize(50)
    yield "gif_palette", saved(quantised, "GIF")
    yield "gif_interlaced", saved(quantised, "GIF", interlace=1)
    yield "gif_grey", saved(image.convert("L"), "GIF")
    yield "gif_transparent", saved(quantised, "GIF", transparency=3)
    yield "gif_animated", saved(quantised, "GIF", save_all=True, append_images=[quantised.rotate(180)])
    pixels = np.array(quantised)
    for name, left, top, control in [
        ("inset", 4, 3, b""),
        ("inset_transparent", 4, 3, b"!\xf9\4\1\0\0\2\0"),
        ("overhanging", 9, 8, b""),
    ]:
        yield f"gif_{name}", gif(pixels[:11, :17], left, top, control, quantised.getpalette()[:150])
    yield "gif_without_palette", gif(pixels, 0, 0, b"", None)
    yield "gif_short_palette", gif(pixels, 0, 0, b"", quantised.getpalette()[:24])


def gif(indices, left, top, control, palette):
    """Returns a GIF file of uncompressed 9-bit codes, cleared before the code size grows."""
    height, width = indices.shape
    codes = []
    for number, value in enumerate(indices.flatten().tolist()):
        if number % 200 == 0:
            codes.append(256)
        codes.append(value)
    codes.append(257)
    stream, bits, count = bytearray(), 0, 0
    for code in codes:
        bits |= code << count
        count += 9
        while count >= 8:
            stream.append(bits & 255)
            bits >>= 8
            count -= 8
    stream.append(bits & 255)
    blocks = b"".join(
        bytes([len(stream[i : i + 255])]) + stream[i : i + 255] for i in range(0, len(stream), 255)
    )
    flags, table = 0, b""
    if palette:
        size = max(1, (len(palette) // 3 - 1).bit_length())
        flags, table = 0x80 | (size - 1), bytes(palette).ljust(3 << size, b"\x11")
    return (
        b"GIF89a"
        + struct.pack("<HHBBB", WIDTH, HEIGHT, flags, 0, 0)
        + table
        + control
        + b","
        + struct.pack("<HHHHB", left, top, width, height, 0)
        + b"\x08"
        + blocks
        + b"\0;"
    )


# ---------------------------------------------------------------------------------------- BMP


def bmp_cases():
    image = Image.fromarray(scene())
    yield "bmp_rgb", saved(image, "BMP")
    yield "bmp_rgba", saved(image.convert("RGBA"), "BMP")
    yield "bmp_grey", saved(image.convert("L"), "BMP")
    yield "bmp_bits", saved(image.convert("1"), "BMP")
    yield "bmp_palette", saved(image.quantize(40), "BMP")
    rng = np.random.default_rng(3)
    words = rng.integers(0, 1 << 16, (HEIGHT, WIDTH), dtype=np.uint16)
    yield "bmp_555", bmp(16, padded(words.astype("<u2")))
    yield "bmp_565", bmp(16, padded(words.astype("<u2")), masks=(0xF800, 0x7E0, 0x1F))
    yield "bmp_555_masks", bmp(16, padded(words.astype("<u2")), masks=(0x7C00, 0x3E0, 0x1F))
    doubles = rng.integers(0, 1 << 32, (HEIGHT, WIDTH), dtype=np.uint64).astype("<u4")
    yield "bmp_32", bmp(32, padded(doubles))
    yield "bmp_32_masks", bmp(32, padded(doubles), masks=(0xFF0000, 0xFF00, 0xFF))
    yield "bmp_32_rgbx_masks", bmp(32, padded(doubles), masks=(0xFF000000, 0xFF0000, 0xFF00))
    yield "bmp_top_down", bmp(32, padded(doubles), top_down=True)
    nibbles = rng.integers(0, 256, (HEIGHT, (WIDTH + 1) // 2), dtype=np.uint8)
    palette = bytes((i * 53 + c * 77) % 256 * (c < 3) for i in range(16) for c in range(4))
    yield "bmp_palette_4", bmp(4, padded(nibbles), palette=palette)
    octets = rng.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
    yield "bmp_palette_8_short", bmp(8, padded(octets % 20), palette=palette)
    runs = b"".join(bytes([WIDTH - 4, row, 0, 4, 1, 2, 3, 4, 0, 0]) for row in range(HEIGHT)) + b"\0\1"
    yield "bmp_rle8", bmp(8, runs, palette=palette + palette, compression=1)
    runs4 = b"".join(bytes([WIDTH, row * 16 + 5, 0, 0]) for row in range(16)) + bytes([WIDTH, 0x12, 0, 1])
    yield "bmp_rle4", bmp(4, runs4, palette=palette, compression=2)


def padded(rows):
    """Returns rows padded to multiples of four bytes."""
    return b"".join(row.tobytes() + b"\0" * (-len(row.tobytes()) % 4) for row in rows)


def bmp(bits, pixels, masks=None, palette=b"", compression=0, top_down=False):
    """Returns a bitmap file with the 40-byte header."""
    extra = palette + (struct.pack("<III", *masks) if masks else b"")
    compression = 3 if masks else compression
    header = struct.pack(
        "<IiiHHIIiiII",
        40,
        WIDTH,
        -HEIGHT if top_down else HEIGHT,
        1,
        bits,
        compression,
        len(pixels),
        0,
        0,
        len(palette) // 4,
        0,
    )
    offset = 14 + len(header) + len(extra)
    return b"BM" + struct.pack("<IHHI", offset + len(pixels), 0, 0, offset) + header + extra + pixels


# --------------------------------------------------------------------------------------- TIFF


def tiff_cases():
    image = Image.fromarray(scene())
    for mode in ("1", "L", "LA", "RGB", "RGBA", "CMYK"):
        yield f"tiff_{mode.lower()}", saved(image.convert(mode), "TIFF")
    yield "tiff_palette", saved(image.quantize(64), "TIFF")
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield f"tiff_rgb_{compression}", saved(image, "TIFF", compression=compression)
    yield "tiff_bits_group4", saved(image.convert("1"), "TIFF", compression="group4")
    wide = np.random.default_rng(5).integers(0, 1 << 16, (HEIGHT, WIDTH), dtype=np.uint16)
    low = wide % 400
    yield "tiff_grey_16", saved(Image.fromarray(low), "TIFF")
    deep = np.random.default_rng(6).integers(0, 1 << 16, (HEIGHT, WIDTH, 4), dtype=np.uint16)
    for order in "<>":
        name = {"<": "little", ">": "big"}[order]
        yield f"tiff_grey_16_{name}", tiff(order, low[..., None], 16, photometric=1)
        yield f"tiff_rgb_16_{name}", tiff(order, deep[..., :3], 16, photometric=2)
        yield f"tiff_rgba_16_{name}", tiff(order, deep, 16, photometric=2, extra=2)
    yield "tiff_grey_16_white_is_zero", tiff("<", low[..., None], 16, photometric=0)
    yield "tiff_cmyk_16", tiff("<", deep, 16, photometric=5)
    rgba = (deep >> 8).astype(np.uint8)
    yield "tiff_grey_white_is_zero", tiff("<", rgba[..., :1], 8, photometric=0)
    yield "tiff_rgba_premultiplied", tiff("<", rgba, 8, photometric=2, extra=1)
    yield "tiff_rgbx", tiff("<", rgba, 8, photometric=2, extra=0)
    pages = [image, Image.fromarray(255 - scene())]
    yield "tiff_two_pages", saved(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        yield f"tiff_orientation_{orientation}", saved(image, "TIFF", exif=exif)
    yield "tiff_palette_big_endian", tiff(">", (rgba[..., :1] & 15), 8, photometric=3, palette=256)


def tiff(order, samples, depth, photometric, extra=None, palette=0):
    """Returns a TIFF file with one strip. `samples` has the shape [height, width, channels]."""
    height, width, channels = samples.shape
    pixels = samples.astype(f"{order}u{depth // 8}").tobytes()
    entries = [
        (256, 4, [width]),
        (257, 4, [height]),
        (258, 3, [depth] * channels),
        (259, 3, [1]),
        (262, 3, [photometric]),
        (273, 4, [0]),
        (277, 3, [channels]),
        (278, 4, [height]),
        (279, 4, [len(pixels)]),
    ]
    if extra is not None:
        entries.append((338, 3, [extra]))
    if palette:
        entries.append((320, 3, [(i * 7919 + c * 104729) % 65536 for c in range(3) for i in range(palette)]))
    directory_end = 8 + 2 + 12 * len(entries) + 4
    tail, body = b"", b""
    for tag, kind, values in entries:
        data = struct.pack(f"{order}{len(values)}{'HI'[kind - 3]}", *values)
        if len(data) > 4:
            data, tail = struct.pack(f"{order}I", directory_end + len(tail)), tail + data
        body += struct.pack(f"{order}HHI", tag, kind, len(values)) + data.ljust(4, b"\0")
        if tag == 273:
            strip = len(body) - 4
    body = body[:strip] + struct.pack(f"{order}I", directory_end + len(tail)) + body[strip + 4 :]
    if len(tail) % 2:
        raise ValueError("odd offset")
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 8)
    # The offset of the strip is known only after the tail is complete.
    offset = struct.pack(f"{order}I", directory_end + len(tail))
    body = body[:strip] + offset + body[strip + 4 :]
    return head + struct.pack(f"{order}H", len(entries)) + body + struct.pack(f"{order}I", 0) + tail + pixels


# ------------------------------------------------------------------------------------- resizing


def pattern(width, height, seed):
    """Returns xorshift noise over gradients. The Rust tests generate the same image."""
    state = seed * 2654435761 % (1 << 32) or 1
    out = bytearray()
    for y in range(height):
        for x in range(width):
            state ^= state << 13 & 0xFFFFFFFF
            state ^= state >> 17
            state ^= state << 5 & 0xFFFFFFFF
            block = 255 * ((x // 7 + y // 5) % 2)
            out += bytes(
                [(x * 3 + (state & 31)) % 256, (y * 5 + (state >> 8 & 31)) % 256, block ^ (state >> 16 & 63)]
            )
    return Image.frombytes("RGB", (width, height), bytes(out))


def resize_cases():
    sizes = [
        (640, 480, 384, 384),
        (480, 640, 384, 384),
        (384, 384, 384, 384),
        (500, 375, 384, 384),
        (375, 500, 384, 384),
        (64, 64, 384, 384),
        (100, 900, 384, 384),
        (900, 100, 384, 384),
        (1, 1, 384, 384),
        (1, 300, 384, 384),
        (300, 1, 384, 384),
        (2, 3, 8, 8),
        (8, 8, 8, 8),
        (9, 8, 8, 8),
        (8, 9, 8, 8),
        (7, 5, 8, 8),
        (31, 17, 8, 8),
        (17, 31, 8, 8),
        (33, 33, 8, 4),
        (5, 40, 4, 8),
        (384, 500, 384, 384),
        (500, 384, 384, 384),
        (383, 385, 384, 384),
        (64, 64, 32, 32),
        (65, 63, 32, 32),
        (1200, 40, 48, 48),
    ]
    for seed, (in_width, in_height, out_width, out_height) in enumerate(sizes, start=1):
        image = pattern(in_width, in_height, seed)
        for filter_ in Image.Resampling:
            pixels = image.resize((out_width, out_height), filter_).tobytes()
            case = {
                "seed": seed,
                "from": [in_width, in_height],
                "to": [out_width, out_height],
                "filter": filter_.name.lower(),
                "filter_number": filter_.value,
                "input_sha256": hashlib.sha256(image.tobytes()).hexdigest(),
                "sha256": hashlib.sha256(pixels).hexdigest(),
            }
            if len(pixels) <= 200:
                case["pixels"] = pixels.hex()
            yield case


def write_json(path, cases):
    lines = ",\n".join(json.dumps(case) for case in cases)
    path.write_text(f'{{"pillow": "{PIL.__version__}", "cases": [\n{lines}\n]}}\n')


def main():
    if int(PIL.__version__.split(".")[0]) > 12:
        raise SystemExit(f"unsupported Pillow version: {PIL.__version__}, 12.3.0 required")
    DECODE.mkdir(parents=True, exist_ok=True)
    RESIZE.mkdir(parents=True, exist_ok=True)
    decoded = []
    for cases in (png_cases, jpeg_cases, webp_cases, gif_cases, bmp_cases, tiff_cases):
        for name, data in cases():
            file = f"{name}.{name.split('_')[0]}"
            (DECODE / file).write_bytes(data)
            case = {"file": file}
            try:
                image = Image.open(io.BytesIO(data))
                rgb = image.convert("RGB")
                case |= {
                    "mode": image.mode,
                    "width": rgb.width,
                    "height": rgb.height,
                    "rgb": rgb.tobytes().hex(),
                }
            except Exception as error:  # the exception depends on the format
                case["refused"] = f"{type(error).__name__}: {error}"
            decoded.append(case)
    write_json(DECODE / "cases.json", decoded)
    write_json(RESIZE / "resize.json", resize_cases())
    print(f"{len(decoded)} files decoded by pillow {PIL.__version__}")


if __name__ == "__main__":
    main()
