"""Compares a command on tar shards with what a load test reaches on the same images.

The sides take turns. The load test asks a server that has seen none of the images. Both use the
demo model and one question for each image.
"""

import argparse
import io
import json
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "local"))
from compare import OPTIONS, READY, png

SUMMARY = re.compile(r"asking: (\d+) lines, 0 failed, ([\d.]+) per second")
QUESTION = "how many things are in the image?"


def write_images(folder, shards, samples):
    """Writes the images as files and as shards."""
    (folder / "images").mkdir()
    (folder / "shards").mkdir()
    for shard in range(shards):
        with tarfile.open(folder / f"shards/s-{shard:03}.tar", "w") as archive:
            for number in range(shard * samples, (shard + 1) * samples):
                content = png(640, 480, number)
                (folder / f"images/{number:06}.png").write_bytes(content)
                member = tarfile.TarInfo(f"{number:06}.png")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    (folder / "questions.txt").write_text(QUESTION + "\n")


def on_shards(program, folder, name):
    """Returns the images per second of a command on the shards."""
    output = folder / "out"
    shutil.rmtree(output, ignore_errors=True)
    command = [program, "ask", "--local", *OPTIONS, "-i", folder / name, "-o", output, "-q", QUESTION]
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    summary = SUMMARY.search(completed.stderr)
    if completed.returncode or not summary:
        raise SystemExit(f"{command}: {completed.stderr}")
    return float(summary[2])


def load_test(program, folder, images, clients, seconds):
    """Returns the images per second of a load test with new images."""
    command = [program, "serve", *OPTIONS, "--grpc-listen", "127.0.0.1:0"]
    command += ["--http-listen", "off", "--metrics-listen", "off"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        address = READY.search(server.stdout.readline())[1]
        command = [program, "bench", "--server", address, "--images", folder / "images"]
        command += ["--pool", str(images), "--questions", folder / "questions.txt", "--output"]
        command += [folder / "report.json", "--seconds", str(seconds), "--warm-up-s", "1"]
        command += ["--clients", str(clients)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return json.loads((folder / "report.json").read_text())["questions_per_s"]
    finally:
        server.terminate()
        server.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--samples", type=int, default=250, help="samples of a shard")
    parser.add_argument("--clients", type=int, default=32, help="clients of the load test")
    parser.add_argument("--seconds", type=int, default=6)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        write_images(folder, options.shards, options.samples)
        images = options.shards * options.samples
        rates = {"shards": [], "load test": []}
        for turn in range(options.turns):
            sides = {
                "shards": lambda: on_shards(options.program, folder, "shards"),
                "load test": lambda: load_test(
                    options.program, folder, images, options.clients, options.seconds
                ),
            }
            for side in list(sides) if turn % 2 == 0 else list(sides)[::-1]:
                rates[side].append(sides[side]())
                print(f"turn {turn + 1}, {side}: {rates[side][-1]:.1f} images/s", flush=True)
        ratio = statistics.median(rates["shards"]) / statistics.median(rates["load test"])
        print(f"shards beside the load test: {ratio:.2f}")


if __name__ == "__main__":
    main()
