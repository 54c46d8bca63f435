"""Prometheus scrapes the program under load."""

import base64
import itertools
import json
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request

import pytest
import yaml
from conftest import ADAPTER_RULES, ROOT, RULES, program, rendered, tool
from metric_names import PROCESS
from test_queries import panels

IMAGE_FILE = ROOT / "models/demo/demo.png"
PNG = base64.b64encode(IMAGE_FILE.read_bytes()).decode()
# The load does not cause these: a GPU, a drain, too many connections, a client that leaves during a
# fetch.
RARE = (
    "DCGM_FI_",
    "blip_device_memory",
    "blip_drain_deadline",
    "blip_connections_refused_total",
    "blip_inputs_cancelled_total",
    "blip_decode_workers",
    "blip_write_stalls_total",
)
ROUNDS = 200


def get(url):
    """Returns the body."""
    with urllib.request.urlopen(url, timeout=10) as response:
        return response.read().decode()


class Prometheus:
    """A Prometheus server that scrapes one program and evaluates the rules."""

    def __init__(self, target, folder):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES)],
            # The labels are those of the Prometheus operator.
            "scrape_configs": [
                {
                    "job_name": "blip-serve",
                    "static_configs": [
                        {
                            "targets": [target.removeprefix("http://")],
                            "labels": {"namespace": "vision", "pod": "shop-blip-serve-1"},
                        }
                    ],
                }
            ],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        with (folder / "log").open("w") as log:
            self.process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={folder}/prometheus.yml",
                    f"--storage.tsdb.path={folder}/data",
                    f"--web.listen-address={self.address}",
                ],
                stdout=log,
                stderr=log,
            )

    def api(self, path, **parameters):
        """Returns the data of a response, or None during the start."""
        try:
            return json.loads(
                get(f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
            )["data"]
        except (urllib.error.URLError, ConnectionError) as error:
            # Prometheus answers 503 until it has read its write-ahead log.
            assert getattr(error, "code", 503) == 503, error.read().decode()
            assert self.process.poll() is None, "prometheus has ended"
            return None

    def query(self, query):
        """Returns the samples of a query."""
        data = self.api("query", query=query)
        return data["result"] if data else []


@pytest.fixture
def load(serve, tmp_path):
    """Returns (address of the metrics, function).

    The function asks about an earlier image, new images and a file that is not an image.
    """
    address, http, metrics = serve("--max-batch-questions", "2")
    numbers = itertools.count()

    def ask():
        # Another file is encoded again although its pixels are equal. So the scheduler learns the
        # cost.
        new = [tmp_path / f"{next(numbers)}.png" for _ in range(4)]
        for file in new:
            file.write_bytes(IMAGE_FILE.read_bytes() + file.name.encode())
        images = itertools.chain.from_iterable(("--image", file) for file in (IMAGE_FILE, __file__, *new))
        tool(
            program(),
            "ask",
            "--server",
            address,
            *images,
            "--question",
            "is there a circle?",
            "--question",
            "what colour is it?",
        )
        body = json.dumps(
            {"inputs": {"texts": [["is it red?"]], "images": [{"url": "data:image/png;base64," + PNG}]}}
        ).encode()
        urllib.request.urlopen(
            urllib.request.Request(f"{http}/v1/ask", body, {"content-type": "application/json"}), timeout=10
        ).close()

    return metrics, ask


def test_promtool_accepts_metrics(load):
    metrics, ask = load
    ask()
    text = get(f"{metrics}/metrics")
    result = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False, timeout=60
    )
    assert (result.returncode, result.stdout + result.stderr) == (0, "")
    assert all(f"\n{name} " in text for name in PROCESS)


def test_queries_return_data_under_load(load, tmp_path):
    metrics, ask = load
    prometheus = Prometheus(metrics, tmp_path)
    try:
        expressions = [target["expr"] for panel in panels() for target in panel["targets"]]
        queries = [query for query in expressions if not any(name in query for name in RARE)]
        triggers = rendered("gpu").one("ScaledObject")["spec"]["triggers"]
        queries += [trigger["metadata"]["query"] for trigger in triggers if trigger["type"] == "prometheus"]
        for rule in yaml.safe_load(ADAPTER_RULES.read_text())["rules"]["custom"]:
            # prometheus-adapter fills these into its template.
            parts = {
                "<<.Series>>": rule["seriesQuery"].split("{")[0],
                "<<.LabelMatchers>>": 'namespace="vision",pod=~"shop-.*"',
                "<<.GroupBy>>": "pod",
            }
            query = rule["metricsQuery"]
            for name, value in parts.items():
                query = query.replace(name, value)
            queries.append(query)
        variables = {"$__rate_interval": "30s", "$namespace": ".*", "$job": ".*"}
        for name, value in variables.items():
            queries = [query.replace(name, value) for query in queries]
        waiting = set(queries)
        for _ in range(ROUNDS):
            ask()
            waiting -= {
                query
                for query in waiting
                if any(sample["value"][1] != "NaN" for sample in prometheus.query(query))
            }
            if not waiting:
                break
        assert not waiting, waiting
        rules = [rule for group in prometheus.api("rules")["groups"] for rule in group["rules"]]
        assert rules and {rule["health"] for rule in rules} == {"ok"}, rules
        (answers,) = prometheus.query("sum(blip_jobs_answered_total)")
        assert float(answers["value"][1]) > 0
        # The rare queries must be valid, too.
        for panel in panels():
            for target in panel["targets"]:
                prometheus.query(target["expr"].replace("$__rate_interval", "30s"))
    finally:
        prometheus.process.kill()
        prometheus.process.wait()
