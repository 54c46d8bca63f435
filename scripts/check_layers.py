#!/usr/bin/env python3
"""Checks the module structure of every crate: import direction, cycles and folder sizes.

Each `lib.rs`, `main.rs` and `mod.rs` lists its modules from entry point to foundation. A module may
import only from modules listed below it. Test code is exempt. The import of a re-exported name
counts as an import from the module that defines it.

Usage: check_layers.py [--report] [--root DIR] [CRATE ...]
"""

import argparse
import re
import sys
from collections import defaultdict
from pathlib import Path

MAX_FILES = 13
SOURCE_SUFFIXES = {".rs", ".cpp", ".cu", ".cuh", ".h"}
RELATIVE = ("crate", "super", "self")

# Comments, strings and character literals: none of them can import anything.
LITERAL = re.compile(
    r"//[^\n]*|/\*.*?\*/|\bb?r(#*)\".*?\"\1|b?\"(?:\\.|[^\"\\])*\"|b?'(?:\\.[^'\n]*|[^'\\\n])'", re.S
)
TEST_ITEM = re.compile(r"#\[cfg\(\s*(?:test\s*\)|(?:all|any)\([^\]]*\btest\b[^\]]*)\](?:\s*#\[[^\]]*\])*")
TEST_FILE = re.compile(r"#!\[cfg\(\s*test\s*\)\]")
MODULE = re.compile(r"\bmod\s+(?:r#)?(\w+)\s*[;{]")
USE = re.compile(r"(\bpub(?:\([^)]*\))?\s+)?\buse\s+([^;]+);")
USE_GROUP = re.compile(r"([\w:\s]*)\{([^{}]*)\}")
INLINE_PATH = re.compile(r"(?<![\w:.])\w+(?:::\w+)+")
ITEM = r"\b(?:struct|enum|union|trait|type|fn|const|static|macro_rules!)\s+(?:mut\s+)?"


def erase(text, start, end):
    """Returns `text` with spaces from `start` to `end`. Offsets and lines remain valid."""
    return text[:start] + re.sub(r"[^\n]", " ", text[start:end]) + text[end:]


def item_end(text, start):
    """Returns the end of the item that begins at `start`: its semicolon, or its closing brace."""
    depth = 0
    for match in re.compile(r"[;(){}\[\]]").finditer(text, start):
        depth += (match[0] in "({[") - (match[0] in ")}]")
        if depth <= 0 and match[0] in ";}":
            return match.end()
    return len(text)


def without_tests(source):
    """Returns the source without comments, literals, visibility paths and test items."""
    text = LITERAL.sub(lambda match: erase(match[0], 0, len(match[0])), source)
    text = re.sub(r"pub\(in [^)]*\)", lambda match: "pub".ljust(len(match[0])), text)
    if TEST_FILE.search(text):
        return ""
    while match := TEST_ITEM.search(text):
        text = erase(text, match.start(), item_end(text, match.end()))
    return text


def use_leaves(tree):
    """Yields the path of every leaf of a use tree, and the name that it binds (`*` for a glob)."""
    tree = tree.replace("r#", "")
    while USE_GROUP.search(tree):
        tree = USE_GROUP.sub(lambda group: ",".join(group[1] + leaf for leaf in group[2].split(",")), tree)
    for leaf in tree.split(","):
        path, _, alias = re.sub(r"\s+", " ", leaf).strip().partition(" as ")
        path = path.replace(" ", "").removesuffix("::self").split("::")
        if path[-1]:
            yield path, alias or path[-1]


def strong_components(graph):
    """Returns the strongly connected components of more than one node (Tarjan's algorithm)."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for successor in graph.get(node, ()):
            if successor not in index:
                visit(successor)
            if successor in stack:
                low[node] = min(low[node], low[successor])
        if low[node] == index[node]:
            component = stack[stack.index(node) :]
            del stack[-len(component) :]
            found.append(component)

    for node in list(graph):
        if node not in index:
            visit(node)
    return [component for component in found if len(component) > 1]


class Module:
    """A module: its file, the modules that it lists, and what it imports."""

    def __init__(self, file, name, parent=None):
        self.file, self.name, self.parent = file, name, parent
        self.lineage = [*parent.lineage, self] if parent else [self]
        self.children, self.imported, self.globs, self.paths, self.text = {}, {}, [], [], ""

    def __str__(self):
        return "::".join(module.name for module in self.lineage[1:])

    def has(self, name):
        return name in self.children or name in self.imported or re.search(rf"{ITEM}{name}\b", self.text)

    def resolve(self, path, depth=0):
        """Returns the module that defines the item of `path`, or None outside of this crate.

        A path to a module itself gives that module and True.
        """
        at, rest = self.lineage[0] if path[0] == "crate" else self, list(path)
        while rest and rest[0] in RELATIVE:
            at = at.parent or at if rest.pop(0) == "super" else at
        for position, name in enumerate(rest):
            if name in at.children:
                at = at.children[name]
                continue
            targets = [at.imported[name]] if name in at.imported else [[*glob, name] for glob in at.globs]
            for target in targets if depth < 8 else ():
                module, is_module = at.resolve(target, depth + 1)
                if module and module is not at and (is_module or module.has(name)):
                    tail = rest[position + 1 :]
                    is_item = not is_module or not tail
                    return (module, is_module) if is_item else module.resolve(["self", *tail], depth + 1)
            is_foreign = len(rest) == len(path) and position == 0 and not re.search(rf"{ITEM}{name}\b", at.text)
            return (None if is_foreign else at), False
        return at, True


class Crate:
    """The modules of one crate, the imports among them, and the problems found."""

    def __init__(self, source, root):
        self.name, self.source, self.root = source.parent.name, source, root
        self.modules, self.problems, self.edges, self.upward, self.cycles = [], [], {}, 0, []
        for entry in (source / "lib.rs", source / "main.rs", *sorted(source.glob("bin/*.rs"))):
            if entry.exists():
                self.read_file(Module(entry, "crate"), entry.parent)
        self.check_folders()
        self.check_imports()
        self.check_cycles()

    def report(self, file, line, text):
        self.problems.append(f"{file.relative_to(self.root)}:{line}: {text}")

    def read_file(self, module, folder):
        """Reads a module's file, and those of its children, which lie in `folder`."""
        source = module.file.read_text()
        for match in re.finditer(r"^[^/\n]*#\[path\b", source, re.M):
            self.report(module.file, source.count("\n", 0, match.end()) + 1, "#[path] attribute")
        self.read_module(module, folder, without_tests(source), 1)

    def read_module(self, module, folder, text, first_line):
        self.modules.append(module)
        while match := MODULE.search(text):
            name, is_inline = match[1], match[0].endswith("{")
            end = item_end(text, match.start())
            files = (module.file,) if is_inline else (folder / f"{name}.rs", folder / name / "mod.rs")
            file = next((file for file in files if file.exists()), None)
            if file and name != "tests":
                child = module.children[name] = Module(file, name, module)
                if is_inline:
                    line = first_line + text.count("\n", 0, match.end())
                    self.read_module(child, folder / name, text[match.end() : end - 1], line)
                else:
                    self.read_file(child, folder / name)
            text = erase(text, match.start(), end)
        module.text = code = USE.sub(lambda match: erase(match[0], 0, len(match[0])), text)
        words = set(re.findall(r"\w+", code))
        for match in USE.finditer(text):
            for path, name in use_leaves(match[2]):
                if name == "*":
                    module.globs.append(path[:-1])
                else:
                    module.imported.setdefault(name, path)
                # A re-export alone is no dependency: its users depend on the defining module.
                if not match[1] or name in words:
                    offset = match.start(2) + (re.search(re.escape(path[-1]) + r"(?!\w)", match[2]) or match).start()
                    module.paths.append((first_line + text.count("\n", 0, offset), path))
        for match in INLINE_PATH.finditer(code):
            module.paths.append((first_line + code.count("\n", 0, match.start()), match[0].split("::")))

    def check_imports(self):
        """Finds what every module imports, and reports imports from modules listed above it."""
        for module in self.modules:
            for line, path in module.paths:
                is_glob = path[-1] == "*"
                target, is_module = module.resolve(path[:-1] if is_glob else path)
                # The uses of an imported module are separate paths.
                if not target or target is module or is_module and not is_glob or (module, target) in self.edges:
                    continue
                self.edges[module, target] = line
                siblings = self.siblings(module, target)
                if siblings:
                    user, used = siblings
                    order = list(user.parent.children.values())
                    if order.index(user) > order.index(used):
                        self.upward += 1
                        text = f"upward import of {'::'.join(path)}: {used} is listed above {user}"
                        self.report(module.file, line, text)

    @staticmethod
    def siblings(module, target):
        """Returns the ancestors of both with a common parent, or None if one contains the other."""
        shared = sum(a is b for a, b in zip(module.lineage, target.lineage))
        if 0 < shared < min(len(module.lineage), len(target.lineage)):
            return module.lineage[shared], target.lineage[shared]
        return None

    def check_cycles(self):
        """Reports cycles among files, and among sibling modules of which one is a folder."""
        files, modules, lines = defaultdict(set), defaultdict(set), {}
        for (module, target), line in self.edges.items():
            if module.file != target.file:
                files[module.file].add(target.file)
                lines.setdefault((module.file, target.file), (module.file, line))
            if siblings := self.siblings(module, target):
                modules[siblings[0]].add(siblings[1])
                lines.setdefault(siblings, (module.file, line))
        for graph, kind in ((files, "files"), (modules, "modules")):
            for cycle in strong_components(graph):
                if graph is files:
                    self.cycles.append(len(cycle))
                elif not any(module.children for module in cycle):
                    continue  # a cycle of files, reported as such
                names = sorted(str(node.relative_to(self.source) if graph is files else node) for node in cycle)
                place = min(lines[a, b] for a in cycle for b in graph[a] if b in cycle)
                self.report(*place, f"import cycle of {len(cycle)} {kind}: {', '.join(names)}")

    def check_folders(self):
        folders = [self.source, *sorted(path for path in self.source.rglob("*") if path.is_dir())]
        self.sizes = {folder: sum(file.suffix in SOURCE_SUFFIXES for file in folder.iterdir()) for folder in folders}
        for folder, size in self.sizes.items():
            if size > MAX_FILES:
                self.report(folder, 1, f"{size} source files in a folder, {MAX_FILES} allowed")
            if (file := folder.with_suffix(".rs")).exists():
                self.report(file, 1, f"file beside the folder {folder.name}/, {folder.name}/mod.rs expected")

    def summary(self):
        largest = max(self.sizes, key=self.sizes.get)
        cycles = " + ".join(map(str, sorted(self.cycles, reverse=True))) or "none"
        return (
            f"{self.name}: {sum(self.sizes.values())} files, {sum(map(bool, self.sizes.values()))} folders, "
            f"largest {largest.relative_to(self.source.parent)} with {self.sizes[largest]} files, "
            f"{self.upward} upward imports, cycles of files: {cycles}, {len(self.problems)} problems"
        )


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("crates", nargs="*", metavar="CRATE", help="folders in crates/; all by default")
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="root of the repository")
    parser.add_argument("--report", action="store_true", help="print a summary of each crate and exit with 0")
    options = parser.parse_args(arguments)
    sources = {source.parent.name: source for source in sorted(options.root.glob("crates/*/src"))}
    if unknown := set(options.crates) - set(sources):
        parser.error(f"unknown crates: {', '.join(sorted(unknown))}, available: {', '.join(sources)}")
    crates = [Crate(sources[name], options.root) for name in options.crates or sources]
    for crate in crates:
        for line in [crate.summary()] if options.report else crate.problems:
            print(line)
    return 1 if not options.report and any(crate.problems for crate in crates) else 0


if __name__ == "__main__":
    sys.exit(main())
