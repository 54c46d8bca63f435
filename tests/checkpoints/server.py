"""A server of released checkpoints, and the comparison of its results with the reference."""

import math
import os
import re
import subprocess
from pathlib import Path

from client import Client
from task_requests import BLIP, ask

READY = re.compile(r"ready: grpc http://(\S+), .* loaded in ([\d.]+) s$")
# For scores in f32 after two networks of 12 or 24 layers. Scores of candidates are sums of about 40
# terms.
TOLERANCE = dict(abs_tol=1e-4, rel_tol=1e-5)


class Server:
    """A ready `blip-serve serve` of some models.

    `variables` configure the hub. The log goes to `log`.
    """

    def __init__(self, *models, variables, log):
        command = [
            os.environ["BLIP_SERVE_BIN"],
            "serve",
            "--device",
            "cpu",
            "--model",
            ",".join(map(str, models)),
        ]
        command += ["--answer-cache-bytes", "0", "--grpc-listen", "127.0.0.1:0"]
        command += ["--http-listen", "off", "--metrics-listen", "off"]
        hub_variables = ("HF_", "HUGGING", "TRANSFORMERS_")
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(hub_variables)
        }
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment | variables
            )
        line = self.process.stdout.readline().strip()
        ready = READY.search(line)
        if not ready:
            self.stop()
            raise AssertionError(f"{command} printed {line!r} and logged {log.read_text()[-2000:]!r}")
        self.seconds_to_ready = float(ready.group(2))
        self.client = Client(ready.group(1))

    def models(self):
        listed = self.client.method(BLIP, "ListModels")(self.client.type("blip.v1.ListModelsRequest")())
        return list(listed.models)

    def resident_mib(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) // 1024

    def stop(self):
        if self.process.poll() is None:
            if client := getattr(self, "client", None):
                client.close()
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def by_task(cases):
    """Returns the cases by task."""
    tasks = {}
    for case in cases:
        tasks.setdefault(case.task, []).append(case)
    return tasks


def compare(client, reference):
    """Compares all cases. Ids must be equal. Returns the largest difference of scores."""
    largest = 0.0
    for task, cases in by_task(reference.cases).items():
        for case, (ids, scores) in zip(cases, ask(client, reference.images, cases), strict=True):
            name = f"{task} of {case.text!r}, image {case.image}"
            assert ids == case.ids, f"{name}: {ids} instead of {case.ids}"
            largest = max(largest, difference(scores, case.scores, name))
    return largest


def difference(scores, expected, name):
    """Returns the largest difference. Fails if one exceeds the tolerance."""
    pairs = list(zip(scores, expected, strict=True))
    is_close = all(math.isclose(score, other, **TOLERANCE) for score, other in pairs)
    assert is_close, f"{name}: {scores} instead of {expected}"
    return max(abs(score - other) for score, other in pairs)


def case_counts(cases):
    """Returns the number of cases of each task as text."""
    return ", ".join(f"{len(of_task)} {task}" for task, of_task in by_task(cases).items())
