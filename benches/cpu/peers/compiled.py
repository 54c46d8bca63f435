"""The two parts, compiled ahead of time by the compiler of `torch.compile`, with packed weights.

A C++ compiler is necessary. Compilation at run time would take minutes for each start.
"""

import os

import torch
from torch.export import Dim

from parts import examples, load_parts
from peers import torch_formats


def files(folder, dtype, threads):
    name = str(dtype).removeprefix("torch.")
    return [f"{folder}/compiled/{part}-{name}-{threads}.pt2" for part in ("images", "questions")]


def prepare(folder, images, texts, threads):
    dtype = torch_formats.dtype(images, texts)
    paths = files(folder, dtype, threads)
    if all(map(os.path.exists, paths)):
        return
    # The number of threads becomes a part of the compiled loops.
    torch.set_num_threads(threads)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "compiled/cache")
    batch, questions = Dim("images", min=1, max=64), Dim("questions", min=1, max=64)
    for path, part, inputs in zip(paths, load_parts(folder), examples()):
        inputs = tuple(each.to(dtype) if each.is_floating_point() else each for each in inputs)
        stored = inputs[1:]
        shapes = ({0: batch, 1: questions}, ({0: batch},) * len(stored)) if stored else ({0: batch},)
        with torch.no_grad():
            program = torch.export.export(part.to(dtype), inputs, dynamic_shapes=shapes)
            settings = {"freezing": True}
            torch._inductor.aoti_compile_and_package(program, package_path=path, inductor_configs=settings)


class Peer:
    version = f"torch {torch.__version__}"

    def __init__(self, folder, images, texts, threads):
        torch.set_num_threads(threads)
        self.dtype = torch_formats.dtype(images, texts)
        paths = files(folder, self.dtype, threads)
        self.images, self.questions = map(torch._inductor.aoti_load_package, paths)

    @torch.no_grad()
    def encode(self, pixels):
        return self.images(torch.from_numpy(pixels).to(self.dtype))

    @torch.no_grad()
    def ask(self, features, token_ids):
        return self.questions(torch.from_numpy(token_ids), *features)
