"""Renders every panel of dashboard.json from metrics of the program under load.

Prometheus scrapes the program and evaluates the queries.

    PATH=$(tests/deploy/tools.sh)/bin:$PATH BLIP_SERVE_BIN=target/release/blip-serve \\
        python3 deploy/grafana/render_dashboard.py docs/images/dashboard.png

The script needs matplotlib, PyYAML and `prometheus`. It replaces Grafana, which is in no package
registry that this project uses.
"""

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from datetime import datetime, timezone
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import yaml

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = ROOT / "deploy/grafana/dashboard.json"
READY = re.compile(r"ready: grpc (\S+), http \S+, metrics http://(\S+), model")

# Options of `blip-serve bench` in each phase of the load, and the length of a phase.
PHASE_S = 30
PHASES = (
    ("--clients", "4", "--reuse", "0.8", "--pool", "50"),
    ("--clients", "64", "--reuse", "0.3", "--pool", "50"),
    ("--clients", "16", "--reuse", "0.8", "--pool", "50"),
)
# Length of the drain after the load.
DRAIN_S = 20
SCRAPE_S = 2
VARIABLES = {"$__rate_interval": f"{4 * SCRAPE_S}s", "$namespace": ".*", "$job": ".*"}
# Units of Grafana: divisor and suffix.
UNITS = {
    "reqps": (1, "/s"),
    "ops": (1, "/s"),
    "s": (1, "s"),
    "percentunit": (0.01, "%"),
    "percent": (1, "%"),
    "bytes": (2**20, "MiB"),
    "short": (1, ""),
    "mbytes": (1, "MiB"),
    "watt": (1, "W"),
    "celsius": (1, "°C"),
}
UNIT_INCHES = 0.3
WIDTH_INCHES = 17
DOTS_PER_INCH = 75


class Prometheus:
    """A Prometheus server that scrapes one program. Its data are in `folder`."""

    def __init__(self, target, folder):
        labels = {"namespace": "vision", "pod": "shop-blip-serve-1"}
        config = {
            "global": {"scrape_interval": f"{SCRAPE_S}s"},
            "scrape_configs": [
                {"job_name": "blip-serve", "static_configs": [{"targets": [target], "labels": labels}]}
            ],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.log = (folder / "log").open("w+")
        self.process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                "--web.listen-address=127.0.0.1:0",
            ],
            stdout=self.log,
            stderr=self.log,
        )

    def address(self):
        """Returns the address from the log."""
        self.log.flush()
        return re.findall(r"Listening on.*?address=(\S+)", Path(self.log.name).read_text())[-1]

    def series(self, query, start, end):
        """Yields (labels, times, values) of a query over time."""
        for name, value in VARIABLES.items():
            query = query.replace(name, value)
        parameters = urllib.parse.urlencode({"query": query, "start": start, "end": end, "step": SCRAPE_S})
        with urllib.request.urlopen(
            f"http://{self.address()}/api/v1/query_range?{parameters}", timeout=60
        ) as response:
            found = json.load(response)["data"]["result"]
        for each in found:
            times, values = zip(*each["values"])
            yield each["metric"], np.array(times) - start, np.array(values, dtype=float)


def load(program, address):
    """Runs all phases, with some invalid images. Returns the start time."""
    start = time.time()
    for options in PHASES:
        bench = subprocess.Popen(
            [program, "bench", "--server", address, "--seconds", str(PHASE_S), "--warm-up-s", "0", *options],
            stdout=subprocess.DEVNULL,
        )
        while bench.poll() is None:
            subprocess.run(
                [program, "ask", "--server", address, "--image", __file__, "--question", "what is it?"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            )
            time.sleep(1)
        assert bench.returncode == 0, f"bench failed with exit code {bench.returncode}"
    return start


def legend(template, labels):
    """Returns the legend of a series."""
    return re.sub(r"{{(\w+)}}", lambda name: labels.get(name.group(1), ""), template).strip()


def draw(axes, panel, results):
    """Draws one panel. `results` has (legend, series) for each of its targets."""
    scale, unit = UNITS[panel["fieldConfig"]["defaults"].get("unit", "short")]
    axes.set_title(
        panel["title"] + (f"  [{unit}]" if unit else ""), loc="left", fontsize=9, fontweight="bold"
    )
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    if panel["type"] in ("stat", "table"):
        axes.axis("off")
        for row, (template, (labels, _, values)) in enumerate(
            (template, each) for template, series in results for each in series
        ):
            text = (
                f"{values[-1]:g}"
                if panel["type"] == "stat"
                else "\n".join(f"{name}: {value}" for name, value in labels.items())
            )
            axes.text(
                0.02,
                0.8 - 0.3 * row,
                text,
                fontsize=30 if panel["type"] == "stat" else 8,
                va="top",
                transform=axes.transAxes,
            )
    elif panel["type"] == "heatmap":
        ((_, series),) = results
        bounds = sorted((float(labels["le"].replace("+Inf", "inf")), values) for labels, _, values in series)
        # Buckets are cumulative.
        each = np.diff(np.array([values for _, values in bounds]), axis=0, prepend=0)
        times = series[0][1]
        axes.pcolormesh(times, range(len(bounds)), np.nan_to_num(each), cmap="YlOrRd", shading="nearest")
        axes.set_yticks(range(len(bounds)), [f"{bound:g}" for bound, _ in bounds])
    else:
        for template, series in results:
            for labels, times, values in series:
                axes.plot(times, values / scale, linewidth=0.9, label=legend(template, labels))
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=6, loc="upper left", ncols=2, framealpha=0.6)
    axes.set_xlabel("seconds", fontsize=6, labelpad=1)


def figure(panels, data, caption, path):
    """Draws all panels in their grid. Rows without data are reduced to their title."""
    panels = sorted(panels, key=lambda panel: (panel["gridPos"]["y"], panel["gridPos"]["x"]))
    rows = []
    for panel in panels:
        if panel["type"] == "row":
            rows.append((panel, []))
        else:
            rows[-1][1].append(panel)
    blocks, top = [], 2
    for row, members in rows:
        shown = [panel for panel in members if any(series for _, series in data[panel["id"]])]
        blocks.append((row, members if shown else [], top, len(members)))
        top += 1 + (
            max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in members) - members[0]["gridPos"]["y"]
            if shown
            else 0
        )
    page = plt.figure(figsize=(WIDTH_INCHES, top * UNIT_INCHES))
    page.text(0.01, 1 - 1 / top, caption, fontsize=10, va="center")
    for row, members, y, number in blocks:
        title = row["title"] if members else f"{row['title']}: no data, {number} panels omitted"
        page.text(0.01, 1 - (y + 0.5) / top, title, fontsize=13, va="center", color="tab:blue")
        for panel in members:
            position = panel["gridPos"]
            left, down = position["x"] / 24 + 0.03, y + 1 + position["y"] - members[0]["gridPos"]["y"]
            bottom, width, height = (
                1 - (down + position["h"] - 1.6) / top,
                position["w"] / 24 - 0.045,
                position["h"] - 2.8,
            )
            axes = page.add_axes((left, bottom, width, height / top))
            results = data[panel["id"]]
            if any(series for _, series in results):
                draw(axes, panel, results)
            else:
                axes.set_title(panel["title"], loc="left", fontsize=9, fontweight="bold")
                axes.text(0.5, 0.5, "no data", ha="center", color="grey", transform=axes.transAxes)
                axes.set_xticks([]), axes.set_yticks([])
    path.parent.mkdir(parents=True, exist_ok=True)
    page.savefig(path, dpi=DOTS_PER_INCH)


def machine():
    """Returns the cores and the processor."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return f"{os.cpu_count()} cores of {model.group(1) if model else platform.machine()}"


def main(path):
    matplotlib.use("agg")
    program = os.environ["BLIP_SERVE_BIN"]
    server = subprocess.Popen(
        [
            program,
            "serve",
            "--device",
            "cpu",
            "--grpc-listen",
            "127.0.0.1:0",
            "--http-listen",
            "127.0.0.1:0",
            "--metrics-listen",
            "127.0.0.1:0",
            "--drain-grace-s",
            str(DRAIN_S),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    address, metrics = READY.search(server.stdout.readline()).groups()
    panels = json.loads(DASHBOARD.read_text())["panels"]
    with tempfile.TemporaryDirectory() as folder:
        prometheus = Prometheus(metrics, Path(folder))
        try:
            start = load(program, address)
            server.terminate()
            time.sleep(DRAIN_S - 2 * SCRAPE_S)
            end = time.time()
            data = {
                panel["id"]: [
                    (target["legendFormat"], list(prometheus.series(target["expr"], start, end)))
                    for target in panel["targets"]
                ]
                for panel in panels
                if panel["type"] != "row"
            }
            ((served, _, _),) = prometheus.series("blip_model_info", start, end)
        finally:
            for process in (prometheus.process, server):
                process.terminate()
                process.wait()
    day = datetime.fromtimestamp(start, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    loads = "; ".join(" ".join(options).replace("--", "") for options in PHASES)
    figure(
        panels,
        data,
        f"blip-serve {served['version']}, commit {served['commit']}, model {served['model']}, {machine()}, {day}\n"
        f"blip-serve bench, {PHASE_S} s each: {loads}; then a drain. Prometheus scraped every {SCRAPE_S} s.",
        path,
    )
    with_data = sum(1 for results in data.values() if any(series for _, series in results))
    print(f"{path}: {path.stat().st_size} bytes, {with_data} of {len(data)} panels have data")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
