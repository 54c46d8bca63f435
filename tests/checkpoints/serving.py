"""A server of released checkpoints, and how far what it says is from the reference."""

import math
import os
import re
import subprocess
from pathlib import Path

from asking import BLIP, ask
from client import Client

READY = re.compile(r"ready: grpc http://(\S+), .* loaded in ([\d.]+) s$")
# Of scores in f32 behind two towers of twelve or twenty-four layers: both sides round. Candidates' scores are sums of some forty.
TOLERANCE = dict(abs_tol=1e-4, rel_tol=1e-5)


class Server:
    """`blip-serve serve` of these models, which has said that it is ready. `variables` are those of the hub; its log goes to `log`."""

    def __init__(self, *models, variables, log):
        command = [os.environ["BLIP_SERVE_BIN"], "serve", "--device", "cpu", "--model", ",".join(map(str, models)),
                   "--answer-cache-bytes", "0", "--grpc-listen", "127.0.0.1:0", "--http-listen", "off", "--metrics-listen", "off"]
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))}
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=ours | variables)
        line = self.process.stdout.readline().strip()
        ready = READY.search(line)
        if not ready:
            self.stop()
            raise AssertionError(f"{command} said {line!r}, and in its log {log.read_text()[-2000:]!r}")
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
    """The cases of each task, in the order in which tasks come first."""
    tasks = {}
    for case in cases:
        tasks.setdefault(case.task, []).append(case)
    return tasks


def compare(client, reference):
    """The largest difference of a score from the reference's; ids have to be equal."""
    largest = 0.0
    for task, cases in by_task(reference.cases).items():
        for case, (ids, scores) in zip(cases, ask(client, reference.pictures, cases), strict=True):
            place = f"{task} of {case.text!r} about picture {case.image}"
            assert ids == case.ids, f"{place}: {ids} instead of {case.ids}"
            largest = max(largest, difference(scores, case.scores, place))
    return largest


def difference(scores, expected, place):
    """The largest one, none of which may be over the tolerance."""
    pairs = list(zip(scores, expected, strict=True))
    assert all(math.isclose(score, other, **TOLERANCE) for score, other in pairs), f"{place}: {scores} instead of {expected}"
    return max(abs(score - other) for score, other in pairs)


def told(cases):
    """How many cases there are of each task."""
    return ", ".join(f"{len(of_task)} {task}" for task, of_task in by_task(cases).items())
