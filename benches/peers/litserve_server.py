"""LitServe with transformers and dynamic batching."""

import base64

import litserve
import settings
from reference import Reference


class Api(litserve.LitAPI):
    def setup(self, device):
        self.reference = Reference(settings.MODEL, settings.THREADS)

    def decode_request(self, request):
        file = base64.b64decode(request["image"])
        return [(file, question) for question in request["questions"]]

    def batch(self, inputs):
        return inputs

    def predict(self, requests):
        answers = iter(self.reference.answer([row for rows in requests for row in rows]))
        return [[next(answers) for _ in rows] for rows in requests]

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return {"answers": output}


if __name__ == "__main__":
    api = Api(max_batch_size=settings.BATCH, batch_timeout=settings.WAIT_MS / 1e3)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=settings.WORKERS, timeout=60)
    server.run(host="127.0.0.1", port=settings.PORT, log_level="warning", generate_client_file=False)
