"""Renders the chart with helm and starts the program that BLIP_SERVE_BIN names."""

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
ADAPTER_RULES = ROOT / "deploy/prometheus/adapter-rules.yaml"
VALUES = sorted(path.stem for path in (HERE / "values").glob("*.yaml"))
READY = re.compile(r"ready: grpc (\S+), http (\S+), metrics (\S+), model")


def tool(*command):
    """Runs a tool. Returns its result, whatever the exit code."""
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, timeout=120
    )


def program():
    """Returns the path of the program."""
    return os.environ["BLIP_SERVE_BIN"]


def template(*arguments, chart=CHART):
    """Runs `helm template`."""
    return tool("helm", "template", "shop", chart, "--namespace", "vision", *arguments)


class Objects:
    """The rendered objects of the chart."""

    def __init__(self, text):
        self.all = [document for document in yaml.safe_load_all(text) if document]

    def of(self, kind, suffix=None):
        """Returns all objects of a kind, or the one whose name has a suffix."""
        selected = [each for each in self.all if each["kind"] == kind]
        if suffix is None:
            return selected
        (one,) = [each for each in selected if each["metadata"]["name"].endswith(suffix)]
        return one

    def one(self, kind):
        """Returns the only object of a kind."""
        (one,) = self.of(kind)
        return one

    @property
    def pod(self):
        """The pod specification of the deployment."""
        return self.one("Deployment")["spec"]["template"]["spec"]

    @property
    def server(self):
        """The container of the server."""
        (container,) = [each for each in self.pod["containers"] if each["name"] == "blip-serve"]
        return container

    @property
    def config(self):
        """The contents of blip-serve.toml."""
        (one,) = [each for each in self.of("ConfigMap") if "blip-serve.toml" in each["data"]]
        return one["data"]["blip-serve.toml"]


@functools.cache
def rendered(values, *arguments):
    """Returns the objects for a file in values/."""
    result = template("--values", HERE / f"values/{values}.yaml", *arguments)
    assert result.returncode == 0, result.stderr
    return Objects(result.stdout)


@pytest.fixture
def serve():
    """A function that starts a server and returns its addresses for gRPC, HTTP and metrics."""
    processes = []

    def start(*options, **environment):
        command = [
            program(),
            "serve",
            "--device",
            "cpu",
            "--engine-threads",
            "1",
            "--grpc-listen",
            "127.0.0.1:0",
        ]
        command += ["--http-listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", *options]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
        )
        processes.append(process)
        line = process.stdout.readline()
        found = READY.search(line)
        assert found, f"{command} printed {line!r}"
        return found.groups()

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()
