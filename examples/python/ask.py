r"""Asks every question about every image.

    python -m grpc_tools.protoc -I ../../proto --python_out=. --grpc_python_out=. blip/v1/blip.proto
    python ask.py --target ipv4:10.0.0.1:50051,10.0.0.2:50051 \
      --image cat.jpg --question "is it asleep?"

The environment variable BLIP_API_KEY holds the API key.
"""

import argparse
import asyncio
import os
import sys
from pathlib import Path

import grpc
from blip_client import SERVICE_CONFIG, BlipClient


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="dns:///localhost:50051", help="gRPC target name of the servers")
    parser.add_argument("--image", action="append", type=Path, required=True)
    parser.add_argument("--question", action="append", required=True)
    parser.add_argument("--service-config", type=Path, default=SERVICE_CONFIG,
                        help="gRPC service config; behind a proxy, service_config_proxy.json")
    parser.add_argument("--timeout-s", type=float, default=60)
    parser.add_argument("--tls", action="store_true", help="use TLS; trusts public authorities, or those of --ca-file")
    parser.add_argument("--ca-file", type=Path)
    parser.add_argument("--cert-file", type=Path, help="client certificate, for a server that requires one")
    parser.add_argument("--key-file", type=Path)
    return parser.parse_args()


def channel_credentials(arguments):
    if not arguments.tls:
        return None
    files = (arguments.ca_file, arguments.key_file, arguments.cert_file)
    return grpc.ssl_channel_credentials(*(file.read_bytes() if file else None for file in files))


async def main():
    arguments = parse_arguments()
    images, questions = arguments.image, arguments.question
    inputs = [(image.read_bytes(), questions) for image in images]
    api_key, credentials = os.environ.get("BLIP_API_KEY"), channel_credentials(arguments)
    failed = 0
    async with BlipClient(arguments.target, api_key, credentials, arguments.service_config) as client:
        async for image, question, outcome in client.ask(inputs, arguments.timeout_s):
            answer = getattr(outcome, "text", None)
            failed += answer is None
            text = f"error: {outcome.message}" if answer is None else answer
            print(images[image], questions[question], text, sep="\t")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except grpc.RpcError as error:
        sys.exit(f"ask.py: {error.code().name}: {error.details()}")
