"""Compares `blip-serve ask --local` with the same records through a server.

Each turn starts a new server, so that neither side has cached images. The sides take turns, and
swap their order in every turn. The rate is the one that the command prints: records per second from
the first record to the last, without the time for loading. The demo model answers questions about
new images.
"""

import argparse
import json
import os
import random
import re
import resource
import statistics
import struct
import subprocess
import tempfile
import zlib
from pathlib import Path

READY = re.compile(r"ready: grpc (\S+),")
SUMMARY = re.compile(r"asking: (\d+) lines, (\d+) failed, ([\d.]+) per second")
OPTIONS = ["--device", "cpu", "--answer-cache-bytes", "0"]


def png(width, height, seed):
    """Returns a PNG image of coloured rectangles, different for each seed."""
    draw = random.Random(seed)
    rows = [bytearray(b"\xff\xff\xff" * width) for _ in range(height)]
    for _ in range(8):
        colour = bytes(draw.randrange(256) for _ in range(3))
        left, top = draw.randrange(width - 40), draw.randrange(height - 40)
        right, bottom = left + draw.randrange(20, width - left), top + draw.randrange(20, height - top)
        for row in rows[top:bottom]:
            row[3 * left : 3 * right] = colour * (right - left)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows), 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def write_records(folder, images, questions):
    """Writes the images and the record file. Returns its path."""
    lines = []
    for image in range(images):
        (folder / f"{image}.png").write_bytes(png(640, 480, image))
        for question in range(questions):
            text = ["how many things are in the image?", "is there a square?"][question % 2]
            lines.append(json.dumps({"id": len(lines), "image": f"{image}.png", "question": text}))
    path = folder / "records.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def ask(program, records, *options):
    """Answers the records. Returns records per second and the answers."""
    output = records.with_name("answers.jsonl")
    command = [program, "ask", "--input", records, "--output", output, "--force", *options]
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    summary = SUMMARY.search(completed.stderr)
    if completed.returncode or not summary or summary[2] != "0":
        raise SystemExit(f"{command}: {completed.stderr}")
    answers = [json.loads(line)["answer"] for line in output.read_text().splitlines()]
    return float(summary[3]), answers


def through_server(program, records):
    command = [program, "serve", *OPTIONS, "--grpc-listen", "127.0.0.1:0"]
    command += ["--http-listen", "off", "--metrics-listen", "off"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        address = READY.search(server.stdout.readline())[1]
        return ask(program, records, "--server", address)
    finally:
        server.terminate()
        server.wait()


def in_process(program, records):
    return ask(program, records, "--local", *OPTIONS)


def cpu_seconds():
    """Returns the CPU time of all commands that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", default="target/release/blip-serve", help="the program")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--questions", type=int, default=2, help="questions about each image")
    options = parser.parse_args()
    program = os.path.abspath(options.bin)
    sides = {"server": through_server, "local": in_process}
    rates, expected = {name: [] for name in sides}, None
    with tempfile.TemporaryDirectory() as folder:
        records = write_records(Path(folder), options.images, options.questions)
        print(f"{options.images} images with {options.questions} questions each")
        for turn in range(options.turns):
            for name in sorted(sides, reverse=turn % 2 == 0):
                before = cpu_seconds()
                rate, answers = sides[name](program, records)
                cpu = cpu_seconds() - before
                expected = expected or answers
                if answers != expected:
                    raise SystemExit(f"{name} has other answers")
                rates[name].append(rate)
                print(f"turn {turn + 1}  {name:6}  {rate:8.1f} records/s  {cpu:6.1f} s of CPU time", flush=True)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, median in medians.items():
        print(f"{name:6}  median {median:.1f} records/s, {min(rates[name])} to {max(rates[name])}")
    print(f"ratio local / server {medians['local'] / medians['server']:.3f}")


if __name__ == "__main__":
    main()
