"""Renders the chart by the real helm, and starts the program that BLIP_SERVE_BIN names."""

import functools
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CHART = ROOT / "deploy/helm/blip-serve"
RULES = ROOT / "deploy/prometheus/rules.yaml"
DASHBOARD = ROOT / "deploy/grafana/dashboard.json"
VALUES = sorted(path.stem for path in (HERE / "values").glob("*.yaml"))
READY = re.compile(r"ready: grpc (\S+), http (\S+), metrics (\S+), model")


def tool(*command):
    """Runs one of the tools; its result, whatever its exit code."""
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, timeout=120)


def program():
    return os.environ["BLIP_SERVE_BIN"]


def template(*arguments):
    return tool("helm", "template", "shop", CHART, "--namespace", "vision", *arguments)


class Objects:
    """What a chart rendered."""

    def __init__(self, text):
        self.all = [document for document in yaml.safe_load_all(text) if document]

    def of(self, kind, suffix=None):
        """All of this kind, or the one whose name ends so."""
        found = [each for each in self.all if each["kind"] == kind]
        if suffix is None:
            return found
        (one,) = [each for each in found if each["metadata"]["name"].endswith(suffix)]
        return one

    def one(self, kind):
        (one,) = self.of(kind)
        return one

    @property
    def pod(self):
        return self.one("Deployment")["spec"]["template"]["spec"]

    @property
    def server(self):
        (container,) = self.pod["containers"]
        return container

    @property
    def config(self):
        (one,) = [each for each in self.of("ConfigMap") if "blip-serve.toml" in each["data"]]
        return one["data"]["blip-serve.toml"]


@functools.cache
def rendered(values, *arguments):
    """The objects of one file in values/."""
    result = template("--values", HERE / f"values/{values}.yaml", *arguments)
    assert result.returncode == 0, result.stderr
    return Objects(result.stdout)


@pytest.fixture
def serve():
    """Starts a server; gives its addresses for gRPC, HTTP and metrics."""
    processes = []

    def start(*options, **environment):
        command = [program(), "serve", "--device", "cpu", "--engine-threads", "1", "--grpc-listen", "127.0.0.1:0",
                   "--http-listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})
        processes.append(process)
        line = process.stdout.readline()
        found = READY.search(line)
        assert found, f"{command} said {line!r}"
        return found.groups()

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()
