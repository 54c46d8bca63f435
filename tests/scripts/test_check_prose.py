"""Tests of scripts/check_prose.py."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import check_prose


class CheckProse(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)

    def check(self, name, text):
        """Returns (kind, line) of every problem of one file."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return [(kind, line) for kind, line, _ in check_prose.check_file(self.root, name)]

    def words(self, name, text):
        return [kind.removeprefix("word ") for kind, _ in self.check(name, text)]

    def test_long_comment_and_markdown_lines_are_reported(self):
        long = "word " * 20 + "x"
        self.assertEqual(self.check("a.md", f"short\n{long}\n"), [("length", 2)])
        for name, mark in (("a.rs", "///"), ("b.rs", "    //"), ("a.py", "#"), ("a.sh", "#"), ("a.toml", "#")):
            self.assertEqual(self.check(name, f"{mark} {long}\n"), [("length", 1)], name)
        self.assertEqual(self.check("c.py", f'"""Short.\n\n{long}\n"""\n'), [("length", 3)])

    def test_only_comments_of_helm_templates_are_measured(self):
        long = "word " * 25
        text = f'{{{{- /* short */ -}}}}\n{{{{- fail "{long}" -}}}}\n{{{{- /* short\n{long} */ -}}}}\n{long}\n'
        self.assertEqual(self.check("a.tpl", text), [("length", 4)])

    def test_line_of_100_characters_is_accepted(self):
        self.assertEqual(self.check("a.md", "ü" * 100 + "\n"), [])

    def test_tables_links_code_and_urls_may_be_long(self):
        long = "word " * 25
        url = "https://example.com/" + "x" * 90
        for text in (f"| {long} |", f"- [{long}](a.md)", f"```\n{long}\n```", f"See <{url}>.", f"[name]: {url}"):
            self.assertEqual(self.check("a.md", f"{text}\n"), [], text)
        self.assertEqual(self.check("a.rs", f"/// ```\n/// {long}\n/// ```\nlet x = \"{long}\";\n"), [])

    def test_prose_after_a_code_block_is_checked(self):
        self.assertEqual(self.check("a.md", "```\nx\n```\n" + "word " * 25 + "\n"), [("length", 4)])

    def test_banned_words_are_found_in_any_case(self):
        self.assertEqual(self.words("a.md", "It is Told so.\nA stranger\n"), ["told", "stranger"])

    def test_parts_of_other_words_are_accepted(self):
        self.assertEqual(self.words("a.md", "untold, folder, alone, planes, outdoor, doorway, keep it, its own"), [])

    def test_parts_of_identifiers_are_found(self):
        self.assertEqual(self.words("a.rs", "fn is_wanted() {}\nstruct FoldGroup;\nMAX_LANES"), ["wanted", "fold", "lane"])

    def test_phrase_is_found_across_comment_lines(self):
        self.assertEqual(self.check("a.rs", "/// A file that is not\n/// there.\n"), [("word is_not_there", 1)])

    def test_keep_and_own_are_banned_in_identifiers_only(self):
        text = "// Keep its own cache: Source::Keep, keep_alive, KeepAlive, own, owned_by, Owner\n"
        self.assertEqual(self.words("a.rs", text), [])
        self.assertEqual(self.words("a.rs", "keep_head, own_norms, OwnNorms, Kernels::Own"), ["keep_", *["own_"] * 3])

    def test_names_that_stay_are_accepted(self):
        text = (
            "blip_canary_total BlipServeCanaryFails a picture of; what is in the picture? .fold(0, f) .tell() lone surrogate\n"
            '#[tokio::test(flavor = "multi_thread")] alias = "flavour"\n'
            "let picture = 1; // check_prose: allow\n"
        )
        self.assertEqual(self.words("a.rs", text), [])
        self.assertEqual(self.words("a.py", 'ask("is there a dog?")'), [])

    def test_only_comments_of_toml_are_checked(self):
        self.assertEqual(self.words("a.toml", 'picture = "told"  # wanted\n'), ["wanted"])

    def test_file_name_is_checked(self):
        self.assertEqual(self.check("src/seen_images.rs", ""), [("word seen_images", 1)])

    def test_data_history_and_generated_files_are_excluded(self):
        self.assertEqual(self.words("CHANGELOG.md", "told"), [])
        self.assertEqual(self.words("crates/x/tests/goldens/a.py", "told"), [])
        self.assertEqual(self.words("docs/errors.md", "# Errors\n\nGenerated from the table.\n\ntold\n"), [])

    def test_vector_lanes_of_kernels_are_accepted(self):
        self.assertEqual(self.words("crates/cpu_kernels/src/linear.rs", "let lanes = 8;"), [])
        self.assertEqual(self.words("crates/blip/src/linear.rs", "let lanes = 8;"), ["lane"])

    def test_long_test_names_are_reported(self):
        name = "a" * 61
        self.assertEqual(self.check("a.rs", f"#[test]\n#[ignore]\nfn {name}() {{}}\nfn {name}b() {{}}\n"), [("test", 3)])
        self.assertEqual(self.check("a.rs", f'#[tokio::test(start = "x")]\nasync fn {name}() {{}}\n'), [("test", 2)])
        self.assertEqual(self.check("a.rs", f"proptest! {{\n fn {name}(x in 0..9) {{}}\n}}\n"), [("test", 2)])
        self.assertEqual(self.check("a.py", f"def test_{name}():\n    pass\n"), [("test", 1)])
        self.assertEqual(self.check("a.rs", f"#[test]\nfn {name[1:]}() {{}}\n"), [])

    def test_commit_subjects_are_checked(self):
        git = ["git", "-C", str(self.root), "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        subprocess.run([*git, "init", "-q"], check=True)
        for subject in ("Begin", "blip: rename a type", "Rename a type", "ignore,globset: " + "x" * 60):
            subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", subject], check=True)
        messages = [message for _, message in check_prose.check_commits(self.root, "HEAD~3")]
        self.assertEqual(len(messages), 2, messages)
        self.assertIn("76 characters, 72 allowed", messages[0])
        self.assertIn("without `scope: `: Rename a type", messages[1])

        # A shallow clone lacks the commit to start from.
        messages = [message for _, message in check_prose.check_commits(self.root, "0" * 40)]
        self.assertEqual(len(messages), 3, messages)


if __name__ == "__main__":
    unittest.main()
