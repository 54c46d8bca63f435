"""Which metrics there are, and which ones a query reads."""

import re

import yaml
from conftest import ROOT, RULES

# Those of the library for processes that something here reads; the running program is held to them.
PROCESS = {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_threads", "process_start_time_seconds"}
NAME = re.compile(r"\b(?:blip|process|DCGM|kube)[_:][\w:]+")
TEXT = re.compile(r'"(?:[^"\\]|\\.)*"' + r"|'(?:[^'\\]|\\.)*'")


def declared():
    """{name: kind} of docs/metrics.md."""
    return dict(re.findall(r"^\| `(blip_\w+)` \| (\w+) \|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE))


def recorded():
    """What the recording rules make."""
    return {rule["record"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"] if "record" in rule}


def series():
    """Every name that a query may read, DCGM's aside."""
    names = PROCESS | recorded()
    for name, kind in declared().items():
        names |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"} if kind == "histogram" else {name}
    return names


def read_by(query):
    """The names of metrics in a query; what stands in quotes is none."""
    return set(NAME.findall(TEXT.sub('""', query)))
