"""Asks questions with each client of kserve, and prints the answers as JSON.

python kserve_clients.py URL GRPC_ADDRESS IMAGE QUESTION...
"""

import asyncio
import base64
import json
import sys
from pathlib import Path

from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

UNKNOWN = "unknown model"


def request(model, image, questions):
    inputs = [InferInput("image", [1], "BYTES", data=[image])]
    inputs.append(InferInput("question", [len(questions)], "BYTES", data=questions))
    return InferRequest(model_name=model, infer_inputs=inputs)


async def error_of(call):
    """Returns the expected text if the error of a call has it, or else the error."""
    try:
        await call
    except Exception as error:
        return UNKNOWN if UNKNOWN in str(error) else str(error)
    return "no error"


async def v1(url, image, questions):
    client = InferenceRESTClient(RESTConfig(protocol="v1"))
    instances = [{"image": {"b64": image}, "question": question} for question in questions]
    response = await client.infer(url, {"instances": instances}, model_name="demo")
    return {
        "answers": [prediction["answer"] for prediction in response["predictions"]],
        "ready": [await client.is_model_ready(url, "demo")],
        "error": await error_of(client.infer(url, {"instances": instances}, model_name="nope")),
    }


async def v2(url, image, questions):
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    response = await client.infer(url, request("demo", image, questions), model_name="demo")
    ready = [await client.is_server_live(url), await client.is_server_ready(url)]
    return {
        "answers": response.outputs[0].data,
        "ready": [*ready, await client.is_model_ready(url, "demo")],
        "error": await error_of(client.infer(url, request("nope", image, questions), model_name="nope")),
    }


async def grpc(address, image, questions):
    async with InferenceGRPCClient(address) as client:
        response = await client.infer(request("demo", image, questions))
        ready = [await client.is_server_live(), await client.is_server_ready()]
        return {
            "answers": [answer.decode() for answer in response.outputs[0].as_numpy().reshape(-1)],
            "ready": [*ready, await client.is_model_ready("demo")],
            "error": await error_of(client.infer(request("nope", image, questions))),
        }


async def main(url, address, file, *questions):
    file, questions = Path(file).read_bytes(), list(questions)
    image = base64.b64encode(file).decode()
    encoded = [question.encode() for question in questions]
    results = {"v1": await v1(url, image, questions), "v2": await v2(url, image, questions)}
    results["grpc"] = await grpc(address, file, encoded)
    print(json.dumps(results))


asyncio.run(main(*sys.argv[1:]))
