"""Generates WebP files: lossy, lossless, alpha, animations and what surrounds the image."""

import struct

from PIL import Image
from scenes import HEIGHT, SIZES, WIDTH, scene_image, saved


def chunk(name, data):
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def container(*chunks):
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def u24(value):
    return struct.pack("<I", value)[:3]


def header(flags, width=WIDTH, height=HEIGHT):
    return chunk(b"VP8X", bytes([flags, 0, 0, 0]) + u24(width - 1) + u24(height - 1))


def chunks_of(file):
    """Returns the chunks of a file: a list of name and data."""
    at, out = 12, []
    while at + 8 <= len(file):
        size = struct.unpack_from("<I", file, at + 4)[0]
        out.append((file[at : at + 4], file[at + 8 : at + 8 + size]))
        at += 8 + size + size % 2
    return out


def files():
    for quality in (0, 10, 50, 80, 100):
        for method in (0, 3, 6):
            yield f"webp_lossy_q{quality}_m{method}", saved(scene_image(), "WEBP", quality=quality, method=method)
    for quality in (0, 50, 100):
        for method in (0, 4, 6):
            file = saved(scene_image(), "WEBP", lossless=True, quality=quality, method=method)
            yield f"webp_lossless_q{quality}_m{method}", file
    rgba = scene_image(mode="RGBA")
    for exact in (False, True):
        suffix = "_exact" if exact else ""
        yield f"webp_lossless_alpha{suffix}", saved(rgba, "WEBP", lossless=True, exact=exact)
        for alpha_quality in (0, 50, 100):
            file = saved(rgba, "WEBP", quality=70, alpha_quality=alpha_quality, exact=exact)
            yield f"webp_lossy_alpha_{alpha_quality}{suffix}", file
    for width, height in SIZES:
        for lossless in (False, True):
            name = "lossless" if lossless else "lossy"
            yield f"webp_{name}_{width}x{height}", saved(scene_image(width, height), "WEBP", lossless=lossless)
    for colours in (1, 2, 3, 4, 5, 16, 17, 200):
        image = scene_image().quantize(colours).convert("RGB")
        yield f"webp_lossless_{colours}_colours", saved(image, "WEBP", lossless=True)
    for mode in ("1", "L", "P", "CMYK"):
        yield f"webp_of_{mode.lower()}", saved(scene_image(mode=mode).convert("RGB"), "WEBP", lossless=True)
    yield "webp_large_lossless", saved(scene_image(400, 300), "WEBP", lossless=True, quality=100, method=6)
    yield from animations()
    yield from surroundings()


def animations():
    for mode in ("RGB", "RGBA"):
        for lossless in (False, True):
            first = scene_image(mode=mode)
            for background in ((0, 0, 0, 0), (255, 10, 20, 255)):
                file = saved(
                    first,
                    "WEBP",
                    save_all=True,
                    append_images=[first.rotate(180)],
                    lossless=lossless,
                    exact=True,
                    background=background,
                )
                kind = "lossless" if lossless else "lossy"
                yield f"webp_animated_{mode.lower()}_{kind}_{background[3]}", file
    for x, y in ((0, 0), (4, 6), (20, 12)):
        for flags in range(4):
            for mode in ("RGB", "RGBA"):
                small = chunks_of(saved(scene_image(16, 16, mode), "WEBP", lossless=True, exact=True))
                data = dict(small)[b"VP8L"]
                place = u24(x // 2) + u24(y // 2) + u24(15) + u24(15) + u24(100) + bytes([flags])
                frame = chunk(b"ANMF", place + chunk(b"VP8L", data))
                anim = chunk(b"ANIM", b"\x10\x20\x30\xff\0\0")
                file = container(header(0x12 if mode == "RGBA" else 2), anim, frame, frame)
                yield f"webp_frame_at_{x}_{y}_{flags}_{mode.lower()}", file


def surroundings():
    lossy = dict(chunks_of(saved(scene_image(), "WEBP", quality=80)))[b"VP8 "]
    lossless = dict(chunks_of(saved(scene_image(), "WEBP", lossless=True)))[b"VP8L"]
    alpha = dict(chunks_of(saved(scene_image(mode="RGBA"), "WEBP", quality=80)))
    exif = Image.Exif()
    exif[0x0112] = 6
    yield "webp_exif_orientation", saved(scene_image(), "WEBP", exif=exif)
    yield "webp_icc", saved(scene_image(), "WEBP", icc_profile=bytes(301))
    yield "webp_xmp", saved(scene_image(), "WEBP", xmp=b"<x/>")
    for flags in (0, 0x04, 0x08, 0x10, 0x20, 0x3C):
        yield f"webp_flags_{flags:02x}_without_chunks", container(header(flags), chunk(b"VP8 ", lossy))
        yield f"webp_flags_{flags:02x}_lossless", container(header(flags), chunk(b"VP8L", lossless))
    yield "webp_alpha_without_flag", container(header(0), chunk(b"ALPH", alpha[b"ALPH"]), chunk(b"VP8 ", alpha[b"VP8 "]))
    yield "webp_unknown_chunks", container(header(0), chunk(b"what", b"abc"), chunk(b"VP8 ", lossy), chunk(b"more", b"x"))
    yield "webp_canvas_larger", container(header(0, 60, 50), chunk(b"VP8 ", lossy))
    yield "webp_trailing_bytes", container(chunk(b"VP8 ", lossy)) + b"trailing"
    yield "webp_cut", container(chunk(b"VP8 ", lossy))[:-30]
    yield "webp_lossless_cut", container(chunk(b"VP8L", lossless))[:-30]
