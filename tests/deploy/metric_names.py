"""The names of existing metrics, and those that a query reads."""

import re

import yaml
from conftest import ROOT, RULES

# Metrics of the process library that queries read. A test checks that the program has them.
PROCESS = {
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_open_fds",
    "process_threads",
    "process_start_time_seconds",
}
NAME = re.compile(r"\b(?:blip|process|DCGM|kube)[_:][\w:]+")
TEXT = re.compile(r'"(?:[^"\\]|\\.)*"' + r"|'(?:[^'\\]|\\.)*'")


def declared():
    """Returns {name: kind} of docs/reference/metrics.md."""
    text = (ROOT / "docs/reference/metrics.md").read_text()
    return dict(re.findall(r"^\| `(blip_\w+)` \| (\w+) \|", text, re.MULTILINE))


def recorded():
    """Returns the names of the recording rules."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}


def series():
    """Returns every name that a query may read, except those of DCGM."""
    names = PROCESS | recorded()
    for name, kind in declared().items():
        names |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"} if kind == "histogram" else {name}
    return names


def read_by(query):
    """Returns the names of metrics in a query. Quoted texts are ignored."""
    return set(NAME.findall(TEXT.sub('""', query)))
