#!/usr/bin/env python3
"""Prints the sentence lengths of Markdown files: sentences, mean words, share of long sentences.

Code blocks, tables, headings, comments and link targets are left out. A list item is a sentence.

Usage: prose_statistics.py [--rev REV] [--max-mean WORDS] [--max-share PERCENT] FILE ...
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

LONG = 30
BLOCKS = re.compile(r"^ *(```|~~~).*?^ *\1[^\n]*$|<!--.*?-->|\A---\n.*?\n---$", re.S | re.M)
SKIPPED_LINE = re.compile(r"^\s*(#{1,6} .*|\|.*|\[[^\]]+\]:.*|[-*_=]{3,}\s*|<[^>]*>\s*)$")
LIST_ITEM = re.compile(r"^\s*(?:[-*+]|\d+[.)])\s+")
# A full stop ends a sentence before white space, except after common abbreviations. A bold lead-in
# ("**Name.** Text") has its mark before the space and so belongs to the sentence that follows.
SENTENCE_END = re.compile(r"(?<!e\.g)(?<!i\.e)(?<!\betc)(?<!\bvs)[.!?](?=\s)")
WORD = re.compile(r"\w[\w'’.,/:%×-]*")


def paragraphs(markdown):
    """Returns the paragraphs and list items of a document as plain text."""
    lines, found = BLOCKS.sub("", markdown).splitlines(), [[]]
    for line in lines:
        line = line.lstrip("> ") if line.lstrip().startswith(">") else line
        if not line.strip() or SKIPPED_LINE.match(line):
            found.append([])
            continue
        if LIST_ITEM.match(line):
            found.append([])
            line = LIST_ITEM.sub("", line)
        found[-1].append(line)
    texts = (" ".join(lines) for lines in found if lines)
    return [re.sub(r"!?\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])", r"\1", text) for text in texts]


def sentence_lengths(markdown):
    """Returns the number of words of each sentence of a document."""
    sentences = (part for text in paragraphs(markdown) for part in SENTENCE_END.split(text))
    return [words for sentence in sentences if (words := len(WORD.findall(sentence)))]


def measure(markdown):
    """Returns the number of sentences, their mean length, and the percentage of long ones."""
    lengths = sentence_lengths(markdown)
    count = max(len(lengths), 1)
    return len(lengths), sum(lengths) / count, 100 * sum(words > LONG for words in lengths) / count


def read(path, rev):
    if rev is None:
        return Path(path).read_text()
    command = ["git", "show", f"{rev}:./{path}" if not path.startswith("/") else f"{rev}:{path}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--rev", help="commit whose files are measured, with paths relative to the current folder")
    parser.add_argument("--max-mean", type=float, help="highest allowed mean number of words")
    parser.add_argument("--max-share", type=float, help=f"highest allowed percentage of sentences over {LONG} words")
    options = parser.parse_args(arguments)
    failed = False
    for path in options.files:
        sentences, mean, share = measure(read(path, options.rev))
        over = (options.max_mean is not None and mean > options.max_mean) or (
            options.max_share is not None and share > options.max_share
        )
        failed |= over
        mark = "  TOO LONG" if over else ""
        print(f"{path}: {sentences} sentences, mean {mean:.1f} words, {share:.0f} % over {LONG}{mark}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
