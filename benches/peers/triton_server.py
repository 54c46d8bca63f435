"""NVIDIA Triton with transformers, through pytriton, with its dynamic batcher."""

import base64

import numpy as np
import settings
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from reference import Reference


def answer_function():
    """Returns the inference function of one worker."""
    reference = Reference(settings.MODEL, settings.THREADS)

    @batch
    def infer(image, question):
        rows = [
            (base64.b64decode(file), text.decode())
            for file, text in zip(image[:, 0], question[:, 0], strict=True)
        ]
        return {"answer": np.array([[text.encode()] for text in reference.answer(rows)], dtype=object)}

    return infer


if __name__ == "__main__":
    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=settings.PORT,
        allow_grpc=False,
        allow_metrics=False,
        log_verbose=0,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="blip",
            infer_func=[answer_function() for _ in range(settings.WORKERS)],
            inputs=[
                Tensor(name="image", dtype=bytes, shape=(1,)),
                Tensor(name="question", dtype=bytes, shape=(1,)),
            ],
            outputs=[Tensor(name="answer", dtype=bytes, shape=(1,))],
            config=ModelConfig(
                max_batch_size=settings.BATCH,
                batcher=DynamicBatcher(max_queue_delay_microseconds=int(settings.WAIT_MS * 1e3)),
            ),
        )
        triton.serve()
