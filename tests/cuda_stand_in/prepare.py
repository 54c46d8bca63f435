"""Makes a folder of LibTorch in which stand-ins replace the libraries of NVIDIA.

`prepare.py` prints the folder. A program that runs with it as LD_LIBRARY_PATH uses LibTorch's real
CUDA library on a machine without a GPU. The wheel that the CPU build downloads contains that
library. The folder is in the cache that all clones share. Its name depends on the sources.
"""

import concurrent.futures
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = Path(__file__).resolve().parent / "runtime"
CACHE = Path(
    os.environ.get("BLIP_SERVE_CACHE")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "blip-serve"
)
# The members of the wheel that a CPU build leaves out.
CUDA_LIBRARIES = ["libtorch_cuda.so", "libc10_cuda.so", "libtorch_nvshmem.so"]
# Library: its sources. libcudart.so.13 holds the state, which the others use.
STAND_INS = {
    "libcudart.so.13": [
        "cudart_device.cpp",
        "cudart_memory.cpp",
        "cudart_stream.cpp",
        "memory.cpp",
        "stream.cpp",
        "trace.cpp",
    ],
    "libcuda.so.1": ["driver.cpp"],
    "libcublas.so.13": ["cublas.cpp"],
    "libcublasLt.so.13": ["cublaslt.cpp"],
    "libcudnn.so.9": ["cudnn.cpp"],
}


# The version of the symbols of a library, if it is not the name of the library.
SYMBOL_VERSIONS = {"libnvshmem_host.so.3": "NVSHMEM"}
# The library that gets the functions without a version, of several libraries.
UNVERSIONED = "libnccl.so.2"


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def libtorch():
    """Returns the folder of the CPU build, which `make libtorch` links."""
    return (ROOT / ".libtorch").resolve()


def cuda_libraries():
    """Returns a folder with LibTorch's CUDA libraries. Downloads the wheel on the first call."""
    requirement = next(
        line
        for line in (ROOT / "scripts/libtorch-cpu.txt").read_text().splitlines()
        if line.startswith("torch==")
    )
    folder = CACHE / f"libtorch-cuda-library-{hashlib.sha256(requirement.encode()).hexdigest()[:16]}"
    if folder.exists():
        return folder
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="partial.") as partial:
        partial = Path(partial)
        (partial / "requirements.txt").write_text(requirement + "\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        command += ["--only-binary", ":all:", "--python-version", "3.11", "--dest", partial]
        command += ["--platform", "manylinux_2_28_x86_64", "--requirement", partial / "requirements.txt"]
        print("cuda_stand_in: fetching the CUDA libraries of LibTorch", file=sys.stderr)
        subprocess.run(command, check=True, stdout=sys.stderr)
        (partial / "lib").mkdir()
        with zipfile.ZipFile(next(partial.glob("torch-*.whl"))) as wheel:
            for name in CUDA_LIBRARIES:
                with wheel.open(f"torch/lib/{name}") as source, (partial / "lib" / name).open("wb") as target:
                    shutil.copyfileobj(source, target, 1 << 22)
        (partial / "lib").rename(folder)
    return folder


def link(source, target):
    """Makes `target` the same file as `source`. A link by name would show the path of `source`."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def needed(library):
    """Returns the names of the libraries that a library needs."""
    lines = output("readelf", "-d", library).splitlines()
    return [line.split("[")[1].rstrip("]") for line in lines if "(NEEDED)" in line]


def undefined(library):
    """Yields the name and the version of each symbol that another library must define."""
    for line in output("nm", "-D", "--undefined-only", library).splitlines():
        kind, symbol = line.split()[-2:]
        name, _, version = symbol.partition("@")
        # Weak symbols may stay undefined.
        if kind == "U":
            yield name, version.lstrip("@")


def defined(*libraries):
    """Returns the names of the symbols that libraries define."""
    lines = output("nm", "-D", "--defined-only", *libraries).splitlines()
    return {line.split()[-1].partition("@")[0] for line in lines if len(line.split()) == 3}


def missing_functions(folder):
    """Returns the functions of NVIDIA's libraries that LibTorch's libraries call, by version."""
    libraries = [folder / name for name in [*CUDA_LIBRARIES, "libtorch_cpu.so"]]
    present = defined(*libraries, folder / "libc10.so", folder / "libcupti.so.13", folder / "libgomp.so.1")
    functions = {}
    for library in libraries:
        for name, version in undefined(library):
            is_unversioned = not version and name not in present and not name.startswith("_Z")
            if is_unversioned or version.startswith("libcu") or version in SYMBOL_VERSIONS.values():
                functions.setdefault(version, set()).add(name)
    return functions


def compile_library(folder, name, functions):
    """Compiles the stand-in of a library, with the functions that LibTorch calls.

    A function that the sources do not define records its call, which fails the tests, and returns
    an error.
    """
    version = "" if name == UNVERSIONED else SYMBOL_VERSIONS.get(name, name)
    required = functions.get(version, set())
    with tempfile.TemporaryDirectory() as build:
        build = Path(build)
        objects = []
        compiler = ["g++", "-std=c++20", "-O1", "-fPIC", "-pthread", "-Wall", "-Wno-return-type"]
        compiler += ["-isystem", libtorch() / "include", "-I", SOURCES, "-c"]
        for source in STAND_INS.get(name, []):
            objects.append(build / f"{source}.o")
            subprocess.run([*compiler, SOURCES / source, "-o", objects[-1]], check=True)
        symbols = output("nm", "--defined-only", *objects).splitlines() if objects else []
        has = {line.split()[-1] for line in symbols if len(line.split()) == 3}
        missing = "".join(
            f'int {function}() {{ return stand_in_unexpected("{function}"); }}\n'
            for function in sorted(required - has)
        )
        (build / "missing.cpp").write_text(f'#include "trace.h"\nextern "C" {{\n{missing}}}\n')
        subprocess.run([*compiler, build / "missing.cpp", "-o", build / "missing.o"], check=True)
        version = version if version in functions else ""
        (build / "exports.map").write_text(f"{version} {{ global: *; }};\n")
        linker = ["g++", "-shared", "-pthread", "-o", folder / name, *objects, build / "missing.o", "-ldl"]
        linker += [f"-Wl,-soname,{name}", f"-Wl,--version-script={build / 'exports.map'}"]
        if name != "libcudart.so.13":
            linker += [folder / "libcudart.so.13"]
        subprocess.run(linker, check=True)


def make(folder):
    """Fills a new folder."""
    for library in (libtorch() / "lib").iterdir():
        if library.name != "libcudart.so.13":
            link(library, folder / library.name)
    for name in CUDA_LIBRARIES:
        link(cuda_libraries() / name, folder / name)
    functions = missing_functions(folder)
    required = {name for library in CUDA_LIBRARIES for name in needed(folder / library)}
    required = {name for name in required if name.startswith(("libcu", "libnccl", "libnvshmem"))}
    compile_library(folder, "libcudart.so.13", functions)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        builds = [
            pool.submit(compile_library, folder, name, functions)
            for name in sorted(required | {"libcuda.so.1"} - {"libcudart.so.13"})
            if not (folder / name).exists()
        ]
        for build in builds:
            build.result()
    (folder / "libcuda.so").symlink_to("libcuda.so.1")


def main():
    sources = [Path(__file__), ROOT / "scripts/libtorch-cpu.txt", *sorted(SOURCES.iterdir())]
    key = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    folder = CACHE / f"cuda-stand-in-{key}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "cuda-stand-in.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=CACHE, prefix="partial.") as partial:
                made = Path(partial) / "lib"
                made.mkdir()
                make(made)
                made.rename(folder)
    print(folder)


if __name__ == "__main__":
    main()
