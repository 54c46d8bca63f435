"""Measures what the CUDA path costs without a GPU: the host's time, and device memory of graphs.

A stand-in takes no time for the device and little for the driver, so times are lower bounds. Build
the example `batch_runner` of `blip` with `--release`. `make bench-cuda-host` runs this.

    BATCH_RUNNER_BIN=target/release/examples/batch_runner CUDA_STAND_IN=$(python3 prepare.py) \\
      python3 host_cost.py [--runs 50]
"""

import argparse
import multiprocessing
import os
import statistics
import tempfile
from pathlib import Path

import checkpoint
from engine import Engine, question


def burn():
    while True:
        pass


def device_bytes(engine):
    """Returns the device memory that the program has allocated."""
    sign = {"allocate": 1, "release": -1}
    events = engine.trace.events()
    return sum(sign[event.kind] * int(event.detail) for event in events if event.kind in sign)


def host_ms(engine, images, runs):
    """Returns the median CPU time of the engine's thread for a batch of new images, in ms."""
    questions = [question(index, tokens=5 + index % 16) for index in range(images)]
    times = [engine.answer(engine.new_images(images), questions)["cpu_us"] / 1000 for _ in range(runs)]
    return statistics.median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=50, help="runs of a batch of one question")
    runs = parser.parse_args().runs
    folder = Path(os.environ["CUDA_STAND_IN"])
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        model = checkpoint.make(work / "base", **checkpoint.BASE)
        starts = iter(range(100))

        def start(**options):
            engine = Engine(folder, work / f"{next(starts)}.tsv", model, **options)
            assert engine.is_loaded, engine.stderr_path.read_text()
            return engine

        print("Device memory after loading, GiB")
        for gib in (24, 80):
            used, graphs = {}, 0
            for has_graphs in (False, True):
                engine = start(graphs=has_graphs, gib=gib)
                used[has_graphs] = device_bytes(engine) / 2**30
                graphs = sum(event.kind == "capture_end" for event in engine.trace.events())
                messages = engine.stop()
            print(
                f"  device of {gib} GiB: {used[False]:.2f}, with graphs {used[True]:.2f} "
                f"({graphs} captures, {len(messages.splitlines())} lines on standard error)"
            )

        print("CPU time of the engine's thread with graphs, ms (median)")
        engine = start(graphs=True)
        idle = host_ms(engine, 1, runs), host_ms(engine, 128, 5)
        burners = [multiprocessing.Process(target=burn, daemon=True) for _ in range(os.cpu_count() or 1)]
        try:
            for burner in burners:
                burner.start()
            busy = host_ms(engine, 1, runs), host_ms(engine, 128, 5)
        finally:
            for burner in burners:
                burner.kill()
        for name, times in (("idle cores", idle), ("all cores busy", busy)):
            print(f"  {name}: one new image {times[0]:.2f}, 128 new images {times[1]:.1f}")
        assert engine.trace.faults() == {}
        engine.stop()


if __name__ == "__main__":
    main()
