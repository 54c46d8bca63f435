"""Asks every question about every image:

    python -m grpc_tools.protoc -I ../../proto --python_out=. --grpc_python_out=. blip/v1/blip.proto
    python ask.py --target ipv4:10.0.0.1:50051,10.0.0.2:50051 --image cat.jpg --question "is it asleep?"

The API key is taken from BLIP_API_KEY.
"""

import argparse
import asyncio
import os
import sys
from pathlib import Path

import grpc
from blip_client import SERVICE_CONFIG, BlipClient


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="dns:///localhost:50051", help="the servers, as a name of gRPC")
    parser.add_argument("--image", action="append", type=Path, required=True)
    parser.add_argument("--question", action="append", required=True)
    parser.add_argument("--service-config", type=Path, default=SERVICE_CONFIG, help="service_config_proxy.json behind a proxy")
    parser.add_argument("--timeout-s", type=float, default=60)
    parser.add_argument("--tls", action="store_true", help="by TLS, trusting the public authorities or --ca-file")
    parser.add_argument("--ca-file", type=Path)
    parser.add_argument("--cert-file", type=Path, help="a certificate of one's own, for a server that wants one")
    parser.add_argument("--key-file", type=Path)
    return parser.parse_args()


def credentials(given):
    if not given.tls:
        return None
    files = (given.ca_file, given.key_file, given.cert_file)
    return grpc.ssl_channel_credentials(*(file.read_bytes() if file else None for file in files))


async def main():
    given = arguments()
    inputs = [(image.read_bytes(), given.question) for image in given.image]
    failed = 0
    async with BlipClient(given.target, os.environ.get("BLIP_API_KEY"), credentials(given), given.service_config) as client:
        async for image, question, outcome in client.ask(inputs, given.timeout_s):
            told = getattr(outcome, "text", None)
            failed += told is None
            print(given.image[image], given.question[question], told if told is not None else f"error: {outcome.message}", sep="\t")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except grpc.RpcError as error:
        sys.exit(f"ask.py: {error.code().name}: {error.details()}")
