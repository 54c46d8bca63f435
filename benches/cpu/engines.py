"""The measured engines, and the process in which each of them runs."""

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PROGRAM = ROOT / "target/release/examples/timed_batches"


@dataclass(frozen=True)
class Engine:
    """A peer, or blip-serve without one, with the number formats of images and texts."""

    name: str
    precision: str
    peer: str | None
    images: str
    texts: str
    environment: str = "torch"
    note: str = ""

    @property
    def key(self):
        return f"{self.peer or 'blip-serve'}:{self.images}:{self.texts}"

    def arguments(self, folder, threads):
        if self.peer:
            formats = ["--images", self.images, "--texts", self.texts]
            return [str(HERE / "worker.py"), self.peer, str(folder), *formats, "--threads", str(threads)]
        files = {"model": "model", "pixels": "images.rgb", "token-ids": "questions.json"}
        options = {name: str(folder / file) for name, file in files.items()} | {"threads": str(threads)}
        options |= {"vision-dtype": self.images, "text-dtype": self.texts}
        options = {name: value.replace("f32", "auto") for name, value in options.items()}
        return [word for name, value in options.items() for word in (f"--{name}", value)]


ENGINES = [
    Engine("blip-serve", "f32", None, "f32", "f32"),
    Engine("OpenVINO", "f32", "openvino", "f32", "f32", "openvino"),
    Engine("ONNX Runtime", "f32", "onnxruntime", "f32", "f32", "onnxruntime"),
    Engine("torch.compile", "f32", "compiled", "f32", "f32"),
    Engine("zentorch", "f32", "zentorch", "f32", "f32", "zentorch"),
    Engine("transformers", "f32", "transformers", "f32", "f32"),
    Engine("blip-serve", "bf16", None, "bf16", "bf16"),
    Engine("OpenVINO", "bf16", "openvino", "bf16", "bf16", "openvino"),
    Engine("torch.compile", "bf16", "compiled", "bf16", "bf16"),
    Engine("zentorch", "bf16", "zentorch", "bf16", "bf16", "zentorch"),
    Engine("transformers", "bf16", "transformers", "bf16", "bf16"),
    Engine("blip-serve", "int8", None, "int8", "int8"),
    Engine("blip-serve", "int8", None, "int8", "bf16", note="texts in bf16"),
    Engine("OpenVINO", "int8", "openvino", "int8", "int8", "openvino", note="texts with 8-bit weights"),
    Engine("ONNX Runtime", "int8", "onnxruntime", "int8", "int8", "onnxruntime", note="texts in 8 bits"),
]


class Unavailable(Exception):
    """An engine cannot be measured. The message is the reason."""


class Environments:
    """The Python environments of the peers, installed when they are first used.

    Each has the packages of one file in `requirements/`. PyTorch, which all need, is in one
    environment for all, so that it is stored once.
    """

    def __init__(self):
        self.folders = {}

    def install(self, name):
        packages = "" if name == "torch" else self.packages("torch")
        command = [ROOT / "scripts/python_environment.sh", f"cpu-{name}", HERE / f"requirements/{name}.txt"]
        variables = os.environ | {"PYTHONPATH": packages}
        done = subprocess.run(command, env=variables, capture_output=True, text=True)
        if done.returncode:
            raise Unavailable(f"not installed: {last_line(done.stderr)}")
        return Path(done.stdout.strip())

    def folder(self, name):
        if name not in self.folders:
            self.folders[name] = self.install(name)
        return self.folders[name]

    def packages(self, name):
        return str(next(self.folder(name).glob("lib/python3*/site-packages")))

    def command(self, engine, folder, threads):
        """Returns the command of an engine and its environment variables."""
        variables = os.environ | {"OMP_NUM_THREADS": str(threads)}
        arguments = engine.arguments(folder, threads)
        if not engine.peer:
            return [str(PROGRAM), *arguments], variables
        # zentorch registers with PyTorch when it is imported, and only its peer imports it.
        variables |= {"PYTHONPATH": self.packages("torch"), "HF_HUB_OFFLINE": "1"}
        return [str(self.folder(engine.environment) / "bin/python"), "-B", *arguments], variables


def last_line(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:160] if lines else "no message"


class Process:
    """An engine that runs: a batch in JSON to its input, its result in JSON from its output."""

    def __init__(self, command, variables, log, limit_s):
        self.log, self.limit_s = log, limit_s
        with log.open("w") as errors:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
            self.process = subprocess.Popen(command, env=variables, start_new_session=True, **pipes)
        start = time.monotonic()
        # Models are compiled meanwhile.
        first = self.read(10 * limit_s)
        self.load_s = time.monotonic() - start
        if "left_out" in first:
            self.stop()
            raise Unavailable(f"left out: {first['left_out']}")
        self.version = first.get("version", "")

    def read(self, limit_s):
        output = self.process.stdout
        if not select.select([output], [], [], limit_s)[0]:
            self.stop()
            raise Unavailable(f"stopped: no result within {limit_s:.0f} s")
        line = output.readline()
        if not line:
            self.stop()
            status = f"exit status {self.process.returncode}"
            raise Unavailable(f"not available: {last_line(self.log.read_text())} ({status})")
        return json.loads(line)

    def run(self, batch, limit_s=None):
        """Returns the result of a batch."""
        try:
            self.process.stdin.write(json.dumps(batch).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # The result says why.
        return self.read(limit_s or self.limit_s)

    def resident_mib(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) >> 10

    def stop(self):
        # Compilers run in further processes.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def cpu_seconds(pid=None):
    """Returns the CPU time of a process, or of the whole machine."""
    ticks = os.sysconf("SC_CLK_TCK")
    if pid:
        return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13])) / ticks
    total = Path("/proc/stat").read_text().split("\n")[0]
    user, nice, system, _, _, *interrupts = map(int, total.split()[1:8])
    return (user + nice + system + sum(interrupts)) / ticks
