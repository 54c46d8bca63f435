"""Generates TIFF files: modes, depths, compressions, layouts and byte orders."""

import io

import numpy as np
from PIL import Image
from scenes import HEIGHT, SIZES, WIDTH, scene_image, random_samples, saved, scene
from tiff_writer import COMPRESSORS, DEFLATE, LONG, LZW, NONE, PACKBITS, SHORT, tiff

NAMES = {NONE: "none", LZW: "lzw", DEFLATE: "deflate", PACKBITS: "packbits"}
JPEG = 7
# Name: photometric interpretation, channels, bits, extra samples.
MODES = {
    "white_1": (0, 1, 1, ()),
    "black_1": (1, 1, 1, ()),
    "white_2": (0, 1, 2, ()),
    "black_2": (1, 1, 2, ()),
    "white_4": (0, 1, 4, ()),
    "black_4": (1, 1, 4, ()),
    "white_8": (0, 1, 8, ()),
    "black_8": (1, 1, 8, ()),
    "black_12": (1, 1, 12, ()),
    "white_16": (0, 1, 16, ()),
    "black_16": (1, 1, 16, ()),
    "black_32": (1, 1, 32, ()),
    "grey_alpha": (1, 2, 8, (2,)),
    "rgb": (2, 3, 8, ()),
    "rgb_16": (2, 3, 16, ()),
    "rgbx": (2, 4, 8, (0,)),
    "rgba_premultiplied": (2, 4, 8, (1,)),
    "rgba": (2, 4, 8, (2,)),
    "rgba_without_tag": (2, 4, 8, ()),
    "rgbxx": (2, 5, 8, (0, 0)),
    "rgbax": (2, 5, 8, (2, 0)),
    "rgba_16": (2, 4, 16, (2,)),
    "rgbx_16": (2, 4, 16, (0,)),
    "rgba_16_premultiplied": (2, 4, 16, (1,)),
    "palette_1": (3, 1, 1, ()),
    "palette_2": (3, 1, 2, ()),
    "palette_4": (3, 1, 4, ()),
    "palette_8": (3, 1, 8, ()),
    "palette_alpha": (3, 2, 8, (2,)),
    "palette_extra": (3, 2, 8, (0,)),
    "cmyk": (5, 4, 8, ()),
    "cmykx": (5, 5, 8, (0,)),
    "cmyk_16": (5, 4, 16, ()),
    "luma_alone": (6, 1, 8, ()),
}


def of_mode(name, width=WIDTH, height=HEIGHT, **options):
    photometric, channels, bits, extra = MODES[name]
    samples = random_samples(height, width, channels, bits)
    if bits >= 16 and channels == 1:
        samples %= 400  # Most levels above 255 are white.
    return tiff(samples, bits, photometric, extra=extra, **options)


def files():
    for name, (_, channels, bits, _) in MODES.items():
        for order in "<>":
            suffix = "little" if order == "<" else "big"
            yield f"tiff_{name}_{suffix}", of_mode(name, order=order)
            yield f"tiff_{name}_{suffix}_deflate", of_mode(name, order=order, compression=DEFLATE, rows=8)
        yield f"tiff_{name}_tiled", of_mode(name, tile=(16, 16), compression=LZW)
        yield f"tiff_{name}_bigtiff", of_mode(name, big=True, rows=5)
        if bits <= 8:
            yield f"tiff_{name}_reversed", of_mode(name, fill_order=2)
            yield f"tiff_{name}_reversed_lzw", of_mode(name, fill_order=2, compression=LZW)
        if channels > 1:
            yield f"tiff_{name}_planar", of_mode(name, planar=True, rows=10)
            yield f"tiff_{name}_planar_deflate", of_mode(name, planar=True, compression=DEFLATE, tile=(16, 32))
        if bits in (8, 16):
            for compression in (LZW, DEFLATE):
                file = of_mode(name, compression=compression, predictor=2, order=">" if bits == 16 else "<")
                yield f"tiff_{name}_predictor_{NAMES[compression]}", file
    yield from layouts()
    yield from numbers()
    yield from fax()
    yield from jpeg()
    yield from surroundings()


def layouts():
    for compression in COMPRESSORS:
        for rows in (1, 7, None):
            yield f"tiff_rgb_{NAMES[compression]}_rows_{rows}".lower(), of_mode("rgb", compression=compression, rows=rows)
        for tile in ((16, 16), (64, 32), (32, 16)):
            name = f"tiff_rgb_{NAMES[compression]}_tile_{tile[0]}x{tile[1]}"
            yield name, of_mode("rgb", compression=compression, tile=tile)
        for width, height in SIZES[:6]:
            name = f"tiff_rgb_{NAMES[compression]}_{width}x{height}"
            yield name, of_mode("rgb", width, height, compression=compression)
    for big in (False, True):
        for order in "<>":
            name = f"tiff_{'big' if big else 'classic'}_{'little' if order == '<' else 'big'}_endian"
            yield f"{name}_tiled", of_mode("rgb_16", big=big, order=order, tile=(16, 16), compression=DEFLATE)
            yield f"{name}_palette", of_mode("palette_8", big=big, order=order)
    for tag, name in ((278, "rows_per_strip"), (279, "byte_counts"), (262, "photometric"), (277, "samples")):
        yield f"tiff_grey_without_{name}", of_mode("black_8", without=[tag])
    yield "tiff_bits_without_bits", of_mode("black_1", without=[258])
    yield "tiff_rgb_one_bits_value", of_mode("rgb", tags={258: (SHORT, [8])}.items())


def numbers():
    signed = random_samples(HEIGHT, WIDTH, 1, 16).astype(np.int64) % 600 - 200
    real = signed.astype(np.float32) / 2 + 0.7
    for order in "<>":
        suffix = "little" if order == "<" else "big"
        for bits in (8, 16, 32):
            values = np.clip(signed, -128, 127) if bits == 8 else signed
            yield f"tiff_signed_{bits}_{suffix}", tiff(values, bits, 1, order=order, sample_format=2)
        yield f"tiff_float_{suffix}", tiff(real, 32, 1, order=order, sample_format=3)
        file = tiff(real, 32, 1, order=order, sample_format=3, compression=DEFLATE, predictor=3)
        yield f"tiff_float_predictor_{suffix}", file
        yield f"tiff_float_white_{suffix}", tiff(real, 32, 0, order=order, sample_format=3)
    yield "tiff_double", tiff(random_samples(HEIGHT, WIDTH * 2, 1, 32), 32, 1, tags={256: (LONG, [WIDTH]), 258: (SHORT, [64]), 339: (SHORT, [3])}.items())
    yield "tiff_void_format", tiff(random_samples(HEIGHT, WIDTH, 1, 8), 8, 1, sample_format=4)
    yield "tiff_lab", tiff(random_samples(HEIGHT, WIDTH, 3, 8), 8, 8)
    yield "tiff_ycbcr_uncompressed", tiff(random_samples(HEIGHT, WIDTH, 3, 8), 8, 6)
    yield "tiff_rgb_565", tiff(random_samples(HEIGHT, WIDTH, 3, 4), 4, 2)


def fax():
    for width, height in [(WIDTH, HEIGHT), (64, 30), (200, 50), *SIZES[:6]]:
        # Areas, lines and single pixels.
        y, x = np.mgrid[0:height, 0:width]
        bits = ((x // 9 + y // 7) % 2 == 0) ^ ((x * 5 + y * 3) % 23 == 0)
        image = Image.fromarray(bits)
        for name in ("group3", "group4", "tiff_ccitt"):
            for order in (1, 2):
                suffix = "" if order == 1 else "_reversed"
                file = saved(image, "TIFF", compression=name, tiffinfo={266: order})
                yield f"tiff_fax_{name.removeprefix('tiff_')}_{width}x{height}{suffix}", file
        for options in (1, 4, 5):
            file = saved(image, "TIFF", compression="group3", tiffinfo={292: options})
            yield f"tiff_fax_group3_options_{options}_{width}x{height}", file
        file = saved(image, "TIFF", compression="group4", tiffinfo={278: 4, 262: 0})
        yield f"tiff_fax_group4_white_rows_{width}x{height}", file


def jpeg_cells(tile, mode="RGB", **options):
    """Returns the JPEG of each tile, or of each strip of 16 rows."""
    width, height = tile or (WIDTH, 16)
    image = scene_image(mode=mode)
    cells = []
    for y in range(0, HEIGHT, height):
        for x in range(0, WIDTH, width):
            bottom = y + height if tile else min(y + height, HEIGHT)
            cells.append(saved(image.crop((x, y, x + width, bottom)), "JPEG", **options))
    return cells


def jpeg():
    for mode, photometric, channels in (("L", 1, 1), ("RGB", 2, 3), ("CMYK", 5, 4)):
        yield f"tiff_jpeg_pillow_{mode.lower()}", saved(scene_image(mode=mode), "TIFF", compression="jpeg")
        for tile in (None, (16, 16), (32, 48)):
            name = f"tiff_jpeg_{mode.lower()}_{'strips' if tile is None else f'tile_{tile[0]}x{tile[1]}'}"
            samples = scene(channels=channels)
            options = {"keep_rgb": True} if mode == "RGB" else {}  # check_prose: allow
            cells = jpeg_cells(tile, mode, quality=85, **options)
            file = tiff(samples, 8, photometric, compression=JPEG, tile=tile, rows=None if tile else 16, cells=cells)
            yield name, file
    for sampling, factors in ((0, [1, 1]), (1, [2, 1]), (2, [2, 2])):
        for tile in (None, (16, 16), (48, 32)):
            cells = jpeg_cells(tile, quality=85, subsampling=sampling)
            tags = {530: (SHORT, factors)}.items()
            rows = None if tile else 16
            file = tiff(scene(), 8, 6, compression=JPEG, tile=tile, rows=rows, cells=cells, tags=tags)
            place = "strips" if tile is None else f"tile_{tile[0]}x{tile[1]}"
            yield f"tiff_jpeg_ycbcr_{sampling}_{place}", file
    image = scene_image().convert("YCbCr")
    yield "tiff_jpeg_pillow_ycbcr", saved(image, "TIFF", compression="jpeg", tiffinfo={530: (1, 1)})
    cells = jpeg_cells(None, quality=85, progressive=True)
    yield "tiff_jpeg_progressive", tiff(scene(), 8, 6, compression=JPEG, rows=16, cells=cells, tags={530: (SHORT, [2, 2])}.items())
    large = [saved(scene_image(64, 64), "JPEG")]
    yield "tiff_jpeg_larger_than_strip", tiff(scene(), 8, 6, compression=JPEG, cells=large, tags={530: (SHORT, [2, 2])}.items())
    small = [saved(scene_image(8, 8), "JPEG")]
    yield "tiff_jpeg_smaller_than_strip", tiff(scene(), 8, 6, compression=JPEG, cells=small, tags={530: (SHORT, [2, 2])}.items())
    full = jpeg_cells((WIDTH, 16), quality=85)
    yield "tiff_jpeg_last_strip_full", tiff(scene(), 8, 6, compression=JPEG, rows=16, cells=full, tags={530: (SHORT, [2, 2])}.items())


def surroundings():
    for orientation in range(1, 9):
        tags = {274: (SHORT, [orientation])}.items()
        yield f"tiff_orientation_{orientation}", of_mode("rgb", tags=tags)
        yield f"tiff_orientation_{orientation}_deflate", of_mode("rgb", tags=tags, compression=DEFLATE)
    for mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "I", "F", "I;16"):
        for compression in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits"):
            image = scene_image(mode="L" if mode in ("I;16", "PA") else mode)
            if mode == "I;16":
                image = Image.fromarray(np.asarray(image).astype(np.uint16) * 2)
            if mode == "PA":
                image = scene_image(mode="P").convert("PA")
            file = saved(image, "TIFF", compression=compression)
            yield f"tiff_pillow_{mode.lower().replace(';', '_')}_{compression or 'none'}", file
    for compression in ("zstd", "lzma", "webp"):
        try:
            yield f"tiff_{compression}", saved(scene_image(), "TIFF", compression=compression)
        except (OSError, RuntimeError, KeyError):
            continue  # This build of libtiff cannot write it.
    frames = [scene_image(), scene_image().rotate(180)]
    yield "tiff_pages", saved(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    yield "tiff_bigtiff_pillow", saved(scene_image(), "TIFF", big_tiff=True)
    yield "tiff_cut", of_mode("rgb")[:-200]
    yield "tiff_deflate_cut", of_mode("rgb", compression=DEFLATE)[:-200]
    yield "tiff_trailing_bytes", of_mode("rgb") + b"trailing"
