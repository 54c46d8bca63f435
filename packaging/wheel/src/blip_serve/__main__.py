"""Starts the program of this package with the LibTorch of the package `torch`."""

import os
import re
import sys
from importlib import metadata, util
from pathlib import Path

PROGRAM = Path(__file__).resolve().parent / "bin/blip-serve"
# The run path of the program.
BESIDE = PROGRAM.parents[2] / "torch/lib"


def required_torch():
    """Returns the version of torch that this package requires."""
    requirements = " ".join(metadata.requires("blip-serve") or ())
    return re.search(r"\btorch==([\w.]+)", requirements)[1]


def installed_torch():
    """Returns the version of torch and the folder of LibTorch, or None if torch is missing.

    It does not import torch, which takes seconds.
    """
    spec = util.find_spec("torch")
    try:
        version = metadata.version("torch")
    except metadata.PackageNotFoundError:
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    return version, Path(spec.submodule_search_locations[0]) / "lib"


def main():
    """Replaces this process by the program, or exits with one line that states what to install."""
    required, installed = required_torch(), installed_torch()
    # A local version such as +cpu or +cu130 is another build of the same release.
    if installed is None or installed[0].split("+")[0] != required:
        found = f"torch {installed[0]} is installed" if installed else "torch is not installed"
        sys.exit(f"blip-serve: {found} in {sys.prefix}, version {required} is required. Install torch=={required}")
    folder = installed[1]
    if not (folder / "libtorch_cpu.so").exists():
        sys.exit(f"blip-serve: {folder} has no libtorch_cpu.so. Install torch=={required} from PyPI or pytorch.org")
    if folder.resolve() != BESIDE.resolve():
        # Two folders of packages, for example of the user and of the system.
        paths = [str(folder), os.environ.get("LD_LIBRARY_PATH")]
        os.environ["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, paths))
    os.execv(PROGRAM, ["blip-serve", *sys.argv[1:]])


if __name__ == "__main__":
    main()
