"""Runs the engine over the stand-ins, one batch at a time."""

import json
import os
import random
import subprocess

from trace import Trace


# The stand-ins compute nothing, so native kernels would fail their check on loading.
LIBTORCH_KERNELS = ("--cuda-kernels", "libtorch")


def question(image, tokens=8, max_new_tokens=2, explain=False):
    return {"image": image, "tokens": tokens, "max_new_tokens": max_new_tokens, "explain": explain}


def environment(folder, trace_path, *, devices=1, gib=None, capability=None, fail=None):
    """Returns the environment of a program over the stand-ins in `folder`."""
    variables = {**os.environ, "LD_LIBRARY_PATH": str(folder), "CUDA_STAND_IN_TRACE": str(trace_path)}
    variables["CUDA_STAND_IN_DEVICES"] = str(devices)
    # More threads than these would be those of a thread team.
    variables["OMP_NUM_THREADS"] = "4"
    optional = {"GIB": gib, "CAPABILITY": capability, "FAIL": fail}
    variables.update({f"CUDA_STAND_IN_{name}": str(value) for name, value in optional.items() if value})
    return variables


class Engine:
    """The program `batch_runner` with a model. It is ready for batches, or has failed to load."""

    def __init__(
        self,
        folder,
        trace_path,
        model,
        *,
        dtype="f16",
        images="auto",
        device="cuda:0",
        graphs=False,
        gelu="exact",
        **stand_in,
    ):
        self.trace = Trace(trace_path)
        self.next_image = 1
        self.stderr_path = trace_path.with_suffix(".stderr")
        command = [os.environ["BATCH_RUNNER_BIN"], "--model", str(model), "--dtype", dtype, "--vision-dtype", images]
        command += ["--device", device]
        command += [f"--cuda-graphs={str(graphs).lower()}", "--cuda-gelu", gelu, *LIBTORCH_KERNELS]
        with self.stderr_path.open("wb") as stderr:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=environment(folder, trace_path, **stand_in),
            )
        self.is_loaded = self.process.stdout.readline().strip() == '"loaded"'
        self.trace.mark("loaded")

    def run(self, images, questions, name=None):
        """Runs a batch and returns its result. `name` marks its begin in the trace."""
        if name is not None:
            self.trace.mark(name)
        line = json.dumps({"images": images, "questions": questions})
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, f"the engine ended: {self.stderr_path.read_text()}"
        if name is not None:
            self.trace.mark(f"end of {name}")
        return json.loads(answer)

    def new_images(self, count):
        """Returns numbers of images that no batch had before."""
        self.next_image += count
        return list(range(self.next_image - count, self.next_image))

    def answer(self, images, questions, name=None):
        """Runs a batch in which every question must be answered."""
        result = self.run(images, questions, name)
        assert result["error"] is None and not result["row_errors"], result
        assert result["answers"] == len(questions)
        return result

    def threads(self):
        return len(os.listdir(f"/proc/{self.process.pid}/task"))

    def stop(self):
        """Ends the program. Returns its standard error."""
        self.process.stdin.close()
        try:
            self.process.wait(timeout=30)
        finally:
            self.process.kill()
            self.process.stdout.close()
        return self.stderr_path.read_text()


def random_batches(engine, count, *, most_images=24, most_questions=40, seed=7):
    """Runs batches of random sizes, with questions and answers of unequal lengths."""
    generator = random.Random(seed)
    known = []
    for _ in range(count):
        new = engine.new_images(generator.randint(0 if known else 1, most_images))
        images = new + generator.sample(known, min(len(known), generator.randint(0, 4)))
        images = images or generator.sample(known, 1)
        known = (known + new)[-100:]
        questions = [
            question(
                generator.randrange(len(images)),
                tokens=generator.randint(3, 45),
                max_new_tokens=generator.choice([1, 2, 2, 3, 6]),
            )
            for _ in range(generator.randint(1, most_questions))
        ]
        engine.answer(images, questions)
