"""Draws the results of peers.py: the median of each system with its range, by kind of traffic.

    python3 benches/peers/draw.py benches/results/peers/peers.json docs/images/peers.svg

The script needs matplotlib.
"""

import json
import statistics
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
# Equal results give equal files.
matplotlib.rcParams["svg.hashsalt"] = "peers"
import matplotlib.pyplot as plt  # noqa: E402

BLIP_SERVE_COLOR, PEER_COLOR = "#1b6ca8", "#b8bfc7"


def main():
    results, output = Path(sys.argv[1]), sys.argv[2]
    raw = json.loads(results.read_text())
    rates = {}
    for entry in raw["reports"]:
        of_scenario = rates.setdefault(entry["scenario"], {})
        of_scenario[entry["system"]] = [report["questions_per_s"] for report in entry["reports"]]
    figure, panels = plt.subplots(1, len(rates), figsize=(11, 2.9), layout="constrained")
    for panel, (scenario, of_systems) in zip(panels, rates.items()):
        systems = list(of_systems)[::-1]
        medians = [statistics.median(of_systems[system]) for system in systems]
        below = [median - min(of_systems[system]) for system, median in zip(systems, medians)]
        above = [max(of_systems[system]) - median for system, median in zip(systems, medians)]
        colours = [BLIP_SERVE_COLOR if system == "blip-serve" else PEER_COLOR for system in systems]
        bars = panel.barh(systems, medians, color=colours, xerr=[below, above], ecolor="#444444")
        panel.bar_label(bars, [f"{median:,.0f}" for median in medians], padding=6, fontsize=8)
        panel.set_title(scenario, fontsize=10)
        panel.set_xlim(0, max(medians) * 1.3)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
    facts = raw["facts"]
    figure.supxlabel(
        f"questions per second; demo model, {facts['cores']} cores, {facts['clients']} clients, "
        f"{facts['repeats']} repeats, began {facts['began'][:10]}",
        fontsize=8,
    )
    figure.savefig(output, metadata={"Date": None})


if __name__ == "__main__":
    main()
