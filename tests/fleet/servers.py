"""Server processes on ports that stay theirs, and proxies ahead of them."""

import os
import random
import signal
import socket
import subprocess
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(os.environ["BLIP_FLEET_TOOLS"])
HANG_LIMIT_S = 300


def free_ports(count):
    """Ports below those that the system gives to connections: a server that starts again must find its own free."""
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
    """One `blip-serve serve` that can be started again at the same address."""

    def __init__(self, *options):
        self.port, self.metrics_port = free_ports(2)
        self.address = f"127.0.0.1:{self.port}"
        self.options = options
        self.process = None
        self.answered_before = 0

    def start(self):
        command = [os.environ["BLIP_SERVE_BIN"], "serve", "--device", "cpu", "--engine-threads", "1", "--grpc-listen", self.address,
                   # Its clients ask the same again and again, and it is to have work with each of them.
                   "--answer-cache-bytes", "0",
                   "--http-listen", "off", "--metrics-listen", f"127.0.0.1:{self.metrics_port}", *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert " ready: " in line, f"{command} said {line!r}"
        return self

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def drain(self):
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(HANG_LIMIT_S)
        self.process.stdout.close()
        return code

    def metric(self, name, *labels):
        """The sum of all series of this name that carry these labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=HANG_LIMIT_S) as page:
            lines = page.read().decode().splitlines()
        found = [line for line in lines if line.split("{")[0].split(" ")[0] == name and all(label in line for label in labels)]
        return sum(float(line.rsplit(" ", 1)[1]) for line in found)

    def answered(self):
        """Calls of Ask that this process has answered."""
        return self.metric("blip_requests_total", 'method="Ask"', 'code="OK"')


class Proxy:
    """HAProxy or nginx with its file of deploy/proxy, the addresses aside."""

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

    def written(self, file, servers, listens, ports):
        """The file with addresses of these tests; each one that it names has to be there."""
        text = (ROOT / "deploy/proxy" / file).read_text()
        changes = {listens: listens.replace(":50051", self.address).replace(" 50051", f" {self.address}")}
        for number, server in enumerate(servers, start=1):
            changes[f"blip-{number}:50051" + ports] = server.address + ports.replace("9090", str(server.metrics_port))
        for written, tested in changes.items():
            assert text.count(written) == 1, f"{file} holds {written!r} {text.count(written)} times"
            text = text.replace(written, tested)
        return text

    def haproxy(self, servers, folder):
        (folder / "haproxy.cfg").write_text(self.written("haproxy.cfg", servers, "bind :50051", " check port 9090"))
        return TOOLS / "bin/haproxy", "-db", "-f", folder / "haproxy.cfg"

    def nginx(self, servers, folder):
        (folder / "blip-serve.conf").write_text(self.written("nginx.conf", servers, "listen 50051", ""))
        paths = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (folder / "nginx.conf").write_text(
            f"daemon off; pid {folder}/pid; error_log stderr crit; worker_processes 1;\n"
            f"events {{ worker_connections 4096; }}\nhttp {{ access_log off;\n{paths} include {folder}/blip-serve.conf; }}\n"
        )
        return TOOLS / "bin/nginx", "-p", folder, "-c", folder / "nginx.conf"

    def stop(self):
        self.process.terminate()
        self.process.wait()
