"""Writes the generated files of the package from `proto/` and `docs/reference/errors.md`.

    python generate.py [--output FOLDER]

- `_proto/descriptors.binpb`: the contract with everything that it imports, as a FileDescriptorSet
- `_proto/*_pb2.pyi`: the types of its messages
- `reasons.py`: the reasons of errors

It needs grpcio-tools. A test compares the committed files with those that it writes.
"""

import argparse
import json
import re
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PROTOS = ["blip/v1/blip.proto", "google/rpc/status.proto", "google/rpc/error_details.proto"]
# Modules of the contract are siblings in the package, so that no other package must provide them.
MODULES = re.compile(r"^from (?:google\.rpc|blip\.v1) import ", re.M)
ROW = re.compile(
    r"^\| `(\w+)` \| \w+ \| \d+ \| (the call|an item|either) \| .* \| (.*) \|$", re.M
)
SCOPES = {"the call": "call", "an item": "item", "either": "either"}


def run_protoc(*options):
    """Runs protoc on the contract."""
    well_known = resources.files("grpc_tools") / "_proto"
    arguments = ["protoc", f"-I{ROOT / 'proto'}", f"-I{well_known}", *options, *PROTOS]
    if protoc.main(arguments):
        raise SystemExit("protoc failed")


def write_descriptors(folder):
    """Writes the descriptors and the type stubs."""
    run_protoc("--include_imports", f"--descriptor_set_out={folder / 'descriptors.binpb'}")
    with tempfile.TemporaryDirectory() as stubs:
        run_protoc(f"--pyi_out={stubs}")
        for name in PROTOS:
            stub = Path(stubs, name.replace(".proto", "_pb2.pyi"))
            text = MODULES.sub("from . import ", stub.read_text())
            text = text.replace("_Mapping]", "_Mapping[str, object]]")
            (folder / stub.name).write_text(
                f"# Generated from proto/{name} by generate.py.\n{text}"
            )


def write_reasons(file):
    """Writes the reasons in the table of errors.md."""
    rows = ROW.findall((ROOT / "docs/reference/errors.md").read_text())
    lines = [
        '"""Reasons of errors. Generated from docs/reference/errors.md by generate.py."""',
        "",
        "from typing import Final, Literal",
        "",
        "#: What an error with a reason applies to: the whole request, or one of its items.",
        'SCOPES: Final[dict[str, Literal["call", "item", "either"]]] = {',
        *(f'    "{reason}": "{SCOPES[scope]}",' for reason, scope, _ in rows),
        "}",
        "",
        "#: What to do about an error with a reason.",
        "REMEDIES: Final[dict[str, str]] = {",
        *(f'    "{reason}": {json.dumps(remedy)},' for reason, _, remedy in rows),
        "}",
    ]
    file.write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--output", type=Path, default=HERE / "src/blip_serve_client", help="folder of the package"
    )
    folder = parser.parse_args().output
    (folder / "_proto").mkdir(exist_ok=True)
    write_descriptors(folder / "_proto")
    write_reasons(folder / "reasons.py")


if __name__ == "__main__":
    main()
