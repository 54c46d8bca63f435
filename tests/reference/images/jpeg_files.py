"""Generates JPEG files: sampling, quality, progression, colour spaces and markers."""

from PIL import Image
from scenes import SIZES, scene_image, saved

SAMPLINGS = [("444", 0), ("422", 1), ("420", 2)]


def marker(kind, data):
    return bytes([0xFF, kind]) + (len(data) + 2).to_bytes(2, "big") + data


def with_segment(file, segment):
    """Returns the file with a segment behind its start marker."""
    return file[:2] + segment + file[2:]


def without_segments(file, kinds):
    """Returns the file without segments of these kinds before its first scan."""
    out, at = file[:2], 2
    while file[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(file[at + 2 : at + 4], "big")
        if file[at + 1] not in kinds:
            out += file[at:end]
        at = end
    return out + file[at:]


def files():
    for name, sampling in SAMPLINGS:
        for quality in (1, 30, 75, 95, 100):
            for progressive in (False, True):
                suffix = "_progressive" if progressive else ""
                file = saved(scene_image(), "JPEG", quality=quality, subsampling=sampling, progressive=progressive)
                yield f"jpeg_{name}_q{quality}{suffix}", file
        for width, height in SIZES:
            file = saved(scene_image(width, height), "JPEG", subsampling=sampling, progressive=width > 8)
            yield f"jpeg_{name}_{width}x{height}", file
        for blocks in (1, 2, 7):
            file = saved(scene_image(), "JPEG", subsampling=sampling, restart_marker_blocks=blocks)
            yield f"jpeg_{name}_restart_{blocks}", file
        file = saved(scene_image(), "JPEG", subsampling=sampling, restart_marker_rows=1, progressive=True)
        yield f"jpeg_{name}_restart_progressive", file
    for mode in ("1", "L", "CMYK"):
        for progressive in (False, True):
            suffix = "_progressive" if progressive else ""
            file = saved(scene_image(mode=mode), "JPEG", quality=85, progressive=progressive)
            yield f"jpeg_{mode.lower()}{suffix}", file
        for width, height in SIZES[:4]:
            yield f"jpeg_{mode.lower()}_{width}x{height}", saved(scene_image(width, height, mode), "JPEG")
    yield from markers()


def markers():
    rgb = saved(scene_image(), "JPEG", quality=85)
    cmyk = saved(scene_image(mode="CMYK"), "JPEG", quality=85)
    yield "jpeg_stored_rgb", saved(scene_image(), "JPEG", quality=85, keep_rgb=True)  # check_prose: allow
    yield "jpeg_optimized", saved(scene_image(), "JPEG", optimize=True)
    yield "jpeg_without_jfif", without_segments(rgb, [0xE0])
    for transform in range(3):
        adobe = marker(0xEE, b"Adobe\0d\0\0\0\0" + bytes([transform]))
        yield f"jpeg_rgb_adobe_{transform}", with_segment(without_segments(rgb, [0xE0]), adobe)
        yield f"jpeg_rgb_jfif_adobe_{transform}", with_segment(rgb, adobe)
        yield f"jpeg_cmyk_adobe_{transform}", with_segment(without_segments(cmyk, [0xEE]), adobe)
    yield "jpeg_cmyk_without_adobe", without_segments(cmyk, [0xEE])
    exif = Image.Exif()
    exif[0x0112] = 6
    yield "jpeg_exif_orientation", saved(scene_image(), "JPEG", exif=exif)
    yield "jpeg_comment", saved(scene_image(), "JPEG", comment=b"comment")
    yield "jpeg_icc", saved(scene_image(), "JPEG", icc_profile=bytes(70_000))
    thumbnail = saved(scene_image(8, 8), "JPEG")
    yield "jpeg_thumbnail", with_segment(rgb, marker(0xE1, b"Exif\0\0" + thumbnail))
    yield "jpeg_fill_bytes", rgb.replace(b"\xff\xda", b"\xff\xff\xff\xff\xda", 1)
    yield "jpeg_trailing_bytes", rgb + b"trailing"
    yield "jpeg_two_images", rgb + saved(scene_image(), "JPEG", progressive=True) * 8
    yield "jpeg_end_missing", rgb[:-2]
    yield "jpeg_cut", rgb[: len(rgb) * 2 // 3]
    damaged = bytearray(rgb)
    damaged[len(rgb) * 3 // 4] ^= 0x55
    yield "jpeg_damaged_scan", bytes(damaged)
    multi = saved(scene_image(), "MPO", save_all=True, append_images=[scene_image().rotate(180)])
    yield "jpeg_mpo", multi
