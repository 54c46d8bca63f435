r"""Captions the images of a Ray data set, or asks about them, on a fleet of blip-serve servers.

    pip install 'ray[data]' ../../clients/python     # on every node of the Ray cluster
    python ray_data.py --server 10.0.0.1:50051,10.0.0.2:50051 \
      --input s3://bucket/photos/ --output s3://bucket/captions/ --question "is there a dog?"

Without a question, the images are captioned. The input is a folder of image files, Parquet files or
JSON lines. Files have a column with the bytes of an image, its path or its URL. The output has the
columns of the input and `blip_text`, `blip_score` and `blip_error`, which only a failed image has.

The environment variable BLIP_SERVE__API_KEY holds the API key.
"""

import argparse
import os
import socket
from concurrent.futures import ThreadPoolExecutor

import pyarrow
import ray
from blip_serve_client import Client, ItemError

IMAGE_FILES = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"]
# The new columns.
RESULTS = pyarrow.schema(
    {"blip_text": pyarrow.string(), "blip_score": pyarrow.float64(), "blip_error": pyarrow.string()}
)


def target(servers):
    """Returns the gRPC target of one server, or of several with commas between them.

    gRPC takes several servers as addresses, so their names are resolved. For TLS, use one name:
    `dns:///blip.example.org:50051` stands for all of its addresses.
    """
    names = servers.split(",")
    if len(names) == 1 or servers.startswith(("ipv4:", "ipv6:")):
        return servers
    hosts = (name.partition(":") for name in names)
    return "ipv4:" + ",".join(f"{socket.gethostbyname(host)}:{port or 50051}" for host, _, port in hosts)


class BlipServe:
    """An actor that sends the images of batches. Its client balances them over the servers."""

    def __init__(self, servers, image_column, has_bytes, question, in_flight, api_key):
        self.image_column, self.has_bytes, self.question = image_column, has_bytes, question
        self.client = Client(target(servers), api_key=api_key)
        self.threads = ThreadPoolExecutor(in_flight)

    def __call__(self, batch):
        """Returns a batch with the results as new columns, in place of those of an earlier run.

        If no server answers, even after all retries, the error ends the job.
        """
        images = batch.column(self.image_column)
        results = list(self.threads.map(self.result, images.to_pylist()))
        results = pyarrow.Table.from_pylist(results, RESULTS)
        batch = batch.drop_columns([name for name in RESULTS.names if name in batch.column_names])
        is_text = pyarrow.types.is_string(images.type) or pyarrow.types.is_large_string(images.type)
        if not self.has_bytes and not is_text:
            batch = batch.drop_columns([self.image_column])
        for name in RESULTS.names:
            batch = batch.append_column(name, results.column(name))
        return batch

    def result(self, image):
        """Returns the new values of a row. The error of an image is one of them."""
        if isinstance(image, dict):
            # The form of images in the data sets of Hugging Face.
            image = image.get("bytes") or image.get("path")
        if not image:
            return {"blip_error": "no image"}
        try:
            if self.question:
                result = self.client.ask(image, self.question)
            else:
                result = self.client.caption(image)
        except ItemError as error:
            return {"blip_error": str(error)}
        return {"blip_text": result.text, "blip_score": result.score}


def read(kind, path):
    """Returns the data set, and the column of its images."""
    if kind == "parquet":
        return ray.data.read_parquet(path), "image"
    if kind == "jsonl":
        return ray.data.read_json(path, lines=True), "image"
    # The servers decode the images. read_images would fail at the first file that is no image.
    return ray.data.read_binary_files(path, include_paths=True, file_extensions=IMAGE_FILES), "bytes"


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--server", required=True, help="address, or several with commas")
    parser.add_argument("--input", required=True, help="folder or file")
    parser.add_argument("--output", required=True, help="folder, which must not exist")
    parser.add_argument("--question", help="a question about each image")
    parser.add_argument("--input-format", choices=["images", "parquet", "jsonl"], default="images")
    parser.add_argument("--output-format", choices=["parquet", "jsonl"], default="parquet")
    parser.add_argument("--image-column", help="default: image, and bytes for a folder of images")
    parser.add_argument("--actors", type=int, default=2, help="processes that send images")
    parser.add_argument("--in-flight", type=int, default=32, help="images in flight of each actor")
    return parser.parse_args(arguments)


def main(arguments=None):
    arguments = parse_arguments(arguments)
    images, column = read(arguments.input_format, arguments.input)
    results = images.map_batches(
        BlipServe,
        fn_constructor_kwargs={
            "servers": arguments.server,
            "image_column": arguments.image_column or column,
            # The output has the bytes of images, but not beside their files or in JSON.
            "has_bytes": arguments.input_format == arguments.output_format == "parquet",
            "question": arguments.question,
            "in_flight": arguments.in_flight,
            "api_key": os.environ.get("BLIP_SERVE__API_KEY"),
        },
        batch_format="pyarrow",
        batch_size=4 * arguments.in_flight,
        compute=ray.data.ActorPoolStrategy(size=arguments.actors),
        # An actor waits for the servers most of the time.
        num_cpus=0.25,
    )
    # A second run would add its rows to those of the first one.
    mode = ray.data.SaveMode.ERROR
    if arguments.output_format == "parquet":
        results.write_parquet(arguments.output, mode=mode)
    else:
        # The default of 10 decimals is too few for scores.
        results.write_json(arguments.output, mode=mode, double_precision=15)


if __name__ == "__main__":
    main()
