"""Writes TIFF and BigTIFF files with strips or tiles in every layout and byte order."""

import struct
import zlib

import numpy as np
from scenes import packed

SHORT, LONG, LONG8 = 3, 4, 16
NONE, LZW, DEFLATE, PACKBITS = 1, 5, 8, 32773


def lzw(data):
    """Returns the code stream without compression: cleared before the code size grows."""
    bits = []
    for number, value in enumerate(data):
        if number % 250 == 0:
            bits.append(256)
        bits.append(value)
    text = "".join(format(code, "09b") for code in [*bits, 257])
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


def packbits(data):
    """Returns runs for equal bytes and literals for others."""
    out, at = bytearray(), 0
    while at < len(data):
        run = 1
        while run < 128 and at + run < len(data) and data[at + run] == data[at]:
            run += 1
        if run > 1:
            out += bytes([257 - run, data[at]])
        else:
            out += bytes([0, data[at]])
        at += run
    return bytes(out)


COMPRESSORS = {NONE: bytes, LZW: lzw, DEFLATE: zlib.compress, PACKBITS: packbits}
REVERSED = bytes(int(format(value, "08b")[::-1], 2) for value in range(256))


def sample_bytes(samples, bits, order):
    """Returns the bytes of rows of samples: [height, width, channels]."""
    if samples.dtype.kind == "f":
        return samples.astype(f"{order}f4").tobytes()
    if bits in (8, 16, 32):
        kind = "i" if samples.min() < 0 else "u"
        return samples.astype(f"{order}{kind}{bits // 8}").tobytes()
    return b"".join(packed(samples, bits))


def differences(samples, predictor):
    """Returns samples as differences to the left neighbour."""
    if predictor != 2:
        return samples
    out = samples.copy()
    out[:, 1:] -= samples[:, :-1]
    return out


def floats_by_bytes(samples, order):
    """Returns rows of floats, all highest bytes first, as differences: predictor 3."""
    rows = []
    for row in samples:
        data = np.frombuffer(row.astype(">f4").tobytes(), np.uint8).reshape(-1, 4).T.flatten()
        channels = samples.shape[2]
        out = data.copy()
        out[channels:] -= data[:-channels]
        rows.append(out.tobytes())
    return b"".join(rows)


def tiff(
    samples,
    bits,
    photometric,
    order="<",
    compression=NONE,
    big=False,
    tile=None,
    rows=None,
    planar=False,
    predictor=1,
    fill_order=1,
    extra=(),
    sample_format=None,
    cells=None,
    tags=(),
    without=(),
):
    """Returns a TIFF file. `cells` replaces the bytes of strips or tiles."""
    height, width, channels = samples.shape
    cell_width, cell_height = tile or (width, rows or height)
    planes = [samples[..., c : c + 1] for c in range(channels)] if planar else [samples]
    data = list(cells or [])
    if not data:
        for plane in planes:
            for y in range(0, height, cell_height):
                for x in range(0, width, cell_width):
                    cell = plane[y : y + cell_height, x : x + cell_width]
                    if tile:
                        missing = ((0, cell_height - cell.shape[0]), (0, cell_width - cell.shape[1]), (0, 0))
                        cell = np.pad(cell, missing, mode="edge")
                    if predictor == 3:
                        raw = floats_by_bytes(cell, order)
                    else:
                        wrapped = differences(cell, predictor)
                        raw = sample_bytes(wrapped % (1 << bits) if predictor == 2 else wrapped, bits, order)
                    raw = COMPRESSORS[compression](raw)
                    data.append(raw.translate(REVERSED) if fill_order == 2 else raw)
    number = LONG8 if big else LONG
    entries = {
        256: (LONG, [width]),
        257: (LONG, [height]),
        258: (SHORT, [bits] * channels),
        259: (SHORT, [compression]),
        262: (SHORT, [photometric]),
        277: (SHORT, [channels]),
        (324 if tile else 273): (number, [0] * len(data)),
        (325 if tile else 279): (number, [len(cell) for cell in data]),
    }
    if tile:
        entries |= {322: (SHORT, [cell_width]), 323: (SHORT, [cell_height])}
    elif 278 not in without:
        entries[278] = (LONG, [cell_height])
    for tag, value, default in ((284, 2 if planar else 1, 1), (317, predictor, 1), (266, fill_order, 1)):
        if value != default:
            entries[tag] = (SHORT, [value])
    if extra:
        entries[338] = (SHORT, list(extra))
    if sample_format:
        entries[339] = (SHORT, [sample_format] * channels)
    if photometric == 3:
        count = 1 << bits
        entries[320] = (SHORT, [(i * 7919 + c * 104729) % 65536 for c in range(3) for i in range(count)])
    entries |= dict(tags)
    for tag in without:
        entries.pop(tag, None)
    return assembled(entries, data, order, big, 324 if tile else 273)


def assembled(entries, data, order, big, offsets_tag):
    """Returns the header, the directory, long values and the cells."""
    offset_format, head = (f"{order}Q", 16) if big else (f"{order}I", 8)
    inline = 8 if big else 4
    count_bytes, entry_bytes = (8, 20) if big else (2, 12)
    directory_end = head + count_bytes + entry_bytes * len(entries) + inline
    formats = {1: "B", 7: "B", SHORT: "H", LONG: "I", LONG8: "Q"}
    size = lambda kind, values: struct.calcsize(f"={len(values)}{formats[kind]}")
    tail_bytes = sum(size(*entry) + size(*entry) % 2 for entry in entries.values() if size(*entry) > inline)
    at = directory_end + tail_bytes
    starts = []
    for cell in data:
        starts.append(at)
        at += len(cell) + len(cell) % 2
    entries[offsets_tag] = (entries[offsets_tag][0], starts)
    body, tail = b"", b""
    for tag in sorted(entries):
        kind, values = entries[tag]
        value = struct.pack(f"{order}{len(values)}{formats[kind]}", *values)
        if len(value) > inline:
            value, tail = struct.pack(offset_format, directory_end + len(tail)), tail + value + b"\0" * (len(value) % 2)
        count_format = "Q" if big else "I"
        body += struct.pack(f"{order}HH{count_format}", tag, kind, len(values)) + value.ljust(inline, b"\0")
    name = b"II" if order == "<" else b"MM"
    if big:
        header = name + struct.pack(f"{order}HHHQ", 43, 8, 0, 16) + struct.pack(f"{order}Q", len(entries))
    else:
        header = name + struct.pack(f"{order}HI", 42, 8) + struct.pack(f"{order}H", len(entries))
    cells = b"".join(cell + b"\0" * (len(cell) % 2) for cell in data)
    return header + body + bytes(inline) + tail + cells
