"""mosec with transformers and dynamic batching."""

import base64
import sys

import mosec
import settings
from reference import Reference


class AnswerWorker(mosec.Worker):
    def __init__(self):
        self.reference = Reference(settings.MODEL, settings.THREADS)

    def forward(self, data):
        requests = [
            [(base64.b64decode(item["image"]), question) for question in item["questions"]] for item in data
        ]
        answers = iter(self.reference.answer([row for rows in requests for row in rows]))
        return [{"answers": [next(answers) for _ in rows]} for rows in requests]


if __name__ == "__main__":
    # mosec reads its address from the command line.
    sys.argv += [
        "--address",
        "127.0.0.1",
        "--port",
        str(settings.PORT),
        "--timeout",
        "60000",
        "--log-level",
        "warning",
    ]
    server = mosec.Server()
    server.append_worker(
        AnswerWorker, num=settings.WORKERS, max_batch_size=settings.BATCH, max_wait_time=int(settings.WAIT_MS)
    )
    server.run()
