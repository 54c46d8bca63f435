"""Tests of scripts/prose_statistics.py."""

import contextlib
import io
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import prose_statistics


class ProseStatistics(unittest.TestCase):
    def test_sentences_end_at_a_full_stop_before_a_space(self):
        self.assertEqual(prose_statistics.sentence_lengths("One two. Three 4.5 five?\nSix"), [2, 3, 1])

    def test_abbreviation_ends_no_sentence(self):
        self.assertEqual(prose_statistics.sentence_lengths("One, e.g. two, i.e. three."), [5])

    def test_list_items_are_separate_sentences(self):
        self.assertEqual(prose_statistics.sentence_lengths("- one two\n  three\n- four\n1. five six"), [3, 1, 2])

    def test_code_tables_and_headings_are_left_out(self):
        text = "# A heading\n\nOne two.\n\n```\ncode here\n```\n\n| a | b |\n| --- | --- |\n\n<!-- no -->\nThree."
        self.assertEqual(prose_statistics.sentence_lengths(text), [2, 1])

    def test_link_target_is_left_out(self):
        self.assertEqual(prose_statistics.sentence_lengths("See [the guide](docs/a b.md) and [this][x]."), [5])

    def test_long_sentences_are_counted(self):
        text = "word " * 30 + "end. Short one."
        self.assertEqual(prose_statistics.measure(text), (2, 16.5, 50.0))

    def test_empty_document_has_no_sentences(self):
        self.assertEqual(prose_statistics.measure(""), (0, 0.0, 0.0))

    def test_main_fails_above_a_limit(self):
        with tempfile.NamedTemporaryFile("w", suffix=".md") as file:
            file.write("One two three four.\n")
            file.flush()
            with contextlib.redirect_stdout(io.StringIO()) as output:
                self.assertEqual(prose_statistics.main([file.name]), 0)
                self.assertEqual(prose_statistics.main([file.name, "--max-mean", "4", "--max-share", "0"]), 0)
                self.assertEqual(prose_statistics.main([file.name, "--max-mean", "3.9"]), 1)
            self.assertIn(": 1 sentences, mean 4.0 words, 0 % over 30", output.getvalue())


if __name__ == "__main__":
    unittest.main()
