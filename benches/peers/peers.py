"""Measures blip-serve next to other servers of the same model.

All have the same weights, machine, cores, clients and questions. Each system first runs with every
setting of a small grid. Then all take turns with their fastest setting, several times, so that
other load on the machine affects all alike. `make bench-peers` installs the requirements and runs
this.
"""

import argparse
import contextlib
import datetime
import itertools
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import sysconfig
import time
import urllib.request
from pathlib import Path

import easy_vqa

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

# Traffic of one question per request. easy-vqa has 9.7 questions per image, so that all but one in
# 9.7 are about a cached image.
SCENARIOS = {
    "new images": ["--reuse", "0"],
    "9.7 questions per image": ["--reuse", str(round(1 - 1 / 9.673, 3)), "--pool", "100"],
    "cached images": ["--reuse", "1", "--pool", "100"],
}
# Traffic for the answer cache, which only blip-serve has. The pairs of image and question are few,
# so that the warm-up asks all of them.
CACHED_ANSWERS = "cached answers"
CACHED_ANSWERS_TRAFFIC = ["--reuse", "1", "--pool", "100"]
CACHED_ANSWERS_QUESTIONS = 10
PEERS = ("litserve", "mosec", "triton")
PROTOCOL = {"litserve": "json", "mosec": "json", "triton": "kserve"}
PATH = {"litserve": "/predict", "mosec": "/inference", "triton": "/v2/models/blip/infer"}
# One worker with both cores, or a worker for each core.
SHAPES = ({"WORKERS": 1, "THREADS": 2}, {"WORKERS": 2, "THREADS": 1})
BLIP_SERVE_SHAPES = (*SHAPES, {"WORKERS": 1, "THREADS": 1})
BATCHES = (16, 32, 64)
WAITS_MS = (1, 10)


def free_port():
    """Returns an unused TCP port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(setting, model, port=0):
    """Returns the environment of a peer."""
    values = {"MODEL": model, "PORT": port, **setting}
    return (
        os.environ
        | {f"PEER_{name}": str(value) for name, value in values.items()}
        | {
            # Threads of the tokenizer would compete with those of torch.
            "TOKENIZERS_PARALLELISM": "false",
            # Triton's Python backend must find the library of the Python whose packages it uses.
            "LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR"),
        }
    )


@contextlib.contextmanager
def running(command, log, env=None):
    """Runs a process and stops it with all its children."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=env, cwd=HERE, start_new_session=True
        )
    try:
        yield process
    finally:
        # Workers are separate processes.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            pass
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Runner:
    """Starts systems and sends traffic to them."""

    def __init__(self, options, work):
        self.options, self.work = options, work
        self.images = Path(next(iter(easy_vqa.get_test_image_paths().values()))).parent
        self.questions = work / "questions.txt"
        texts, _, _ = easy_vqa.get_test_questions()
        self.questions.write_text("\n".join(texts) + "\n")
        self.few_questions = work / "few_questions.txt"
        self.few_questions.write_text("\n".join(list(dict.fromkeys(texts))[:CACHED_ANSWERS_QUESTIONS]) + "\n")

    def bench(self, server, protocol, traffic, seconds, name, questions=None):
        """Returns one report of `blip-serve bench`. By default it asks all questions."""
        output = self.work / "report.json"
        command = [self.options.bin, "bench", "--server", server, "--protocol", protocol]
        command += ["--clients", str(self.options.clients), "--images", str(self.images)]
        command += [
            "--questions",
            str(questions or self.questions),
            "--seconds",
            str(seconds),
            "--warm-up-s",
            "2",
        ]
        command += ["--name", name, "--output", str(output), *traffic]
        result = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if result.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {result.stdout}{result.stderr}")
        return json.loads(output.read_text())

    @contextlib.contextmanager
    def blip_serve(self, setting, answer_cache_bytes=0):
        """Runs blip-serve. The comparison is without the answer cache, which no peer has."""
        port = free_port()
        command = [self.options.bin, "serve", "--model", self.options.model, "--device", "cpu"]
        command += ["--engines", str(setting["WORKERS"]), "--engine-threads", str(setting["THREADS"])]
        command += ["--grpc-listen", f"127.0.0.1:{port}", "--http-listen", "off"]
        command += ["--metrics-listen", "127.0.0.1:0", "--answer-cache-bytes", str(answer_cache_bytes)]
        with running(command, self.work / "blip-serve.log") as process:
            health = [self.options.bin, "health", "--server", f"http://127.0.0.1:{port}"]
            wait(process, lambda: subprocess.run(health, capture_output=True).returncode == 0)
            yield f"http://127.0.0.1:{port}", "grpc"

    @contextlib.contextmanager
    def peer(self, peer, setting):
        """Runs a peer."""
        port = free_port()
        url = f"http://127.0.0.1:{port}{PATH[peer]}"
        env = environment(setting, self.options.model, port)
        with running([sys.executable, f"{peer}_server.py"], self.work / f"{peer}.log", env) as process:
            wait(process, lambda: answers(url, PROTOCOL[peer], self.images))
            yield url, PROTOCOL[peer]

    def plain(self, setting, seconds):
        """Returns the questions per second of transformers without a server."""
        command = [sys.executable, "plain.py", str(self.images), str(self.questions), str(seconds)]
        env = environment(setting, self.options.model)
        result = subprocess.run(command, capture_output=True, text=True, env=env, cwd=HERE, timeout=600)
        if result.returncode != 0:
            raise RuntimeError(result.stderr)
        return json.loads(result.stdout)["questions_per_s"]


def answers(url, protocol, images):
    """Returns whether a server answers a question."""
    import base64

    image = base64.b64encode(next(images.iterdir()).read_bytes()).decode()
    question = "what color is the shape?"
    if protocol == "json":
        body = {"image": image, "questions": [question]}
    else:
        body = {
            "inputs": [
                {"name": name, "shape": [1, 1], "datatype": "BYTES", "data": [value]}
                for name, value in (("image", image), ("question", question))
            ]
        }
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status == 200
    except OSError:
        return False


def wait(process, ready, limit_s=180):
    """Waits until a server is ready."""
    end = time.monotonic() + limit_s
    while not ready():
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"{process.args} is not ready (exit code {process.returncode})")
        time.sleep(0.2)


def setting_of(key):
    """Returns the setting of a key of `tried`."""
    return {name.upper(): int(value) for name, value in (part.split("=") for part in key.split())}


def search(runner, seconds, known):
    """Returns the fastest setting of each system for new images, and all rates.

    `known` holds the rates of an earlier search.
    """
    best, tried = {}, {**known, "blip-serve": {}}
    for shape in BLIP_SERVE_SHAPES:
        key = " ".join(f"{name.lower()}={value}" for name, value in shape.items())
        with runner.blip_serve(shape) as (url, protocol):
            report = runner.bench(url, protocol, SCENARIOS["new images"], seconds, "blip-serve")
            tried["blip-serve"][key] = report["questions_per_s"]
        print(f"blip-serve {key}: {tried['blip-serve'][key]:.0f} questions/s", file=sys.stderr, flush=True)
    best["blip-serve"] = setting_of(max(tried["blip-serve"], key=tried["blip-serve"].get))
    for peer in PEERS:
        rates = dict(known.get(peer, {}))
        for shape, batch, wait_ms in itertools.product(SHAPES, BATCHES, WAITS_MS):
            setting = {**shape, "BATCH": batch, "WAIT_MS": wait_ms}
            key = " ".join(f"{name.lower()}={value}" for name, value in setting.items())
            if key in rates:
                continue
            try:
                with runner.peer(peer, setting) as (url, protocol):
                    report = runner.bench(url, protocol, SCENARIOS["new images"], seconds, peer)
                rates[key] = report["questions_per_s"] if report["failed"] == 0 else 0.0
            except RuntimeError as error:
                print(f"{peer} {key}: {error}", file=sys.stderr)
                rates[key] = 0.0
            print(f"{peer} {key}: {rates[key]:.0f} questions/s", file=sys.stderr, flush=True)
        tried[peer] = rates
        key = max(rates, key=rates.get)
        if rates[key] > 0:
            best[peer] = setting_of(key)
    rates = dict(known.get("plain", {}))
    for batch in (*BATCHES, 128):
        if f"batch={batch}" in rates:
            continue
        setting = {"WORKERS": 1, "THREADS": 2, "BATCH": batch, "WAIT_MS": 0}
        rates[f"batch={batch}"] = runner.plain(setting, seconds)
        print(f"plain batch={batch}: {rates[f'batch={batch}']:.0f} questions/s", file=sys.stderr, flush=True)
    tried["plain"] = rates
    best["plain"] = {
        "WORKERS": 1,
        "THREADS": 2,
        "BATCH": int(max(rates, key=rates.get).split("=")[1]),
        "WAIT_MS": 0,
    }
    return best, tried


def measure(runner, best, repeats, seconds):
    """Returns reports by system and scenario. The systems take turns."""
    reports = {}
    for repeat in range(repeats):
        for system in best:
            if system == "plain":
                # It has no cache, so that the rate is the same in every scenario.
                rate = runner.plain(best["plain"], seconds)
                for scenario in SCENARIOS:
                    report = {"questions_per_s": rate, "latency_ms": None, "failed": 0}
                    reports.setdefault((system, scenario), []).append(report)
                continue
            server = (
                runner.blip_serve(best[system])
                if system == "blip-serve"
                else runner.peer(system, best[system])
            )
            with server as (url, protocol):
                for scenario, traffic in SCENARIOS.items():
                    # Each repeat has another seed, so that no image of the last one is cached.
                    report = runner.bench(
                        url, protocol, [*traffic, "--seed", str(repeat + 1)], seconds, system
                    )
                    reports.setdefault((system, scenario), []).append(report)
                    print(
                        f"{repeat + 1}/{repeats} {system}, {scenario}: {report['questions_per_s']:.0f} questions/s, "
                        f"p99 {report['latency_ms']['p99']:.0f} ms, {report['failed']} failed",
                        file=sys.stderr,
                        flush=True,
                    )
    return reports


def measure_cached_answers(runner, setting, repeats, seconds):
    """Returns reports of blip-serve without and with its answer cache, in turns."""
    reports = {"without": [], "with": []}
    for repeat in range(repeats):
        for cache, answer_cache_bytes in (("without", 0), ("with", 32 << 20)):
            with runner.blip_serve(setting, answer_cache_bytes) as (url, protocol):
                traffic = [*CACHED_ANSWERS_TRAFFIC, "--seed", str(repeat + 1)]
                report = runner.bench(url, protocol, traffic, seconds, "blip-serve", runner.few_questions)
            reports[cache].append(report)
            print(
                f"{repeat + 1}/{repeats} blip-serve, {CACHED_ANSWERS}, {cache} the answer cache: "
                f"{report['questions_per_s']:.0f} questions/s",
                file=sys.stderr,
                flush=True,
            )
    return reports


def table_cached_answers(reports):
    """Returns the table of the answer cache in Markdown."""
    lines = [
        f"### {CACHED_ANSWERS.capitalize()}: blip-serve only",
        "",
        "| answer cache | questions/s | p50, ms | p99, ms | failed |",
        "| --- | --- | --- | --- | --- |",
    ]
    for cache, of_cache in reports.items():
        rate = spread([report["questions_per_s"] for report in of_cache])
        p50, p99 = (spread([report["latency_ms"][name] for report in of_cache], 1) for name in ("p50", "p99"))
        lines.append(f"| {cache} | {rate} | {p50} | {p99} | {sum(report['failed'] for report in of_cache)} |")
    return "\n".join([*lines, ""])


def spread(values, digits=0):
    """Returns the median (minimum to maximum) as text."""
    form = f"{{:,.{digits}f}}"
    return (
        f"{form.format(statistics.median(values))} ({form.format(min(values))} to {form.format(max(values))})"
    )


def table(reports, systems):
    """Returns the tables of all scenarios in Markdown."""
    lines = []
    for scenario in SCENARIOS:
        lines += [
            f"### {scenario.capitalize()}",
            "",
            "| system | questions/s | blip-serve is | p50, ms | p99, ms | failed |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        blip_serve = [report["questions_per_s"] for report in reports["blip-serve", scenario]]
        for system in systems:
            of_system = reports[system, scenario]
            rates = [report["questions_per_s"] for report in of_system]
            ratios = [rate / peer_rate for rate, peer_rate in zip(blip_serve, rates, strict=True)]
            latencies = [report["latency_ms"] for report in of_system if report["latency_ms"]]
            p50, p99 = (
                spread([latency[name] for latency in latencies], 1) if latencies else "no server"
                for name in ("p50", "p99")
            )
            failed = sum(report["failed"] for report in of_system)
            ratio = "" if system == "blip-serve" else f"{spread(ratios, 2)} times as fast"
            lines.append(f"| {system} | {spread(rates)} | {ratio} | {p50} | {p99} | {failed} |")
        lines.append("")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bin", required=True, help="blip-serve program, a release build")
    parser.add_argument("--model", default=str(ROOT / "models/demo"), help="checkpoint folder")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=8, help="measured seconds of each run")
    parser.add_argument("--search-seconds", type=int, default=4, help="measured seconds of each setting")
    parser.add_argument("--tried", type=Path, help="earlier peers.json of this machine, to skip settings")
    parser.add_argument("--output", required=True, type=Path, help="folder for the results")
    options = parser.parse_args()
    options.bin = str(Path(options.bin).resolve())
    options.output.mkdir(parents=True, exist_ok=True)
    work = HERE / "scratch"
    work.mkdir(exist_ok=True)
    runner = Runner(options, work)
    began = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    known = json.loads(options.tried.read_text())["facts"]["tried"] if options.tried else {}
    best, tried = search(runner, options.search_seconds, known)
    reports = measure(runner, best, options.repeats, options.seconds)
    cached_answers = measure_cached_answers(runner, best["blip-serve"], options.repeats, options.seconds)
    versions = {
        name: __import__("importlib.metadata").metadata.version(name)
        for name in ("torch", "transformers", "litserve", "mosec", "nvidia-pytriton")
    }
    facts = {
        "began": began,
        "blip_serve": subprocess.run(
            [options.bin, "--version"], capture_output=True, text=True
        ).stdout.strip(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "load_average_at_the_end": os.getloadavg(),
        "clients": options.clients,
        "seconds": options.seconds,
        "repeats": options.repeats,
        "versions": versions,
        "best": best,
        "tried": tried,
    }
    raw = {
        "facts": facts,
        "reports": [
            {"system": system, "scenario": scenario, "reports": of_system}
            for (system, scenario), of_system in reports.items()
        ],
        "cached_answers": cached_answers,
    }
    (options.output / "peers.json").write_text(json.dumps(raw, indent=1) + "\n")
    text = table(reports, list(best)) + "\n" + table_cached_answers(cached_answers)
    (options.output / "peers.md").write_text(text)
    print(text)


def processor():
    """Returns the name of the processor."""
    names = [
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    main()
