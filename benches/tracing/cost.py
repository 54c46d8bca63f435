"""Measures the cost of tracing.

One server has no collector. Three servers have one, at the sampling ratios 0, 0.1 and 1.

All servers and collectors run on this machine in one run. In each round, `blip-serve bench` loads
every server once, in rotating order, so that other load on the machine affects all alike. The
collectors discard the spans. The demo model answers questions about cached images. These are the
fastest requests, so that tracing has its largest relative cost.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

READY = re.compile(r"ready: grpc (\S+),")
RATIOS = {"no collector": None, "ratio 0": "0", "ratio 0.1": "0.1", "ratio 1": "1"}
TICKS = os.sysconf("SC_CLK_TCK")


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Counts spans and discards them."""

    def __init__(self):
        self.spans = 0
        self.lock = threading.Lock()
        self.server = grpc.server(
            ThreadPoolExecutor(2), options=[("grpc.max_receive_message_length", 64 << 20)]
        )
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self.server)
        self.url = f"http://127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def Export(self, request, context):
        with self.lock:
            self.spans += sum(
                len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans
            )
        return trace_service_pb2.ExportTraceServiceResponse()


class Server:
    """A running server with its collector, and the results of its rounds."""

    def __init__(self, program, ratio):
        self.collector, self.requests = Collector(), 0
        command = [program, "serve", "--device", "cpu", "--engine-threads", "1"]
        command += ["--grpc-listen", "127.0.0.1:0", "--http-listen", "off", "--metrics-listen", "off"]
        command += ["--self-test-idle-s", "0", "--answer-cache-bytes", "0"]
        command += (
            [] if ratio is None else ["--otlp-endpoint", self.collector.url, "--trace-sample-ratio", ratio]
        )
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.address = READY.search(self.process.stdout.readline()).group(1)
        self.rounds = []

    def cpu_seconds(self):
        """Returns the user and system time of all threads."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def load(self, program, seconds, clients):
        """Runs one round.

        Returns (requests per second, CPU microseconds of the server per request).
        """
        before = self.cpu_seconds()
        with tempfile.NamedTemporaryFile(suffix=".json") as report:
            command = [program, "bench", "--server", self.address, "--clients", clients]
            command += ["--seconds", seconds, "--warm-up-s", 0]
            command += ["--reuse", 1, "--pool", 20, "--size", "96x96", "--output", report.name]
            subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
            report = json.loads(Path(report.name).read_text())
        assert not report["failed"], report["errors"]
        requests = report["requests"]
        self.requests += requests
        return requests / seconds, (self.cpu_seconds() - before) / requests * 1e6


def spread(values):
    """Returns the median with minimum and maximum as text."""
    return f"{statistics.median(values):8.2f} ({min(values):.2f} to {max(values):.2f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", required=True, help="blip-serve program, a release build")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=8, help="length of a round of one server")
    parser.add_argument("--clients", type=int, default=16)
    options = parser.parse_args()
    program = str(Path(options.bin).resolve())
    servers = {name: Server(program, ratio) for name, ratio in RATIOS.items()}
    try:
        for server in servers.values():
            server.load(program, 2, options.clients)
        for turn in range(options.rounds):
            names = list(servers)
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                servers[name].rounds.append(servers[name].load(program, options.seconds, options.clients))
    finally:
        for server in servers.values():
            # The server sends its last spans before it exits.
            server.process.terminate()
            server.process.wait()
            server.collector.server.stop(None)
    version = subprocess.run(
        [program, "--version"], capture_output=True, text=True, check=True
    ).stdout.strip()
    print(
        f"{version}; {options.rounds} rounds of {options.seconds} s, {options.clients} clients, "
        f"{os.cpu_count()} cores, load average {os.getloadavg()[2]:.1f} in the last 15 minutes"
    )
    print("median (minimum to maximum); ratios are to the server without a collector in the same round")
    baseline = servers["no collector"].rounds
    for name, server in servers.items():
        rates, costs = zip(*server.rounds)
        rate_ratios = [rate / base for rate, (base, _) in zip(rates, baseline)]
        cost_ratios = [cost / base for cost, (_, base) in zip(costs, baseline)]
        print(f"{name:13} requests/s {spread(rates)}  ratio {spread(rate_ratios)}")
        print(f"{'':13} CPU us/request {spread(costs)}  ratio {spread(cost_ratios)}")
        print(f"{'':13} spans collected per request {server.collector.spans / server.requests:.2f}")


if __name__ == "__main__":
    main()
