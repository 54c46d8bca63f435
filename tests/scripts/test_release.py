"""Tests of scripts/release.py."""

import contextlib
import io
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import release


class Release(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        for file, _ in release.VERSIONS + release.TORCH:
            (self.root / file).parent.mkdir(parents=True, exist_ok=True)
            (self.root / file).write_text((ROOT / file).read_text())
        (self.root / "CHANGELOG.md").write_text("# Changelog\n\n## [0.1.0] - 2026-12-01\n\n- New.\n\n## [0.0.9]\n\n- Old.\n")

    def run_script(self, *arguments):
        """Returns exit code, standard output and standard error."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = release.main([*arguments, "--root", str(self.root)])
        return code, out.getvalue(), err.getvalue()

    def change(self, file, old, new):
        text = (self.root / file).read_text()
        self.assertIn(old, text)
        (self.root / file).write_text(text.replace(old, new))

    def test_files_of_this_tree_agree(self):
        self.assertEqual(release.main(["check"]), 0)

    def test_tag_with_the_version_of_every_file_passes(self):
        self.assertEqual(self.run_script("check", "--tag", "v0.1.0"), (0, "", ""))

    def test_each_file_with_another_version_is_named(self):
        code, _, errors = self.run_script("check", "--tag", "v0.2.0")
        self.assertEqual(code, 1)
        for file, _ in release.VERSIONS:
            self.assertIn(f"{file}: version 0.1.0, expected 0.2.0", errors)
        self.assertIn("CHANGELOG.md: no section [0.2.0]", errors)

    def test_wheel_with_another_torch_is_named(self):
        self.change("packaging/wheel/pyproject.toml", "torch==2.11.0", "torch==2.12.0")
        code, _, errors = self.run_script("check")
        self.assertEqual(code, 1)
        self.assertEqual(errors, "release: packaging/wheel/pyproject.toml: version 2.12.0, expected 2.11.0\n")

    def test_tag_of_another_form_is_an_error(self):
        code, _, errors = self.run_script("check", "--tag", "0.1.0")
        self.assertEqual((code, errors), (1, "release: tag: 0.1.0, expected v and three numbers, for example v0.1.0\n"))

    def test_notes_are_the_section_of_the_version(self):
        self.assertEqual(self.run_script("notes", "--tag", "v0.1.0"), (0, "- New.\n", ""))


if __name__ == "__main__":
    unittest.main()
