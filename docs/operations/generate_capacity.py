"""Writes the tables of docs/capacity.md from what was measured and simulated; with --check, says whether they are what they should be.

    python3 docs/operations/generate_capacity.py [--check]

Nothing in the tables is typed by hand but the parameters below, which the document states as such.
"""

import json
import math
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs/capacity.md"
GPU = ROOT / "benches/gpu/results/2026-11-23-h100-plain/engine_f16.json"
SETTINGS = ROOT / "docs/configuration.md"
FRONT_DOOR = ROOT / "benches/cpu/results/2026-11-23-front-door/front_door.txt"
SIMULATION = ROOT / "docs/scheduler-simulation.md"

# Parameters: assumptions, not measurements.
TARGET_LOAD = 0.7  # of what a GPU answers at most
SPARE = 1  # replicas that a rollout or a node may take
PRICE_PER_GPU_HOUR = 3.0  # any currency
QUESTIONS_PER_SECOND = (1_000, 10_000, 1_000_000)
NETWORK_GBIT = 10  # of a node
CORES = 16  # beside each GPU
# How the front door was measured: cores of that machine, clients included.
FRONT_DOOR_CORES = 2


class Load:
    """One kind of traffic, answered in batches of at most so many images and questions."""

    def __init__(self, name, cached, questions, max_images, max_questions):
        self.name, self.cached, self.questions = name, cached, questions
        rows = json.loads(GPU.read_text())["throughput"]
        self.rows = [row for row in rows if row["cached"] == cached and row["questions_per_image"] == questions]
        fitting = [row for row in self.rows if row["images"] <= max_images and row["images"] * questions <= max_questions]
        self.best = max(fitting, key=lambda row: row["questions_per_second"])
        # One request for each image, with all its questions.
        self.rate = TARGET_LOAD * self.best["questions_per_second"]
        self.requests = self.rate / questions

    def replicas(self, rate):
        return math.ceil(rate / self.rate) + SPARE


def loads(max_images, max_questions):
    kinds = [(f"{state} images, {name} each", cached, questions) for state, cached in (("new", False), ("remembered", True))
             for name, questions in (("one question", 1), ("six questions", 6))]
    return [Load(*kind, max_images, max_questions) for kind in kinds]


def default(setting):
    return int(re.search(rf"^\| `scheduler\.{setting}` .*? \| `(\d+)` \|", SETTINGS.read_text(), re.MULTILINE).group(1))


DEFAULTS = default("max_batch_images"), default("max_batch_questions")
LARGEST = 128, 768
LOADS = loads(*LARGEST)


def front_door():
    """Bytes of the larger image, requests a second through the front door, and CPU seconds of decoding one."""
    text = FRONT_DOOR.read_text()
    size, rate = re.search(r"100 KB image \((\d+) bytes\): ours (\d+),", text).groups()
    first = re.search(r"100 KB image, first time: decode and scale (\d+),", text).group(1)
    again = re.search(r"100 KB image, again\s*: decode and scale (\d+),", text).group(1)
    return int(size), int(rate), {False: int(first) * 1e-6, True: int(again) * 1e-6}


def table(head, rows):
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def curve():
    """Questions a second by images of a batch."""
    sizes = [row["images"] for row in LOADS[0].rows]
    rows = []
    for load in LOADS:
        by_size = {row["images"]: row for row in load.rows}
        rows.append([load.name, *(f"{by_size[size]['questions_per_second']:,.0f} ({by_size[size]['batch_ms_median']:.0f} ms)" for size in sizes)])
    return table(["images in a batch", *sizes], rows)


def latency():
    """How long answers take at parts of the device's capacity, by the simulator."""
    found = re.findall(r"^## BLIP base, one H100, f16: (Poisson|bursty|Zipf[^\n]*?) at (\d+) % of (\d+) a second\n\n.*?\n\| ours \| ([^\n]*) \|$",
                       SIMULATION.read_text(), re.MULTILINE | re.DOTALL)
    assert found, f"{SIMULATION} has no such runs"
    rows = []
    for traffic, percent, capacity, ours in found:
        _, goodput, p50, p99, _, in_time = (cell.strip() for cell in ours.split("|"))
        rows.append([f"{traffic}, {percent} % of {capacity} a second", goodput, p50, p99, in_time])
    return table(["traffic on one GPU", "answered in time, a second", "p50 ms", "p99 ms", "in time"], rows)


def fleet():
    head = ["batches of at most", "traffic", *(f"GPUs for {rate:,} a second" for rate in QUESTIONS_PER_SECOND), "GPU seconds a million",
            f"cost of a million at {PRICE_PER_GPU_HOUR:g} per GPU-hour"]
    rows = []
    for limits in (DEFAULTS, LARGEST):
        for load in loads(*limits):
            rows.append(["{} images, {} questions".format(*limits), load.name, *(f"{load.replicas(rate):,}" for rate in QUESTIONS_PER_SECOND),
                         f"{1e6 / load.rate:,.0f}", f"{1e6 / load.rate / 3600 * PRICE_PER_GPU_HOUR:.2f}"])
    return table(head, rows)


def beside_one_gpu():
    """What one replica takes of network and cores at its target, and which of it is used up first."""
    size, measured, decode = front_door()
    rows = []
    for load in LOADS:
        gbit = load.requests * size * 8 / 1e9
        decoding = load.requests * decode[load.cached]
        entering = load.requests * FRONT_DOOR_CORES / measured
        parts = {"the GPU": TARGET_LOAD, "network": gbit / NETWORK_GBIT, "cores": (decoding + entering) / CORES}
        first = max(parts, key=parts.get)
        rows.append([load.name, f"{load.requests:,.0f}", f"{gbit:.2f}", f"{decoding:.2f}", f"{entering:.2f}", f"{first} ({100 * parts[first]:.0f} %)"])
    head = ["one GPU at its target", "requests/s", "Gbit/s in", "cores that decode", "cores of the front door, at most", "fullest"]
    return table(head, rows)


def network():
    size, _, _ = front_door()
    head = ["Gbit/s into the fleet", *(load.name for load in LOADS)]
    return table(head, [[f"at {rate:,} a second", *(f"{rate / load.questions * size * 8 / 1e9:,.1f}" for load in LOADS)]
                        for rate in QUESTIONS_PER_SECOND])


def parameters():
    size, _, _ = front_door()
    rows = [["load of a GPU, of the most that it answers", f"{TARGET_LOAD:g}"], ["spare replicas", SPARE],
            ["price of a GPU-hour with its node, any currency", f"{PRICE_PER_GPU_HOUR:g}"], ["bytes of an image", f"{size:,}"],
            ["Gbit/s of a node", NETWORK_GBIT], ["cores beside a GPU", CORES]]
    return table(["assumed", ""], rows)


TABLES = {"parameters": parameters, "curve": curve, "latency": latency, "fleet": fleet, "beside": beside_one_gpu, "network": network}


def filled(text):
    for name, make in TABLES.items():
        begin, end = f"<!-- {name}: written by docs/operations/generate_capacity.py -->", f"<!-- end of {name} -->"
        pattern = re.escape(begin) + ".*?" + re.escape(end)
        assert len(re.findall(pattern, text, re.DOTALL)) == 1, f"{DOCUMENT} has no place for {name}"
        text = re.sub(pattern, lambda _: f"{begin}\n{make()}\n{end}", text, flags=re.DOTALL)
    return text


def main(options):
    text = DOCUMENT.read_text()
    now = filled(text)
    if options == ["--check"]:
        return 0 if now == text else f"{DOCUMENT.name} is not what was measured: run docs/operations/generate_capacity.py"
    DOCUMENT.write_text(now)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
