"""Unpacks LibTorch from PyPI wheels: `unpack_libtorch.py cpu|cuda DESTINATION WHEEL...`.

The destination gets `include/` and a flat `lib/`, the layout that tch expects of LIBTORCH. For the
CPU, it gets only the libraries that a CPU process loads. `libtorch_cpu.so` of the CUDA build links
the CUDA runtime and CUPTI. The CUDA headers are included, because every machine compiles the code
that uses CUDA.
"""

import pathlib
import shutil
import sys
import zipfile

CPU_LIBRARIES = {
    "libtorch.so",
    "libtorch_cpu.so",
    "libc10.so",
    "libgomp.so.1",
    "libcudart.so.13",
    "libcupti.so.13",
}
# Python bindings and test tools, which a process without Python does not load.
UNUSED = {
    "libtorch_python.so",
    "libshm.so",
    "libtorch_global_deps.so",
    "libnvperf_host.so",
    "libnvperf_target.so",
}


def destination(member: str, device: str) -> str | None:
    """Returns the path of a wheel's member below the destination, or None if it is omitted."""
    if member.endswith("/"):
        return None
    if member.startswith("torch/include/"):
        return member.removeprefix("torch/")
    if member.startswith("nvidia/") and "/include/" in member:
        return "include/" + member.split("/include/", 1)[1]
    name = member.rsplit("/", 1)[-1]
    in_lib = member.startswith(("torch/lib/", "nvidia/")) and "/lib/" in member and ".so" in name
    if not in_lib or name in UNUSED or (device == "cpu" and name not in CPU_LIBRARIES):
        return None
    return f"lib/{name}"


def main(device: str, root: pathlib.Path, wheels: list[str]) -> None:
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                name = destination(member, device)
                if name is None:
                    continue
                path = root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, path.open("wb") as target:
                    shutil.copyfileobj(source, target, 1 << 22)
    missing = [name for name in sorted(CPU_LIBRARIES) if not (root / "lib" / name).exists()]
    if missing:
        sys.exit(f"unpack_libtorch: missing in the wheels: {', '.join(missing)}")


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3:])
