"""Compares two builds of blip-serve under the same load, in turns.

Each turn starts a new server. The client is always that of the old build, so that only the servers
differ. The builds swap their order in every turn.
"""

import argparse
import json
import re
import statistics
import subprocess
import tempfile
from pathlib import Path

READY = re.compile(r"ready: grpc (\S+),")

# The name of each load, with options of `blip-serve bench`. An answer from the cache takes nothing
# of the model, so its rate shows what the rest of the server costs.
LOADS = {
    "cached answers": ["--reuse", "1", "--pool", "32", "--size", "64x64"],
    "cached images, new questions": ["--reuse", "1", "--pool", "32", "--questions", "QUESTIONS"],
    "new images, 640x480": [],
    "new images, six questions each": ["--questions-per-image", "6"],
    "single client, new images": ["--clients", "1"],
}


def write_questions(path):
    """Writes questions of which hardly any is asked twice."""
    path.write_text("".join(f"is there a square beside shape number {at}?\n" for at in range(200_000)))


def measure(server, client, load, seconds, folder):
    """Returns the report of a load on a new server."""
    command = [server, "serve", "--device", "cpu", "--grpc-listen", "127.0.0.1:0"]
    command += ["--http-listen", "off", "--metrics-listen", "off"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        address = READY.search(process.stdout.readline())[1]
        address = address if "://" in address else f"http://{address}"
        report = folder / "report.json"
        options = [str(folder / "questions.txt") if option == "QUESTIONS" else option for option in load]
        command = [client, "bench", "--server", address, "--seconds", str(seconds), "--warm-up-s", "2"]
        subprocess.run([*command, "--output", report, *options], check=True, stdout=subprocess.DEVNULL)
        return json.loads(report.read_text())
    finally:
        process.terminate()
        process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", help="program of the old build, also the client")
    parser.add_argument("new", help="program of the new build")
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--only", action="append", choices=LOADS, help="a load; repeatable")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        write_questions(folder / "questions.txt")
        for name in options.only or LOADS:
            rates = {options.old: [], options.new: []}
            for turn in range(options.turns):
                programs = list(rates) if turn % 2 == 0 else list(rates)[::-1]
                for program in programs:
                    report = measure(program, options.old, LOADS[name], options.seconds, folder)
                    rates[program].append(rate(report))
            old, new = rates[options.old], rates[options.new]
            ratio = statistics.median(new) / statistics.median(old)
            print(f"{name}: old {shown(old)}, new {shown(new)} questions/s, ratio {ratio:.2f}", flush=True)


def rate(report):
    """Returns the questions per second of a report."""
    if report["failed"]:
        raise SystemExit(f"{report['failed']} questions failed: {report['errors']}")
    return report["questions_per_s"]


def shown(rates):
    return " ".join(f"{each:.0f}" for each in rates)


if __name__ == "__main__":
    main()
