"""Writes the tables of capacity.md from committed results and the simulator's report.

    python3 docs/operations/generate_capacity.py [--check]

With --check the script writes nothing. It fails if the tables differ from the sources. The
parameters below are assumptions. The document states them as such. All other numbers are measured.
"""

import json
import math
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = "docs/operations/generate_capacity.py"
DOCUMENT = ROOT / "docs/operations/capacity.md"
SETTINGS = ROOT / "docs/reference/configuration.md"
SIMULATION = ROOT / "docs/reference/scheduler-simulation.md"
ENGINE = ROOT / "benches/results/engine-h100/engine_f16.json"
REQUEST_OVERHEAD = ROOT / "benches/results/request-overhead/request_overhead.txt"

# Assumptions.
TARGET_LOAD = 0.7  # fraction of a GPU's maximum rate
SPARE_REPLICAS = 1  # replicas that may be absent during a rollout or a node failure
PRICE_PER_GPU_HOUR = 3.0  # in any currency
QUESTIONS_PER_SECOND = (1_000, 10_000, 1_000_000)
NETWORK_GBIT = 10  # of a node
CORES = 16  # per GPU
# Cores of the machine that measured the request overhead. The clients ran on the same cores.
REQUEST_OVERHEAD_CORES = 2
# Batch limits of the throughput-optimized configuration.
LARGEST_BATCH = 128, 768
SHORT_BATCH = 16, 64


class Load:
    """One kind of traffic, answered in batches of limited size."""

    def __init__(self, name, cached, questions, max_images, max_questions):
        self.name, self.cached, self.questions = name, cached, questions
        rows = json.loads(ENGINE.read_text())["throughput"]
        self.rows = [
            row for row in rows if row["cached"] == cached and row["questions_per_image"] == questions
        ]
        fitting = [
            row
            for row in self.rows
            if row["images"] <= max_images and row["images"] * questions <= max_questions
        ]
        self.best = max(fitting, key=lambda row: row["questions_per_second"])
        # Each request carries one image with all its questions.
        self.rate = TARGET_LOAD * self.best["questions_per_second"]
        self.requests = self.rate / questions

    def replicas(self, rate):
        """Returns the number of replicas that answer `rate` questions per second."""
        return math.ceil(rate / self.rate) + SPARE_REPLICAS


def loads(max_images, max_questions):
    """Returns the four kinds of traffic for batches of limited size."""
    kinds = [
        (f"{state} images, {name} each", cached, questions)
        for state, cached in (("new", False), ("cached", True))
        for name, questions in (("one question", 1), ("six questions", 6))
    ]
    return [Load(*kind, max_images, max_questions) for kind in kinds]


def default(setting):
    """Returns the default of a numeric scheduler setting on CUDA."""
    row = re.search(rf"^\| `scheduler\.{setting}` .*?, (\d+) on CUDA \|", SETTINGS.read_text(), re.MULTILINE)
    assert row, f"{SETTINGS} has no row for scheduler.{setting}"
    return int(row.group(1))


def request_overhead():
    """Returns bytes of the larger image, requests per second, and seconds of decoding if cached."""
    text = REQUEST_OVERHEAD.read_text()
    size, rate = re.search(r"100 KB image \((\d+) bytes\): \S+ (\d+),", text).groups()
    first = re.search(r"100 KB image, first time: decode and scale (\d+),", text).group(1)
    again = re.search(r"100 KB image, again\s*: decode and scale (\d+),", text).group(1)
    return int(size), int(rate), {False: int(first) * 1e-6, True: int(again) * 1e-6}


def table(head, rows):
    """Returns a Markdown table. All columns but the first are aligned to the right."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def curve():
    """Returns questions per second by batch size."""
    batches = loads(*LARGEST_BATCH)
    sizes = [row["images"] for row in batches[0].rows]
    rows = []
    for load in batches:
        by_size = {row["images"]: row for row in load.rows}
        cells = [
            f"{by_size[size]['questions_per_second']:,.0f} ({by_size[size]['batch_ms_median']:.0f} ms)"
            for size in sizes
        ]
        rows.append([load.name, *cells])
    return table(["images per batch", *sizes], rows)


def section(text, heading):
    """Returns the text below a heading, up to the next heading of the same level."""
    level = heading.split()[0]
    return text.split(f"\n{heading}\n", 1)[1].split(f"\n{level} ", 1)[0]


def latency():
    """Returns simulated latencies at several fractions of the device's capacity."""
    device = section(SIMULATION.read_text(), "## BLIP base, one H100, f16")
    rows = []
    for line in section(device, "### blip-serve").splitlines():
        # The head and the rule of the table have no such traffic.
        if line.startswith(("| Poisson |", "| bursty |", "| Zipf ")):
            traffic, load, capacity, _, goodput, p50, p99, _, in_time = (
                cell.strip() for cell in line.strip("|").split("|")
            )
            rows.append([f"{traffic}, {load} of {capacity} per second", goodput, p50, p99, in_time])
    assert rows, f"{SIMULATION} has no runs on one H100"
    return table(["traffic on one GPU", "answers in time per second", "p50 ms", "p99 ms", "in time"], rows)


def fleet():
    """Returns replicas and cost by traffic and batch limits."""
    head = [
        "maximum batch",
        "traffic",
        *(f"GPUs for {rate:,} per second" for rate in QUESTIONS_PER_SECOND),
        "GPU seconds per million",
        f"cost per million at {PRICE_PER_GPU_HOUR:g} per GPU-hour",
    ]
    rows = []
    assert (default("max_batch_images"), default("max_batch_questions")) == LARGEST_BATCH
    for limits in (SHORT_BATCH, LARGEST_BATCH):
        for load in loads(*limits):
            seconds = 1e6 / load.rate
            rows.append(
                [
                    "{} images, {} questions".format(*limits),
                    load.name,
                    *(f"{load.replicas(rate):,}" for rate in QUESTIONS_PER_SECOND),
                    f"{seconds:,.0f}",
                    f"{seconds / 3600 * PRICE_PER_GPU_HOUR:.2f}",
                ]
            )
    return table(head, rows)


def resources():
    """Returns the resources that one replica uses at its target load, and the scarcest one."""
    size, measured, decode = request_overhead()
    rows = []
    for load in loads(*LARGEST_BATCH):
        gbit = load.requests * size * 8 / 1e9
        decoding = load.requests * decode[load.cached]
        handling = load.requests * REQUEST_OVERHEAD_CORES / measured
        parts = {"GPU": TARGET_LOAD, "network": gbit / NETWORK_GBIT, "cores": (decoding + handling) / CORES}
        first = max(parts, key=parts.get)
        rows.append(
            [
                load.name,
                f"{load.requests:,.0f}",
                f"{gbit:.2f}",
                f"{decoding:.2f}",
                f"{handling:.2f}",
                f"{first} ({100 * parts[first]:.0f} %)",
            ]
        )
    head = [
        "one GPU at its target load",
        "requests/s",
        "Gbit/s received",
        "cores for decoding",
        "cores for request handling, at most",
        "scarcest resource",
    ]
    return table(head, rows)


def network():
    """Returns the bandwidth into the whole fleet."""
    size, _, _ = request_overhead()
    traffic = loads(*LARGEST_BATCH)
    rows = [
        [f"at {rate:,} per second", *(f"{rate / load.questions * size * 8 / 1e9:,.1f}" for load in traffic)]
        for rate in QUESTIONS_PER_SECOND
    ]
    return table(["Gbit/s into the fleet", *(load.name for load in traffic)], rows)


def parameters():
    """Returns the assumptions."""
    size, _, _ = request_overhead()
    rows = [
        ["load of a GPU, as a fraction of its maximum rate", f"{TARGET_LOAD:g}"],
        ["spare replicas", SPARE_REPLICAS],
        ["price of a GPU-hour with its node, any currency", f"{PRICE_PER_GPU_HOUR:g}"],
        ["bytes of an image", f"{size:,}"],
        ["Gbit/s of a node", NETWORK_GBIT],
        ["cores per GPU", CORES],
    ]
    return table(["assumption", "value"], rows)


TABLES = {
    "parameters": parameters,
    "curve": curve,
    "latency": latency,
    "fleet": fleet,
    "resources": resources,
    "network": network,
}


def filled(text):
    """Returns the document with every table rewritten between its two markers."""
    for name, make in TABLES.items():
        begin, end = f"<!-- {name}: written by {SCRIPT} -->", f"<!-- end of {name} -->"
        pattern = re.escape(begin) + ".*?" + re.escape(end)
        assert len(re.findall(pattern, text, re.DOTALL)) == 1, f"{DOCUMENT} lacks the markers of {name}"
        text = re.sub(pattern, lambda _: f"{begin}\n{make()}\n{end}", text, flags=re.DOTALL)
    return text


def main(options):
    text = DOCUMENT.read_text()
    current = filled(text)
    if options == ["--check"]:
        return 0 if current == text else f"{DOCUMENT.name} differs from its sources: run {SCRIPT}"
    DOCUMENT.write_text(current)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
