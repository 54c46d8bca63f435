"""Tests of scripts/chart_files.py."""

import contextlib
import io
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import chart_files


class ChartFiles(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        (self.root / chart_files.CHART).mkdir(parents=True)
        for name, source in chart_files.SOURCES.items():
            (self.root / source).parent.mkdir(parents=True, exist_ok=True)
            (self.root / source).write_text(name)
            (self.root / chart_files.CHART / name).write_text(name)

    def run_script(self, *arguments):
        """Returns exit code and both outputs."""
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            code = chart_files.main([*arguments, "--root", str(self.root)])
        return code, output.getvalue()

    def test_files_of_this_tree_equal_their_sources(self):
        self.assertEqual(chart_files.main([]), 0)

    def test_equal_files_are_accepted(self):
        self.assertEqual(self.run_script(), (0, ""))

    def test_changed_source_is_reported_with_command(self):
        (self.root / "deploy/prometheus/rules.yaml").write_text("changed")
        code, output = self.run_script()
        self.assertEqual(code, 1)
        self.assertIn("files/rules.yaml differs from deploy/prometheus/rules.yaml", output)
        self.assertIn("run scripts/chart_files.py --update", output)

    def test_missing_file_is_reported(self):
        (self.root / chart_files.CHART / "shapes.png").unlink()
        self.assertIn("shapes.png is missing", self.run_script()[1])

    def test_link_is_reported_although_contents_are_equal(self):
        copy = self.root / chart_files.CHART / "dashboard.json"
        copy.unlink()
        copy.symlink_to(self.root / "deploy/grafana/dashboard.json")
        self.assertIn("dashboard.json is a link", self.run_script()[1])

    def test_update_replaces_link_and_leaves_source(self):
        source = self.root / "deploy/grafana/dashboard.json"
        copy = self.root / chart_files.CHART / "dashboard.json"
        copy.unlink()
        copy.symlink_to(source)
        self.assertEqual(self.run_script("--update")[0], 0)
        self.assertFalse(copy.is_symlink())
        self.assertEqual((copy.read_text(), source.read_text()), ("dashboard.json", "dashboard.json"))
        self.assertEqual(self.run_script(), (0, ""))


if __name__ == "__main__":
    unittest.main()
