"""Attacks a separate server with each kind of abuse, or with a mix of all of them.

    python tests/attacks/run.py each --seconds 15 --output results
    python tests/attacks/run.py mixed --seconds 600 --output results

BLIP_SERVE_BIN names the program. `each` starts one server for each attack. For each it prints the
latency of an honest client before and during the attack, the memory above idle, the processor time,
and what the attacker sent. `mixed` runs three attacks at a time, in random order, on one server.

The exit code is 1 if an honest call failed during or after an attack, if the honest p99 during it
was more than five times the quiet p99, if memory rose by more than 300 MB, or if an attack sent
nothing.
"""

import argparse
import json
import multiprocessing
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "e2e"))
from attacks import ATTACKS  # noqa: E402
from conftest import Server  # noqa: E402
from honest_client import HonestClient, ImageSource  # noqa: E402
from server_load import PeakMemory, cpu_seconds, memory_bytes  # noqa: E402
from target import Target  # noqa: E402

MB = 1_000_000
MAX_EXTRA_MB = 300
MAX_LATENCY_RATIO = 5
# Below this, a quiet p99 is only noise of the machine.
MIN_QUIET_P99_MS = 20
QUIET_S = 6
TURN_S = 10
KEY = "an-honest-key"
FETCH_HOST, FETCH_PORT = "127.0.0.3", 8099
MODELS = "demo,demo-match"


def start(needs_keys, images, max_files):
    """Starts a server and connects an honest client. 0 `max_files` is the limit of this process."""
    ports = f"{FETCH_PORT},{images.port}"
    options = ["--model", MODELS, "--fetch-allow-networks", "127.0.0.0/8", "--fetch-allow-ports", ports]
    options += ["--auth-keys", KEY] if needs_keys else []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max_files or soft, hard))
    server = Server(*options, connect=False)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    server.client = server.connect(headers=[("x-api-key", KEY)] if needs_keys else [])
    return server


def honest_client(server, kind, images):
    return HonestClient(server.client, f"http://127.0.0.1:{images.port}/" if kind == "url" else None)


def attacker(attack, target, ready):
    """Runs an attack in a separate process."""
    target.begin()
    ready.set()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    attack.run(target)


def begin(attack, server, seconds):
    """Starts the process of an attack. Returns it with the shared count of bytes."""
    context = multiprocessing.get_context("spawn")
    sent = context.Value("q")
    target = Target(
        server.address,
        server.http.removeprefix("http://"),
        server.metrics.removeprefix("http://").partition("/")[0],
        FETCH_HOST,
        FETCH_PORT,
        seconds,
        sent,
    )
    ready = context.Event()
    process = context.Process(target=attacker, args=(attack, target, ready), daemon=True)
    process.start()
    while not ready.wait(1):
        if not process.is_alive():
            sys.exit(f"{attack.name} did not start")
    return process, sent


def measure(name, server, needs_keys, kind, images, abuse):
    """Returns the row of the report of `abuse`, which runs attacks beside an honest client.

    It gets the honest client and returns the number of bytes that the attackers sent.
    """
    pid = server.process.pid
    quiet = honest_client(server, kind, images).run_until(time.monotonic() + QUIET_S)
    idle, cpu_before = memory_bytes(pid), cpu_seconds(pid)
    honest = honest_client(server, kind, images)
    with PeakMemory(pid) as memory:
        sent_bytes = abuse(honest)
    cpu = cpu_seconds(pid) - cpu_before
    row = {
        "attack": name,
        "key": "none" if needs_keys else "not needed",
        "sent_kb": round(sent_bytes / 1000, 1),
        "cpu_s": round(cpu, 2),
        "memory_mb": round((sum(memory.peak) - sum(idle)) / MB),
        "decoders_mb": round((memory.peak[1] - idle[1]) / MB),
        "quiet_p50_ms": round(quiet.quantile(0.5), 1),
        "quiet_p99_ms": round(quiet.quantile(0.99), 1),
        "honest_p50_ms": round(honest.quantile(0.5), 1),
        "honest_p99_ms": round(honest.quantile(0.99), 1),
        "honest_calls": len(honest.latencies),
        "failed": len(honest.errors),
        "first_error": honest.errors[0][:200] if honest.errors else "",
        "answers_after": honest_client(server, kind, images).ask(),
    }
    row["faults"] = faults(row)
    print(json.dumps(row), flush=True)
    return row


def run_attacks(attacks, server, seconds, honest):
    """Runs attacks beside the honest client. Returns the number of bytes sent."""
    running = [begin(attack, server, seconds) for attack in attacks]
    honest.run_until(time.monotonic() + seconds)
    for process, _ in running:
        process.join(5)
        # It is None while threads wait for responses.
        if process.exitcode:
            sys.exit(f"an attack failed with exit code {process.exitcode}")
        process.kill()
        process.join()
    return sum(sent.value for _, sent in running)


def faults(row):
    """Returns what is wrong with a row."""
    found = []
    if not row["sent_kb"]:
        found.append("the attack sent nothing")
    if row["failed"]:
        found.append(f"{row['failed']} honest calls failed: {row['first_error']}")
    if not row["answers_after"]:
        found.append("the server did not answer after the attack")
    if row["memory_mb"] > MAX_EXTRA_MB:
        found.append(f"memory rose by {row['memory_mb']} MB, {MAX_EXTRA_MB} MB allowed")
    limit = MAX_LATENCY_RATIO * max(row["quiet_p99_ms"], MIN_QUIET_P99_MS)
    if row["honest_p99_ms"] > limit:
        found.append(f"honest p99 {row['honest_p99_ms']} ms, {limit:.0f} ms allowed")
    return found


def each(arguments, images):
    """Runs each attack against a separate server."""
    rows = []
    for attack in ATTACKS:
        if arguments.only and attack.name not in arguments.only:
            continue
        server = start(attack.needs_keys, images, attack.max_files)

        def abuse(honest, attack=attack, server=server):
            return run_attacks([attack], server, arguments.seconds, honest)

        try:
            rows.append(measure(attack.name, server, attack.needs_keys, attack.honest, images, abuse))
        finally:
            server.stop()
    return rows


def equal_answers(server):
    """Returns how many answers on the test split of easy-VQA have the tokens of the reference."""
    script = Path(__file__).resolve().parents[1] / "reference/ask_easy_vqa.py"
    command = [sys.executable, "-B", str(script), "--server", server.address]
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in completed.stdout.splitlines() if line.startswith("token ids equal")]
    if not lines:
        sys.exit(f"{script.name} failed: {completed.stdout}{completed.stderr}")
    return int(lines[0].split()[-1])


def mixed(arguments, images):
    """Runs three attacks at a time on one server."""
    suited = [attack for attack in ATTACKS if not attack.max_files]
    rng = random.Random(arguments.seed)
    server = start(False, images, 0)
    equal = [equal_answers(server)]

    def abuse(honest):
        end, sent_bytes = time.monotonic() + arguments.seconds, 0
        while time.monotonic() < end:
            sent_bytes += run_attacks(rng.sample(suited, 3), server, TURN_S, honest)
        return sent_bytes

    try:
        row = measure("mixed", server, False, "image", images, abuse)
        equal.append(equal_answers(server))
    finally:
        server.stop()
    row["equal_before"], row["equal_after"] = equal
    print(f"easy-VQA: {equal[0]} answers as the reference before, {equal[1]} after", flush=True)
    if equal[1] < equal[0]:
        row["faults"].append(f"{equal[0] - equal[1]} answers changed")
    return [row]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=["each", "mixed"])
    parser.add_argument("--seconds", type=int, default=15, help="of each attack, or of the mix")
    parser.add_argument("--only", nargs="*", help="names of attacks")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, help="folder for MODE.json")
    arguments = parser.parse_args()
    rows = {"each": each, "mixed": mixed}[arguments.mode](arguments, ImageSource())
    if arguments.output:
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / f"{arguments.mode}.json").write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        for fault in row["faults"]:
            print(f"{row['attack']}: {fault}", file=sys.stderr)
    sys.exit(any(row["faults"] for row in rows))


if __name__ == "__main__":
    main()
