"""Server processes on reserved ports, and proxies in front of them."""

import os
import random
import signal
import socket
import subprocess
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(os.environ["BLIP_FLEET_TOOLS"])
TIMEOUT_S = 300


def free_ports(count):
    """Returns ports below those of outgoing connections, so that they are free after a restart."""
    ports = []
    while len(ports) < count:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in ports:
            ports.append(port)
    return ports


class Server:
    """A `blip-serve serve` process that can be restarted at the same address."""

    def __init__(self, *options):
        self.port, self.metrics_port = free_ports(2)
        self.address = f"127.0.0.1:{self.port}"
        self.options = options
        self.process = None

    def start(self):
        command = [os.environ["BLIP_SERVE_BIN"], "serve", "--device", "cpu", "--engine-threads", "1"]
        command += ["--grpc-listen", self.address, "--http-listen", "off"]
        command += ["--metrics-listen", f"127.0.0.1:{self.metrics_port}"]
        # The clients repeat their questions. Without the cache, the server computes each answer.
        command += ["--answer-cache-bytes", "0", *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert " ready: " in line, f"{command} printed {line!r}"
        return self

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def drain(self):
        """Sends SIGTERM. Returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(TIMEOUT_S)
        self.process.stdout.close()
        return code

    def metric(self, name, *labels):
        """Returns the sum of all series with this name and these labels."""
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=TIMEOUT_S
        ) as page:
            lines = page.read().decode().splitlines()
        selected = [
            line
            for line in lines
            if line.split("{")[0].split(" ")[0] == name and all(label in line for label in labels)
        ]
        return sum(float(line.rsplit(" ", 1)[1]) for line in selected)

    def answered(self):
        """Returns the number of answered calls of Ask."""
        return self.metric("blip_requests_total", 'method="Ask"', 'code="OK"')


class Proxy:
    """HAProxy or nginx with its configuration in deploy/proxy and other addresses."""

    def __init__(self, name, servers, folder):
        (port,) = free_ports(1)
        self.address = f"127.0.0.1:{port}"
        command = {"haproxy": self.haproxy, "nginx": self.nginx}[name](servers, folder)
        environment = {**os.environ, "LD_LIBRARY_PATH": str(TOOLS / "lib")}
        self.process = subprocess.Popen([str(part) for part in command], env=environment, cwd=folder)
        while self.process.poll() is None and not self.listens(port):
            pass
        assert self.process.poll() is None, f"{command} ended with {self.process.returncode}"

    @staticmethod
    def listens(port):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    def configuration(self, file, servers, listens, ports):
        """Returns the configuration with the addresses of the test.

        Every address must occur once.
        """
        text = (ROOT / "deploy/proxy" / file).read_text()
        changes = {listens: listens.replace(":50051", self.address).replace(" 50051", f" {self.address}")}
        for number, server in enumerate(servers, start=1):
            changes[f"blip-{number}:50051" + ports] = server.address + ports.replace(
                "9090", str(server.metrics_port)
            )
        for original, replacement in changes.items():
            assert text.count(original) == 1, f"{file} contains {original!r} {text.count(original)} times"
            text = text.replace(original, replacement)
        return text

    def haproxy(self, servers, folder):
        (folder / "haproxy.cfg").write_text(
            self.configuration("haproxy.cfg", servers, "bind :50051", " check port 9090")
        )
        return TOOLS / "bin/haproxy", "-db", "-f", folder / "haproxy.cfg"

    def nginx(self, servers, folder):
        (folder / "blip-serve.conf").write_text(self.configuration("nginx.conf", servers, "listen 50051", ""))
        paths = "".join(
            f"{kind}_temp_path {folder}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (folder / "nginx.conf").write_text(
            f"daemon off; pid {folder}/pid; error_log stderr crit; worker_processes 1;\n"
            f"events {{ worker_connections 4096; }}\nhttp {{ access_log off;\n{paths} include {folder}/blip-serve.conf; }}\n"
        )
        return TOOLS / "bin/nginx", "-p", folder, "-c", folder / "nginx.conf"

    def stop(self):
        self.process.terminate()
        self.process.wait()
