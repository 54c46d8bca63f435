"""The memory and processor time of a process and its children."""

import os
import re
import threading
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
SAMPLE_S = 0.2


def processes(pid):
    """Returns the ids of a process and its living descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in children:
            found += processes(int(child))
    return found


def memory_bytes(pid):
    """Returns the memory of a process and that of its children. Shared pages count once."""
    own, children = 0, 0
    for process in processes(pid):
        try:
            text = Path(f"/proc/{process}/smaps_rollup").read_text()
        except OSError:
            continue
        size = int(re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE).group(1)) << 10
        if process == pid:
            own += size
        else:
            children += size
    return own, children


def cpu_seconds(pid):
    """Returns the processor time of a process and its children, dead ones included."""
    total = 0
    for process in processes(pid):
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        own = sum(map(int, fields[11:13]))
        waited_for = sum(map(int, fields[13:15])) if process == pid else 0
        total += own + waited_for
    return total / TICKS_PER_S


class PeakMemory:
    """Samples the memory of a process with its children, and keeps the peak of the sum."""

    def __init__(self, pid):
        self.pid, self.peak, self.stopped = pid, (0, 0), threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.stopped.wait(SAMPLE_S):
            self.peak = max(self.peak, memory_bytes(self.pid), key=sum)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join()
