"""Compares a command on data sets with what a load test reaches on the same images.

A turn is the command on a form of the data set and, before or after it, the load test, which asks a
server that has seen none of the images. Both ask one question about each image. The ratio of a form
is the median of the ratios of its turns. The S3 server of `objects` runs on the same machine.
"""

import argparse
import io
import json
import logging
import os
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import boto3
import pyarrow
import pyarrow.parquet
from moto.server import ThreadedMotoServer

sys.path.insert(0, str(Path(__file__).parents[1] / "local"))
from compare import OPTIONS, READY, png

SUMMARY = re.compile(r"asking: (\d+) lines, 0 failed, ([\d.]+) per second, bound by: (.*)")
QUESTION = "how many things are in the image?"
FORMS = ("shards", "parquet", "objects")
BUCKET = "input"


class Data:
    """The same images as files, as tar shards, as Parquet files and as objects."""

    def __init__(self, folder, shards, samples):
        self.folder, self.images = folder, shards * samples
        for name in ("images", "shards", "parquet"):
            (folder / name).mkdir()
        for shard in range(shards):
            numbers = range(shard * samples, (shard + 1) * samples)
            contents = [png(640, 480, number) for number in numbers]
            with tarfile.open(folder / f"shards/s-{shard:03}.tar", "w") as archive:
                for number, content in zip(numbers, contents, strict=True):
                    (folder / f"images/{number:06}.png").write_bytes(content)
                    member = tarfile.TarInfo(f"{number:06}.png")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
            rows = [{"bytes": content, "path": None} for content in contents]
            path = folder / f"parquet/s-{shard:03}.parquet"
            pyarrow.parquet.write_table(pyarrow.table({"image": rows}), path, row_group_size=100)
        (folder / "questions.txt").write_text(QUESTION + "\n")

    def upload(self, server):
        """Copies the tar shards to an S3 server. Returns the settings of its clients."""
        keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
        client = boto3.client("s3", endpoint_url=server, region_name="us-east-1", **keys)
        client.create_bucket(Bucket=BUCKET)
        for path in (self.folder / "shards").iterdir():
            client.upload_file(str(path), BUCKET, f"shards/{path.name}")
        return {
            "AWS_ENDPOINT_URL": server,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
        }


def ask(program, options, data, form, store):
    """Returns the images per second of a command on a form of the data, and what bounded it."""
    output = data.folder / "out"
    shutil.rmtree(output, ignore_errors=True)
    source = f"s3://{BUCKET}/shards/" if form == "objects" else data.folder / form
    command = [program, "ask", "--local", *options, "-i", source, "-o", output, "-q", QUESTION]
    environment = os.environ | store
    completed = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False
    )
    summary = SUMMARY.search(completed.stderr)
    if completed.returncode or not summary or int(summary[1]) != data.images:
        raise SystemExit(f"{command}: {completed.stderr}")
    return float(summary[2]), f"bound by {summary[3]}"


def load_test(program, options, data, arguments):
    """Returns the images per second of a load test with new images."""
    command = [program, "serve", *options, "--grpc-listen", "127.0.0.1:0"]
    command += ["--http-listen", "off", "--metrics-listen", "off"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    output, clients = data.folder / "report.json", arguments.clients
    try:
        address = READY.search(server.stdout.readline())[1]
        command = [program, "bench", "--server", address, "--images", data.folder / "images"]
        command += ["--pool", str(data.images), "--questions", data.folder / "questions.txt"]
        command += ["--output", output, "--seconds", str(arguments.seconds)]
        command += ["--warm-up-s", str(arguments.warm_up_s), "--clients", str(clients)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    finally:
        server.terminate()
        server.wait()
    report = json.loads(output.read_text())
    answers = report["questions_per_s"] * arguments.seconds
    if report["failed"] or answers < 4 * clients:
        raise SystemExit(f"{answers:.0f} answers, {report['failed']} failed: use more --seconds")
    return report["questions_per_s"], f"{clients} clients"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("--turns", type=int, default=4, help="turns of each form")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--samples", type=int, default=250, help="samples of a shard")
    parser.add_argument("--clients", type=int, default=32, help="clients of the load test")
    parser.add_argument("--seconds", type=int, default=6, help="length of the load test")
    parser.add_argument("--warm-up-s", type=int, default=1, help="time before the load test counts")
    parser.add_argument("--model", help="another model than that of the demo")
    parser.add_argument("--dtype", default="auto", help="number format of the model")
    arguments = parser.parse_args()
    program, options = arguments.program, [*OPTIONS, "--dtype", arguments.dtype]
    options += ["--model", arguments.model] if arguments.model else []
    with tempfile.TemporaryDirectory() as folder:
        data, store, server = Data(Path(folder), arguments.shards, arguments.samples), {}, None
        if "objects" in arguments.forms:
            # It logs every request.
            logging.getLogger("werkzeug").setLevel(logging.WARNING)
            server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
            server.start()
            host, port = server.get_host_and_port()
            store = data.upload(f"http://{host}:{port}")
        print(f"{data.images} images in {arguments.shards} shards, {arguments.dtype}", flush=True)
        ratios = {form: [] for form in arguments.forms}
        for turn in range(arguments.turns):
            for form in arguments.forms:
                sides = {
                    form: lambda form=form: ask(program, options, data, form, store),
                    "load test": lambda: load_test(program, options, data, arguments),
                }
                rates = {}
                for side in list(sides) if turn % 2 == 0 else list(sides)[::-1]:
                    rates[side], note = sides[side]()
                    print(f"turn {turn + 1}, {side}: {rates[side]:.2f} images/s, {note}", flush=True)
                ratios[form].append(rates[form] / rates["load test"])
        if server:
            server.stop()
    for form, values in ratios.items():
        print(f"{form} beside the load test: {statistics.median(values):.3f}, ", end="")
        print(f"{min(values):.3f} to {max(values):.3f}")


if __name__ == "__main__":
    main()
