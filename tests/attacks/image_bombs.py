"""Image files that cost far more to decode than they weigh.

Each function returns the bytes of one file. A `mark` changes the bytes, so that no cache knows the
file, and leaves the pixels as they are.
"""

import struct
import zlib


def jpeg_segment(marker, body):
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def jpeg_frame(marker, side, components):
    """Returns a frame header of a square image whose components all use quantization table 0."""
    listed = b"".join(bytes([number + 1, 0x11, 0]) for number in range(components))
    return jpeg_segment(marker, struct.pack(">BHHB", 8, side, side, components) + listed)


def jpeg_scan(component, first=1, last=63):
    return jpeg_segment(0xDA, bytes([1, component, 0, first, last, 0]))


QUANTIZATION = jpeg_segment(0xDB, bytes(1) + b"\1" * 64)
# A table with the single code 0: "end of band" for at least 2^14 blocks, with 14 more bits.
END_OF_BAND = jpeg_segment(0xC4, b"\x10\1" + bytes(15) + b"\xe0")


def empty_band(side):
    """Returns the data of a scan that has no coefficient at all."""
    blocks = (side // 8) ** 2
    runs = -(-blocks // (1 << 14))
    bits = "".join("0" + "0" * 14 for _ in range(runs))
    return int(bits.ljust(-(-len(bits) // 8) * 8, "1"), 2).to_bytes(-(-len(bits) // 8), "big")


def progressive_jpeg(side, components=3, scans=1, mark=b""):
    """A progressive JPEG of one color with this many empty scans."""
    frame = jpeg_frame(0xC2, side, components)
    data = empty_band(side)
    body = b"".join(jpeg_scan(number % components + 1) + data for number in range(scans))
    comment = jpeg_segment(0xFE, mark) if mark else b""
    return b"\xff\xd8" + comment + QUANTIZATION + frame + END_OF_BAND + body + b"\xff\xd9"


def hidden_scans_jpeg(side, scans, mark=b""):
    """A progressive JPEG whose scans lie inside a segment of a reserved marker.

    A reader that trusts the segment's length skips them. libjpeg is looking for a restart marker at
    that point. It does not trust the length and decodes every scan.
    """
    restart_interval = jpeg_segment(0xDD, b"\0\1")
    comment = jpeg_segment(0xFE, mark) if mark else b""
    file = b"\xff\xd8" + comment + QUANTIZATION + jpeg_frame(0xC2, side, 1) + END_OF_BAND + restart_interval
    scan = jpeg_scan(1)
    file += scan + bytes(4)
    per_segment = 65_000 // len(scan)
    while scans > 0:
        count = min(scans, per_segment)
        scans -= count
        file += (b"\xff\x02\xff\xff\xd0" + scan * count).ljust(65_537, b"\0")
    return file + b"\xff\xd9"


def tiff_of_one_chunk(width, height, rows_per_strip, chunk, compression, mark=b""):
    """A gray TIFF all of whose strips are the same bytes."""
    count = -(-height // rows_per_strip)
    data = mark.ljust(16, b"\0")[:16] + chunk + bytes(len(chunk) % 2)
    offset, arrays_at = 8 + 16, 8 + len(data)
    offsets, lengths = [offset] * count, [len(chunk)] * count
    arrays = struct.pack(f"<{2 * count}I", *offsets, *lengths)
    inline = count == 1
    entries = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 8),
        (259, 3, 1, compression),
        (262, 3, 1, 1),
        (273, 4, count, offset if inline else arrays_at),
        (277, 3, 1, 1),
        (278, 4, 1, rows_per_strip),
        (279, 4, count, len(chunk) if inline else arrays_at + 4 * count),
    ]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", arrays_at + len(arrays)) + data + arrays + directory


def tiff_with_large_strips(strips, side=16_384, components=3, mark=b""):
    """A narrow TIFF. Each of its strips is a JPEG that declares `side` x `side` pixels."""
    inner = progressive_jpeg(side, components)
    rows = 1 if strips > 1 else 16
    return tiff_of_one_chunk(16, max(strips, 16), rows, inner, compression=7, mark=mark)


class BitWriter:
    """Writes bits, the least significant first."""

    def __init__(self):
        self.bits = []

    def number(self, value, count):
        self.bits += [value >> place & 1 for place in range(count)]

    def code(self, text):
        self.bits += [int(bit) for bit in text]

    def single_symbol(self, symbol):
        """Writes a prefix code with one symbol, which takes no bits."""
        self.code("10")
        wide = symbol > 1
        self.number(wide, 1)
        self.number(symbol, 8 if wide else 1)

    def code_lengths(self, lengths):
        """Writes the lengths (1 to 15) of the symbols of a prefix code, one by one."""
        self.code("0")
        # The code of the lengths: 16 symbols of four bits, in the order of the format.
        order = [17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]
        self.number(len(order) - 4, 4)
        for symbol in order:
            self.number(0 if symbol > 15 else 4, 3)
        self.code("1")
        width = max(2, (len(lengths) - 2).bit_length() + 1 & ~1)
        self.number((width - 2) // 2, 3)
        self.number(len(lengths) - 2, width)
        for length in lengths:
            self.code(format(length, "04b"))

    def bytes(self):
        padded = self.bits + [0] * (-len(self.bits) % 8)
        text = "".join(map(str, padded))[::-1]
        return int(text, 2).to_bytes(len(padded) // 8, "little")


def webp(payload):
    chunk = b"VP8L" + struct.pack("<I", len(payload)) + payload + bytes(len(payload) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def webp_header(width, height):
    writer = BitWriter()
    writer.number(0x2F, 8)
    writer.number(width - 1, 14)
    writer.number(height - 1, 14)
    writer.number(0, 4)  # no alpha, version 0
    return writer


def flat_webp(side, color=200):
    """A lossless WebP of one color, a few dozen bytes for any size."""
    writer = webp_header(side, side)
    writer.number(0, 3)  # no transform, no color cache, one group of codes
    for symbol in (color, 1, 2, 255, 0):
        writer.single_symbol(symbol)
    writer.number(0, 64)
    return webp(writer.bytes())


def webp_with_many_codes(groups, mark=0):
    """A 4 x 4 lossless WebP with `groups` groups of prefix codes, of which one is used.

    `groups` is a multiple of 8.
    """
    writer = webp_header(4, 4)
    writer.number(0, 1)  # no transform
    writer.number(1, 1)
    writer.number(11, 4)  # a color cache of 2^11 colors
    writer.number(1, 1)
    writer.number(0, 3)  # groups by blocks of 4 x 4
    writer.number(0, 1)  # the image of group numbers has no color cache
    last = groups - 1
    for symbol in (last & 255, last >> 8, 0, 0, 0):
        writer.single_symbol(symbol)
    group = BitWriter()
    group.code_lengths([11] * 2048)
    for _ in range(4):
        group.code_lengths([*range(1, 11), 10])
    # Eight groups fill whole bytes, so after the header the bytes repeat.
    header_bytes, period = -(-len(writer.bits) // 8), len(group.bits)
    writer.bits += group.bits * 16
    start = writer.bytes()
    repeated = start[header_bytes : header_bytes + period] * (groups // 8)
    return webp(start[:header_bytes] + repeated + mark.to_bytes(8, "little") + bytes(64))


def flat_png(side, mark=b""):
    """A PNG of one gray value."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(bytes(side * (side + 1)), 9)
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    text = chunk(b"tEXt", b"mark\0" + mark)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + text + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
