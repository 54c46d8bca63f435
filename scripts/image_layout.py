"""Assembles what deploy/Dockerfile's final stage is, without a container engine.

    image_layout.py ROOT BASE BUILT...

BASE is a folder with the files of the base image, copied first. Then every COPY of the final stage is done, from this tree, or for
`--from=build` from where BUILT says that a path of the build stage lies here: /opt/blip-serve=target/release/blip-serve. Nothing is read but the
Dockerfile, so the folder cannot differ from the image in what is copied where. Prints the stage's user, working directory, environment and
entry point as JSON.
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
    """(instruction, rest) of each instruction after the last FROM."""
    text = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", DOCKERFILE.read_text()))
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    start = max(index for index, line in enumerate(lines) if line[0] == "FROM")
    return [(line[0], line[1]) for line in lines[start + 1 :]]


def copy(source, target):
    """As COPY does: a folder's contents, or one file under the name given; owned by who runs this, open for reading."""
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def assemble(root, base, built):
    """Fills `root`; what the stage says besides files."""
    shutil.copytree(base, root, symlinks=True, dirs_exist_ok=True)
    said = {"env": {}}
    for instruction, rest in final_stage():
        match instruction:
            case "COPY":
                *options, source, target = shlex.split(rest)
                origin = Path(built.pop(source)) if options == ["--from=build"] else TREE / source
                if options not in ([], ["--from=build"]):
                    sys.exit(f"image layout: COPY with {options} is not known")
                copy(origin, root / target.lstrip("/"))
            case "ENV":
                said["env"] |= dict(part.split("=", 1) for part in shlex.split(rest))
            case "USER" | "WORKDIR" | "STOPSIGNAL":
                said[instruction.lower()] = rest
            case "ENTRYPOINT":
                said["entrypoint"] = json.loads(rest)
            case "ARG" | "LABEL" | "EXPOSE" | "HEALTHCHECK" | "CMD":
                pass
            case _:
                sys.exit(f"image layout: {instruction} is not known")
    if built:
        sys.exit(f"image layout: the Dockerfile copies no {', '.join(built)}")
    return said


def main(root, base, *built):
    print(json.dumps(assemble(Path(root), Path(base), dict(each.split("=", 1) for each in built))))


if __name__ == "__main__":
    main(*sys.argv[1:])
