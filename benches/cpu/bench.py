"""Measures blip-serve next to other CPU engines on the same weights, in turns.

    python3 benches/cpu/bench.py --output FOLDER [--rounds 3] [--threads N] [--only PART]

Each engine has a process. In a round each engine has one turn: all loads on a quiet machine, then
the same beside one busy process. The order is reversed in every second round. The engines stay
loaded while memory allows it.
"""

import argparse
import contextlib
import datetime
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from engines import ENGINES, HERE, PROGRAM, ROOT, Environments, Process, Unavailable, cpu_seconds
from sizes import IMAGES, QUESTIONS

sys.path.append(str(HERE.parent))
from write_manifest import machine  # noqa: E402

# Name of each load, its batch, and how often it is measured in a turn.
LOADS = {
    "new_1x1": ({"images": [0], "questions": 1, "cached": False}, 2),
    "new_4x1": ({"images": [0, 1, 2, 3], "questions": 1, "cached": False}, 1),
    "new_4x6": ({"images": [0, 1, 2, 3], "questions": QUESTIONS, "cached": False}, 1),
    "cached_1x1": ({"images": [0], "questions": 1, "cached": True}, 5),
    "cached_4x6": ({"images": [0, 1, 2, 3], "questions": QUESTIONS, "cached": True}, 2),
}
GENERATOR = ROOT / "tests/reference/generate"


def log(message):
    print(f"{datetime.datetime.now():%H:%M:%S} {message}", file=sys.stderr, flush=True)


def prepare(environments, engines, folder, threads):
    """Writes the weights, inputs and converted models, unless an earlier run did.

    Returns the engines that are available, and why the others are not.
    """
    sources = [HERE / "parts.py", HERE / "sizes.py", HERE / "inputs.py", *HERE.glob("requirements/*")]
    sources += [*HERE.glob("peers/*.py"), *GENERATOR.glob("random_*.py")]
    texts = [path.read_bytes() for path in sorted(sources)] + [machine().encode()]
    key = hashlib.sha256(b"".join(texts)).hexdigest()
    if not (folder / "key").exists() or (folder / "key").read_text() != key:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        python = environments.folder("torch") / "bin/python"
        log("writing the weights and inputs")
        # No answer ends early, so that every engine computes the same steps.
        generate = [GENERATOR / "random_checkpoint.py", "--stop-bias", "-30", folder / "model"]
        subprocess.run([python, *generate], check=True, stdout=sys.stderr)
        subprocess.run([python, HERE / "inputs.py", folder], check=True)
        (folder / "key").write_text(key)
    available, reasons = [], {}
    for engine in engines:
        try:
            mark = folder / f"{engine.key}:{threads}.prepared"
            if engine.peer and not mark.exists():
                log(f"preparing {engine.key}")
                command, variables = environments.command(engine, folder, threads)
                Process([*command, "--prepare"], variables, folder / "prepare.log", 180).stop()
                mark.touch()
            available.append(engine)
        except Unavailable as reason:
            reasons[engine.key] = str(reason)
            log(f"{engine.key}: {reason}")
    return available, reasons


class Pool:
    """The loaded engines. If memory is short, the one whose turn is last is stopped."""

    def __init__(self, environments, options, turns):
        self.environments, self.options = environments, options
        self.turns = turns
        self.loaded = {}

    def process(self, engine):
        """Returns the process of the engine whose turn it is. A new one has run all loads once."""
        if engine.key not in self.loaded:
            while self.loaded and available_mib() < self.options.reserve_mib:
                last = max(self.loaded, key=self.next_turn)
                log(f"unloading {last}")
                self.loaded.pop(last).stop()
            command, variables = self.environments.command(engine, self.options.models, self.options.threads)
            path = self.options.models / f"{engine.key}.log"
            process = self.loaded[engine.key] = Process(command, variables, path, self.options.limit_s)
            for batch, _ in LOADS.values():
                # zentorch compiles each new shape.
                process.run(batch, 10 * self.options.limit_s)
            log(f"loaded {engine.key} in {process.load_s:.0f} s, {process.resident_mib()} MiB")
        return self.loaded[engine.key]

    def next_turn(self, key):
        keys = [engine.key for _, engine in self.turns]
        return keys.index(key) if key in keys else len(keys)

    def drop(self, key):
        if key in self.loaded:
            self.loaded.pop(key).stop()

    def stop(self):
        for key in list(self.loaded):
            self.drop(key)


def available_mib():
    return int(Path("/proc/meminfo").read_text().split("MemAvailable:")[1].split()[0]) >> 10


@contextlib.contextmanager
def busy_process():
    """Runs a process that occupies one core."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def answers(process):
    """Returns the answers to all questions about all images."""
    halves = (list(range(IMAGES // 2)), list(range(IMAGES // 2, IMAGES)))
    batches = [{"images": half, "questions": QUESTIONS, "cached": False} for half in halves]
    return [answer for batch in batches for answer in process.run(batch)["answers"]]


def measure(process, busy=None):
    """Returns the median milliseconds of each load, and the cores that other processes used."""
    pids = [process.process.pid, *([busy] if busy else [])]
    times = {}
    start, before = time.monotonic(), cpu_seconds() - sum(map(cpu_seconds, pids))
    for name, (batch, repeats) in LOADS.items():
        times[name] = statistics.median(process.run(batch)["ms"] for _ in range(repeats))
    others = cpu_seconds() - sum(map(cpu_seconds, pids)) - before
    return times, max(0.0, others / (time.monotonic() - start))


def turn(engine, states, pool, result):
    """Measures one engine on the idle machine, or also on a busy one, and adds to its result."""
    process = pool.process(engine)
    result["version"], result["load_s"] = process.version, round(process.load_s, 1)
    result["resident_mib"] = process.resident_mib()
    if "answers" not in result:
        result["answers"] = answers(process)
    # Threads of the engine before wait by spinning for a moment.
    time.sleep(0.3)
    process.run(LOADS["cached_1x1"][0])
    with contextlib.ExitStack() as stack:
        for state in states:
            busy = stack.enter_context(busy_process()) if state == "busy" else None
            times, others = measure(process, busy)
            figures = {name: round(ms, 2) for name, ms in times.items()}
            result["rounds"].setdefault(state, []).append(figures | {"other_cores": round(others, 2)})
            listed = " ".join(f"{ms:.0f}" for ms in times.values())
            log(f"{engine.key} {state}: {listed} ms, {others:.2f} cores in other use")


def run(turns, pool, results, reasons, write):
    """Measures all turns, and writes the results after each. An engine that fails is left out."""
    try:
        while turns:
            states, engine = turns.pop(0)
            if engine.key in reasons:
                continue
            try:
                turn(engine, states, pool, results[engine.key])
            except Unavailable as reason:
                reasons[engine.key] = str(reason)
                pool.drop(engine.key)
                log(f"{engine.key}: {reason}")
            write()
    finally:
        pool.stop()


def commit():
    """Returns the commit of the checkout that the program was built from."""
    command = ["git", "-C", ROOT, "describe", "--always", "--abbrev=12", "--exclude", "*"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def write_results(options, engines, results, reasons):
    """Writes what is measured so far."""
    rows = {}
    for engine in engines:
        row = results.get(engine.key, {"rounds": {}})
        unmeasured = None if row["rounds"] else "not measured"
        rows[engine.key] = row | {"reason": reasons.get(engine.key, unmeasured)}
    options.output.mkdir(parents=True, exist_ok=True)
    report = {"threads": options.threads, "engines": rows}
    (options.output / "cpu-peers.json").write_text(json.dumps(report, indent=1) + "\n")
    manifest = {
        "suite": "cpu-peers",
        "commit": commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "machine": machine(),
        "command": f"benches/cpu/bench.py {' '.join(sys.argv[1:])}",
    }
    (options.output / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy-rounds", type=int, default=2, help="rounds with a busy process, too")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of each engine")
    parser.add_argument("--only", action="append", help="part of an engine's key; repeatable")
    parser.add_argument("--limit-s", type=float, default=60, help="limit of a batch, in seconds")
    parser.add_argument("--reserve-mib", type=int, default=6500, help="memory in which an engine can load")
    parser.add_argument("--list", action="store_true", help="list the keys of the engines")
    parser.add_argument("--prepare-only", action="store_true", help="install and convert only")
    options = parser.parse_args()
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cache = Path(os.environ.get("BLIP_SERVE_CACHE") or f"{home}/blip-serve")
    options.models = cache / "cpu-peers"
    chosen = options.only or [""]
    engines = [engine for engine in ENGINES if any(part in engine.key for part in chosen)]
    if options.list:
        return print("\n".join(engine.key for engine in engines))
    environments = Environments()
    available, reasons = prepare(environments, engines, options.models, options.threads)
    if options.prepare_only:
        return None
    results = {engine.key: {"rounds": {}} for engine in available}
    turns = []
    for number in range(options.rounds):
        states = ("quiet", "busy") if number < options.busy_rounds else ("quiet",)
        turns += [(states, engine) for engine in available[:: -1 if number % 2 else 1]]
    write = partial(write_results, options, engines, results, reasons)
    run(turns, Pool(environments, options, turns), results, reasons, write)


if __name__ == "__main__":
    main()
