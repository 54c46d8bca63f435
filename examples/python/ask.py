r"""Asks every question about every image.

    pip install ../../clients/python
    python ask.py --target ipv4:10.0.0.1:50051,10.0.0.2:50051 \
      --image cat.jpg --question "is it asleep?"

The environment variable BLIP_API_KEY holds the API key.
"""

import argparse
import os
import sys

from blip_serve_client import CallError, Client, ImageQuestions, ItemError


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", default="localhost:50051", help="address of one or more servers")
    parser.add_argument("--image", action="append", required=True, help="path or URL")
    parser.add_argument("--question", action="append", required=True)
    parser.add_argument("--behind-proxy", action="store_true", help="the target is a proxy")
    parser.add_argument("--timeout-s", type=float, default=60)
    parser.add_argument("--tls", action="store_true", default=None, help="use TLS")
    parser.add_argument("--ca-file", help="trusted authorities. The default is public ones")
    parser.add_argument("--cert-file", help="client certificate, for a server that requires one")
    parser.add_argument("--key-file")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    client = Client(
        arguments.target,
        api_key=os.environ.get("BLIP_API_KEY"),
        tls=arguments.tls,
        ca_file=arguments.ca_file,
        cert_file=arguments.cert_file,
        key_file=arguments.key_file,
        health_checks=not arguments.behind_proxy,
    )
    inputs = [ImageQuestions(image, arguments.question, id=image) for image in arguments.image]
    failed = 0
    with client:
        for result in client.ask_many(inputs, timeout_s=arguments.timeout_s):
            for question, answer in zip(arguments.question, result.answers):
                is_error = isinstance(answer, ItemError)
                failed += is_error
                text = f"error: {answer.message}" if is_error else answer.text
                print(result.id, question, text, sep="\t")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CallError as error:
        sys.exit(f"ask.py: {error}")
