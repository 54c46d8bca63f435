"""Number formats of the peers that run on PyTorch."""

import torch

from worker import LeftOut


def dtype(images, texts):
    """Returns the number format of the whole model.

    Without instructions for bf16, PyTorch converts every number, and is far slower than in f32.
    """
    if images == "bf16" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        raise LeftOut("PyTorch has fast bf16 products only with AVX-512")
    return {"f32": torch.float32, "bf16": torch.bfloat16}[images]
