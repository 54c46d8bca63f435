"""Assembles the final stage of deploy/Dockerfile without a container engine.

    image_layout.py ROOT BASE BUILT...

ROOT is the folder to fill. BASE is a folder with the files of the base image, which are copied
first. Then the script performs every COPY of the final stage. Its source is this tree, or for
`--from=build` a path that BUILT maps: /opt/blip-serve=target/release/blip-serve.

The script reads only the Dockerfile, so that the folder has the same files as the image. It prints
user, working directory, environment and entry point of the stage as JSON.
"""

import json
import re
import shlex
import shutil
import sys
from pathlib import Path

TREE = Path(__file__).resolve().parents[1]
DOCKERFILE = TREE / "deploy/Dockerfile"


def final_stage():
    """Returns (instruction, arguments) of each instruction after the last FROM."""
    text = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", DOCKERFILE.read_text()))
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    start = max(index for index, line in enumerate(lines) if line[0] == "FROM")
    return [(line[0], line[1]) for line in lines[start + 1 :]]


def copy(source, target):
    """Copies like COPY: the contents of a folder, or one file to a name."""
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def assemble(root, base, built):
    """Fills `root`. Returns the other instructions of the stage."""
    shutil.copytree(base, root, symlinks=True, dirs_exist_ok=True)
    stage = {"env": {}}
    for instruction, rest in final_stage():
        match instruction:
            case "COPY":
                *options, source, target = shlex.split(rest)
                origin = Path(built.pop(source)) if options == ["--from=build"] else TREE / source
                if options not in ([], ["--from=build"]):
                    sys.exit(f"image layout: unsupported options of COPY: {options}")
                copy(origin, root / target.lstrip("/"))
            case "ENV":
                stage["env"] |= dict(part.split("=", 1) for part in shlex.split(rest))
            case "USER" | "WORKDIR" | "STOPSIGNAL":
                stage[instruction.lower()] = rest
            case "ENTRYPOINT":
                stage["entrypoint"] = json.loads(rest)
            case "ARG" | "LABEL" | "EXPOSE" | "HEALTHCHECK" | "CMD":
                pass
            case _:
                sys.exit(f"image layout: unsupported instruction: {instruction}")
    if built:
        sys.exit(f"image layout: not copied by the Dockerfile: {', '.join(built)}")
    return stage


def main(root, base, *built):
    paths = dict(each.split("=", 1) for each in built)
    print(json.dumps(assemble(Path(root), Path(base), paths)))


if __name__ == "__main__":
    main(*sys.argv[1:])
