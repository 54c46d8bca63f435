"""Reads the trace of the stand-ins, one line for each event."""

import collections
import dataclasses


@dataclasses.dataclass(frozen=True)
class Event:
    """An event. `kind` is one of the README, `place` is the device and the stream."""

    kind: str
    name: str
    detail: str = ""
    device: int = -1
    stream: int = -1
    is_captured: bool = False
    thread: int = 0

    @classmethod
    def parse(cls, line):
        kind, name, detail, device, stream, captured, thread = line.rstrip("\n").split("\t")
        return cls(kind, name, detail, int(device), int(stream), captured == "1", int(thread))


class Trace:
    """The events of a process, in their order. Tests append marks to the same file."""

    def __init__(self, path):
        self.path = path
        path.touch()

    def mark(self, name):
        """Appends a mark. The program must be waiting, so that the order is known."""
        with self.path.open("a") as file:
            file.write(f"mark\t{name}\t\t-1\t-1\t0\t0\n")

    def events(self, after=None):
        """Returns all events, or those after a mark up to the next one."""
        with self.path.open() as file:
            events = [Event.parse(line) for line in file]
        if after is None:
            return events
        marks = [index for index, event in enumerate(events) if event.kind == "mark"]
        begin = next(index for index in marks if events[index].name == after)
        end = next((index for index in marks if index > begin), len(events))
        return events[begin + 1 : end]

    def events_since(self, mark):
        """Returns all events after a mark."""
        events = self.events()
        begin = next(i for i, event in enumerate(events) if (event.kind, event.name) == ("mark", mark))
        return events[begin + 1 :]

    def faults(self):
        """Returns the violations of CUDA's rules and the calls that the stand-ins do not have."""
        return collections.Counter(
            (event.kind, event.name, event.detail)
            for event in self.events()
            if event.kind in ("violation", "unexpected")
        )


def counts(events):
    """Returns what a batch costs: launches, graphs, copies, waits and new memory."""
    events = [event for event in events if not event.is_captured]
    kinds = collections.Counter(event.kind for event in events)
    copies = [event.detail for event in events if event.kind == "copy"]
    return {
        "launches": kinds["kernel"] + kinds["product"] + kinds["memset"],
        "graphs": kinds["graph"],
        "copies": len(copies),
        "pageable_copies": sum("pageable" in copy for copy in copies),
        "waits": kinds["wait"],
        "allocations": kinds["allocate"],
        "captures": kinds["capture_begin"],
        "plans": kinds["plan"],
    }
