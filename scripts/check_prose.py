#!/usr/bin/env python3
"""Checks the prose rules that a script can check, in all files that git knows.

- length: a line of Markdown or of a comment has at most 100 characters.
- word: words that the style guide replaces occur neither in prose nor in identifiers.
- test: the name of a test has at most 60 characters.
- commit: with --commits BASE, a commit subject is `scope: summary` in at most 72 characters.

Usage: check_prose.py [--count] [--commits BASE] [--root DIR] [PATH ...]
"""

import argparse
import ast
import bisect
import fnmatch
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

MAX_LINE, MAX_TEST_NAME, MAX_SUBJECT = 100, 60, 72

# Files that are data, third-party, or a list of these words.
EXCLUDED = (
    "LICENSE", "*.lock", "*/results/*", "*/goldens/*", "fuzz/corpus/*", "*/proptest-regressions/*", "proto/google/*",
    "tests/data/*", "*/pickles/*", "*/node_modules/*",
)  # fmt: skip
# Files whose words are not checked: history, the style guide's own list, this check and its tests.
WORDS_EXCLUDED = (
    "CHANGELOG.md", "docs/contributing/style.md", "scripts/check_prose.py", "tests/scripts/test_check_prose.py",
)  # fmt: skip

# What stays although a word below matches it: names on the wire, model inputs, APIs, terms.
ALLOWED = re.compile(
    r"""
      \bblip_canary\w* | \bBlipServeCanaryFails\b      # names of metrics and of an alert
    | \bkeep[_-]?alive\w*
    | \ba\ picture\ of\b | \bin\ the\ picture\ ?\?      # model inputs
    | \bthe\ picture\ shows?\b
    | \.(?:try_|r|par_)?fold\( | \btry_fold\b           # iterators
    | \.tell\(                                          # position of a file
    | \blone[ _]surrogates?\b                           # the term of Unicode
    | \bfront[-_]door\b                                 # the name of a committed benchmark
    | \bflavor\ =\ "                                    # tokio's test attribute
    | \bstring\ flavour\ = | \.flavour\b | "flavour" | \bflavour:\ (?=\S)  # a field of the contract
    | \balias(?:es)?\ *=\ *\[?"[^"]*"                   # old names of settings
    """,
    re.X | re.I,
)
# A comment with which a line states that its word is meant to stay.
EXCEPTION = "check_prose: allow"
# Files that use a word in its standard meaning: lanes of vectors and warps.
ALLOWED_FILES = {
    "lane": ("crates/cpu_kernels/*", "crates/cuda*", "crates/blip/src/preprocess/*", "docs/decisions/*kernels.md"),
}  # fmt: skip

# Single words and phrases, in any case, also as parts of identifiers. Group names are the words.
SPACE = r"[\s/#!*]+"
WORDS = {
    "told": r"told", "tell": r"tells?|telling", "wanted": r"wanted|unwanted", "kept": r"kept",
    "picture": r"pictures?", "door": r"doors?", "anew": r"anew", "lone": r"lone", "company": r"company",
    "stranger": r"strangers?", "our_own": r"our own", "of_its_own": r"of (?:its|their|his|one s) own",
    "habits": r"habits?", "the_house": r"the house", "ledger": r"ledgers?", "canary": r"canar(?:y|ies)",
    "flavour": r"flavou?rs?", "rider": r"riders?", "lane": r"lanes?", "fold": r"folds?",
    "seen_images": r"seen images?", "kernels_own": r"kernels own", "is_not_there": r"(?:is|are) not there",
    "is_there": r"is there(?! (?:an?|any|no|one|the|something)\b)",
}  # fmt: skip
WORD = re.compile(
    r"\b(?:" + "|".join(f"(?P<{name}>{words.replace(' ', SPACE)})" for name, words in WORDS.items()) + r")\b"
)
# Words that are banned only in these forms, because they are common words otherwise.
IDENTIFIER = re.compile(
    r"(?P<keep_>\bkeep_\w+|\bKeep[A-Z]\w*)|(?P<own_>\bown_\w+|\bOwn[A-Z]\w*|::Own\b|\"own\")"
)
# Every match contains one of these; plain searches for them are much faster than the expressions.
HINTS = (
    "told", "tell", "wanted", "kept", "picture", "door", "anew", "lone", "company", "stranger", "own", "habit", "house",
    "ledger", "canar", "flavo", "rider", "lane", "fold", "seen", "there", "keep",
)  # fmt: skip

RUST_TEST = re.compile(r"#\[(?:\w+::)*test\b[^\]]*\]\s*(?:(?:#\[[^\]]*\]|//[^\n]*)\s*)*(?:pub )?(?:async )?fn (\w+)")
PROPTEST = re.compile(r"\bfn (\w+)\s*\([^{};]*?\w\s+in\s")
PYTHON_TEST = re.compile(r"^\s*(?:async )?def (test_\w+)", re.M)
COMMIT = re.compile(r"[a-z0-9_.,/*()-]+: \S")
URL = re.compile(r"<?\bhttps?://[^\s>)\]]+>?")
LINK_ONLY = re.compile(r"(?:[-*+]|\d+\.)?\s*(?:!?\[[^\]]*\](?:\([^)]*\)|:.*)[.,;]?\s*)+|\[!\[.*")

SLASHES = {".rs", ".proto", ".cpp", ".cu", ".cuh", ".h", ".js", ".mjs"}
HASHES = {".py", ".sh", ".toml", ".yaml", ".yml", "Makefile", "Dockerfile"}
SLASH, HASH = re.compile(r"\s*//[/!]?"), re.compile(r"\s*#(?!!)")
DOCUMENTED = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
CODE = SLASHES | {".py", ".sh", ".md", ".tpl"}  # whole files are checked for words, not only comments


def kind_of(path):
    return path.suffix or path.name


def prose_lines(kind, text):
    """Yields number, line and prose of every Markdown or comment line outside code blocks."""
    marker = SLASH if kind in SLASHES else HASH if kind in HASHES else None
    strings = docstring_lines(text) if kind == ".py" else set()
    if kind == ".tpl":
        text = template_comments(text)
    fence = None
    for number, line in enumerate(text.split("\n"), 1):
        match = marker.match(line) if marker else None
        if marker and not match and number not in strings:
            fence = None
            continue
        prose = (line[match.end() :] if match else line).strip()
        if kind in (".md", ".rs") and (found := re.match(r"(?:[-*+] +|\d+\. +|> *)*(```+|~~~+)", prose)):
            fence = None if fence and prose.startswith(fence) else fence or found[1]
        elif fence is None:
            yield number, line, prose


def template_comments(text):
    """Returns the comments of a Helm template at their lines, without the code between them."""
    parts = re.split(r"(\{\{-? */\*.*?\*/ *-?\}\})", text, flags=re.S)
    return "".join(part if index % 2 else "\n" * part.count("\n") for index, part in enumerate(parts))


def docstring_lines(text):
    """Returns the numbers of the lines that docstrings occupy."""
    lines, nodes = set(), [ast.parse(text)]
    for node in nodes:
        nodes += [child for child in node.body if isinstance(child, DOCUMENTED)]
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str):
            lines.update(range(first.lineno, first.end_lineno + 1))
    return lines


def long_lines(kind, text):
    if not any(len(line) > MAX_LINE for line in text.split("\n")):
        return
    for number, line, prose in prose_lines(kind, text):
        if len(line) > MAX_LINE and not prose.startswith("|") and not LINK_ONLY.fullmatch(prose):
            if len(URL.sub("", line)) > MAX_LINE:
                yield number, f"line of {len(line)} characters, {MAX_LINE} allowed"


def comments_only(text):
    return "\n".join((re.search(r"(?:^|\s)#(?!!).*", line) or [""])[0] for line in text.split("\n"))


def separate(text):
    """Returns the text in lower case with the parts of identifiers as separate words."""
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", text)
    return text.replace("_", " ").replace("’", " ").replace("'", " ").lower()


def candidate_lines(text):
    """Returns the numbers of lines that may hold a banned word or the beginning of a phrase."""
    lower, found = text.lower(), set()
    starts = [0, *(match.end() for match in re.finditer("\n", lower))]
    for hint in HINTS:
        position = lower.find(hint)
        while position >= 0:
            line = bisect.bisect(starts, position)
            found |= {line - 1, line}
            position = lower.find(hint, position + 1)
    return sorted(found - {0})


def banned_words(name, kind, text):
    """Yields line, rule and match of every banned word. A phrase may end in the next line."""
    text = text if kind in CODE else comments_only(text)
    lines = [*text.split("\n"), ""]
    for number in candidate_lines(text):
        if EXCEPTION in lines[number - 1]:
            continue
        line, after = (ALLOWED.sub(" | ", line) for line in lines[number - 1 : number + 1])
        length = len(separate(line))
        for match in WORD.finditer(separate(f"{line}\n{after}")):
            rule = match.lastgroup
            if match.start() < length and not excluded(name, ALLOWED_FILES.get(rule, ())):
                yield number, rule, " ".join(re.sub(r"[/#!*]", " ", match[0]).split())
        for match in IDENTIFIER.finditer(line) if kind in (".rs", ".py") else ():
            yield number, match.lastgroup, match[0]


def test_names(kind, text):
    patterns = {".rs": (RUST_TEST, PROPTEST) if "proptest!" in text else (RUST_TEST,), ".py": (PYTHON_TEST,)}
    found = {match.start(1): match for pattern in patterns.get(kind, ()) for match in pattern.finditer(text)}
    for match in found.values():
        if len(match[1]) > MAX_TEST_NAME:
            line = text.count("\n", 0, match.start(1)) + 1
            yield line, f"test name of {len(match[1])} characters, {MAX_TEST_NAME} allowed: {match[1]}"


def excluded(name, globs):
    return any(fnmatch.fnmatch(name, glob) for glob in globs)


def is_generated(kind, text):
    return kind not in (".rs", ".py") and re.search("generated from|generated by|do not edit", text[:400], re.I)


def check_file(root, name):
    """Yields kind, line and message of every problem of one file."""
    path = root / name
    kind = kind_of(path)
    if kind not in CODE | HASHES or excluded(name, EXCLUDED):
        return
    text = path.read_text(errors="replace")
    for line, message in long_lines(kind, text):
        yield "length", line, message
    for line, message in test_names(kind, text):
        yield "test", line, message
    if excluded(name, WORDS_EXCLUDED) or is_generated(kind, text):
        return
    for _, word, found in banned_words(name, ".path", f"# {ALLOWED.sub('', Path(name).name)}"):
        yield f"word {word}", 1, f"banned word `{found}` in the name of the file"
    for line, word, found in banned_words(name, kind, text):
        yield f"word {word}", line, f"banned word `{found}`"


def check_commits(root, base):
    """Yields commit and message of every bad subject after `base`, merge commits excepted.

    A shallow clone may end after `base`. Then all its commits are later ones.
    """
    git = ["git", "-C", str(root)]
    known = subprocess.run([*git, "rev-parse", "-q", "--verify", f"{base}^{{commit}}"], capture_output=True)
    commits = f"{base}..HEAD" if known.returncode == 0 else "HEAD"
    command = [*git, "log", "--no-merges", "--format=%h %s", commits]
    for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines():
        commit, _, subject = line.partition(" ")
        if len(subject) > MAX_SUBJECT:
            yield commit, f"commit subject of {len(subject)} characters, {MAX_SUBJECT} allowed: {subject}"
        if not COMMIT.match(subject):
            yield commit, f"commit subject without `scope: `: {subject}"


def top_folder(name):
    return "/".join(name.split("/")[: 2 if name.startswith("crates/") else 1])


def files(root, paths):
    command = ["git", "-C", str(root), "ls-files", "-z", "-co", "--exclude-standard", "--", *paths]
    names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")
    return sorted({name for name in names if name and (root / name).is_file()})


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("paths", nargs="*", help="files and folders; all by default")
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="root of the repository")
    parser.add_argument("--commits", metavar="BASE", help="also check the commit subjects of BASE..HEAD")
    parser.add_argument("--count", action="store_true", help="print counts by kind and by folder")
    options = parser.parse_args(arguments)
    problems = []
    for name in files(options.root, options.paths):
        problems += [(kind, name, line, message) for kind, line, message in check_file(options.root, name)]
    if options.commits:
        problems += [("commit", commit, 1, text) for commit, text in check_commits(options.root, options.commits)]
    if options.count:
        kinds = Counter(kind for kind, *_ in problems)
        folders = Counter(top_folder(name) for kind, name, *_ in problems if kind != "commit")
        for counts in (kinds, folders):
            print(*(f"{count:6} {name}" for name, count in counts.most_common()), sep="\n", end="\n\n")
    else:
        for _, name, line, message in problems:
            print(f"{name}:{line}: {message}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
