"""Renders the results of bench.py as Markdown.

    python3 benches/cpu/render.py FOLDER [DOCUMENT]

It writes `table.md` into the folder. In a document it replaces the text between the markers, and
the row of the suite in the table of all suites.
"""

import json
import re
import statistics
import sys
from pathlib import Path

from engines import ENGINES

TITLES = {
    "new_1x1": "single question, new image",
    "new_4x1": "4 new images",
    "new_4x6": "4 new, 6 questions each",
    "cached_1x1": "cached image, one question",
    "cached_4x6": "4 cached, 6 questions each",
}
STATES = {"quiet": "Idle machine", "busy": "Beside one busy process"}
BEGIN, END = "<!-- cpu-peers: begin -->", "<!-- cpu-peers: end -->"
# Ratios within this distance of 1 are called equal.
TIE = 0.03


class Results:
    def __init__(self, folder):
        report = json.loads((folder / "cpu-peers.json").read_text())
        self.threads = report["threads"]
        self.manifest = json.loads((folder / "manifest.json").read_text())
        self.engines = {engine: report["engines"].get(engine.key) for engine in ENGINES}
        self.engines = {engine: result for engine, result in self.engines.items() if result}

    def measured(self, precision=None):
        """Returns the engines with complete rounds."""
        chosen = [engine for engine in self.engines if precision in (None, engine.precision)]
        return [engine for engine in chosen if not self.engines[engine].get("reason")]

    def times(self, engine, state, load):
        return [each[load] for each in self.engines[engine]["rounds"][state]]

    def ratio(self, engine, other, state, load):
        """Returns the median ratio of two engines' times in the same round."""
        pairs = zip(self.times(engine, state, load), self.times(other, state, load))
        return statistics.median(one / two for one, two in pairs)

    def rounds(self, state):
        return max(len(self.engines[engine]["rounds"].get(state, [])) for engine in self.measured())

    def states(self):
        return [state for state in STATES if self.rounds(state)]


def name(engine):
    return f"{engine.name}, {engine.note}" if engine.note else engine.name


def spread(times):
    """Returns the median of times in milliseconds, with the least and the most."""
    if len(times) == 1:
        return f"{times[0]:,.0f}"
    return f"{statistics.median(times):,.0f} ({min(times):,.0f} to {max(times):,.0f})"


def row(cells):
    return f"| {' | '.join(cells)} |"


def time_table(results, state):
    yield row(["precision", "engine", *TITLES.values()])
    yield row(["---"] * 2 + ["---:"] * len(TITLES))
    for engine, result in results.engines.items():
        if not result.get("reason"):
            cells = [spread(results.times(engine, state, load)) for load in TITLES]
        elif state == "quiet":
            cells = [result["reason"]] + [""] * (len(TITLES) - 1)
        else:
            continue
        yield row([engine.precision, name(engine), *cells])


def answer_table(results):
    """Compares all answers with those of `transformers` in f32, or of the first engine measured."""
    measured = results.measured()
    reference = next((engine for engine in measured if engine.key == "transformers:f32:f32"), measured[0])
    expected = results.engines[reference]["answers"]
    yield f"Answers to {len(expected)} questions that equal those of {reference.name} in f32:"
    yield ""
    yield row(["precision", "engine", "first token", "whole answer", "resident MiB"])
    yield row(["---"] * 2 + ["---:"] * 3)
    for engine in measured:
        found = results.engines[engine]["answers"]
        first = sum(one[0] == two[0] for one, two in zip(expected, found))
        whole = sum(one == two for one, two in zip(expected, found))
        resident = f"{results.engines[engine]['resident_mib']:,}"
        yield row([engine.precision, name(engine), str(first), str(whole), resident])


def losses(results):
    """Lists the loads in which a peer of the same precision is faster than blip-serve."""
    compared, lost = 0, []
    for precision in dict.fromkeys(engine.precision for engine in ENGINES):
        measured = results.measured(precision)
        native = [engine for engine in measured if not engine.peer]
        peers = [engine for engine in measured if engine.peer]
        for state in results.states() if native and peers else ():
            for load, title in TITLES.items():
                median = {each: statistics.median(results.times(each, state, load)) for each in measured}
                ours, theirs = min(native, key=median.get), min(peers, key=median.get)
                ratio = results.ratio(ours, theirs, state, load)
                compared += 1
                if ratio > 1 + TIE:
                    lost.append([precision, STATES[state].lower(), title, name(theirs), f"{ratio:.2f}"])
    yield f"blip-serve is slower than the fastest peer of its precision in {len(lost)} of {compared} loads."
    yield f"A difference of up to {TIE * 100:.0f} % does not count."
    if lost:
        yield ""
        yield row(["precision", "machine", "load", "fastest peer", "time of blip-serve / peer"])
        yield row(["---"] * 4 + ["---:"])
        yield from map(row, lost)


def section(results):
    manifest = results.manifest
    shares = [
        each["other_cores"]
        for engine in results.measured()
        for state in results.states()
        for each in results.engines[engine]["rounds"][state]
    ]
    yield f"- **Machine.** {manifest['machine']}, {manifest['date']}, commit {manifest['commit']}."
    yield f"- **Threads.** {results.threads} for each engine."
    quiet, busy = map(results.rounds, STATES)
    yield f"- **Rounds.** {quiet} in turns, {busy} of them also beside a busy process."
    yield "- **Values** are milliseconds, median (least to most)."
    middle, most = statistics.median(shares), max(shares)
    yield f"- **Other processes** used {middle:.2f} cores in the median turn, and {most:.2f} at most."
    versions = {results.engines[engine]["version"] for engine in results.measured()} - {""}
    listed = sorted({part for version in versions for part in version.split(", ")})
    yield "- **Versions.**"
    yield from (f"  - {part}" for part in listed)
    for state in results.states():
        yield from ["", f"### {STATES[state]}", "", *time_table(results, state)]
    yield from ["", "### Equal answers", "", *answer_table(results)]
    yield from ["", "### Where blip-serve is slower", "", *losses(results)]


def write(results, text, document):
    """Replaces the generated part of a document, and the suite's row in its table."""
    content = document.read_text()
    before, rest = content.split(BEGIN)
    after = rest.split(END)[1]
    manifest = results.manifest
    cells = ["[CPU peers](#peers-on-a-cpu)", manifest["machine"], manifest["commit"][:7], manifest["date"]]
    cells.append("[cpu-peers](../benches/results/cpu-peers)")
    before = re.sub(r"(?m)^\| \[CPU peers\].*$", lambda _: row(cells), before)
    document.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")


def main(folder, document=None):
    results = Results(folder)
    if not results.measured():
        raise SystemExit("render: no engine was measured")
    text = "\n".join(section(results)) + "\n"
    (folder / "table.md").write_text(text)
    if document:
        write(results, text, document)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
