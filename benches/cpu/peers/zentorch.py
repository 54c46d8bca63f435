"""The two parts, compiled by zentorch, AMD's plugin for `torch.compile`.

They are compiled when the process starts, which takes minutes.
"""

from pathlib import Path

import torch
import torch._inductor.config
import zentorch

from parts import load_parts
from peers import compiled, torch_formats
from worker import LeftOut


class Peer(compiled.Peer):
    version = f"zentorch {zentorch.__version__}, {compiled.Peer.version}"

    def __init__(self, folder, images, texts, threads):
        if "avx512f" not in Path("/proc/cpuinfo").read_text():
            raise LeftOut("zentorch changes nothing on a processor without AVX-512")
        torch.set_num_threads(threads)
        torch._inductor.config.freezing = True
        self.dtype = torch_formats.dtype(images, texts)
        parts = [part.to(self.dtype) for part in load_parts(folder)]
        self.images, self.questions = (torch.compile(part, backend="zentorch") for part in parts)
